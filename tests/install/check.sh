#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Installs the build into a fresh prefix, moves it, and uses it from there as a stranger would, with
# pkg-config alone: a C and a C++ program, shared and static, and a plugin.
#     check.sh SOURCE-FOLDER BUILD-FOLDER WORK-FOLDER LIBDIR
set -eu -o pipefail
export LC_ALL=C
source=$1 build=$2 work=$3 libdir=$4
here=$source/tests/install
rm -rf "$work"
mkdir -p "$work"
cd "$work"
cmake --install "$build" --prefix "$work/first" >install.log 2>&1 || { cat install.log; exit 1; }
mv first moved
prefix=$work/moved
export PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
lib=$prefix/$libdir/libfila
checks=0

fail() {
    echo "FAIL $*"
    exit 1
}
pass() {
    checks=$((checks + 1))
}

# What is seen from outside: the FILA_EXPORT functions of the two headers, and nothing else.
tr '\n' ' ' <"$prefix/include/fila/client.h" >headers
tr '\n' ' ' <"$prefix/include/fila/broker.h" >>headers
grep -oE 'FILA_EXPORT [^;{}"#]*\(' headers | grep -oE 'fila_[a-z0-9_]+ *\(' | tr -d '( ' | sort -u >declared
nm -D --defined-only "$lib.so" | awk '$2 ~ /[A-Z]/ { print $3 }' | sort -u >shared
nm -g --defined-only "$lib.a" | awk '$2 ~ /[A-Z]/ { print $3 }' | sort -u >static
[ "$(wc -l <declared)" -ge 30 ] || fail "only $(wc -l <declared) declarations found"
diff declared shared || fail "libfila.so shows other symbols (>) than its headers (<)"
pass
diff declared static || fail "libfila.a shows other symbols (>) than its headers (<)"
pass
readelf -d "$lib.so" | grep -q 'SONAME.*\[libfila\.so\.[0-9]*\]' || fail "no SONAME"
pass
[ "$(pkg-config --modversion fila)" = "$(pkg-config --modversion fila-plugin)" ] || fail "versions differ"
pass

strict="-Wall -Wextra -pedantic -Werror"
run() { # NAME COMPILER...: compiles to NAME and runs it
    local name=$1 out
    shift
    "$@" -o "$name" || fail "$name does not compile"
    out=$(LD_LIBRARY_PATH=$prefix/$libdir timeout 60 "./$name") || fail "$name does not run"
    [ "$out" = hello ] || fail "$name printed '$out'"
    pass
}
cp "$here/program.c" program.cc
shared_flags=$(pkg-config --cflags --libs fila)
static_flags="$(pkg-config --cflags fila) $lib.a $(pkg-config --static --libs fila | tr ' ' '\n' | grep -v -- '-lfila' | tr '\n' ' ')"
for cc in gcc clang; do
    command -v $cc >/dev/null || continue
    # shellcheck disable=SC2086
    run shared-$cc $cc -std=c11 $strict "$here/program.c" $shared_flags
    # shellcheck disable=SC2086
    run static-$cc $cc -std=c11 $strict "$here/program.c" $static_flags
    ! ldd static-$cc | grep -q libfila || fail "static-$cc needs libfila.so"
done
for cxx in g++ clang++; do
    command -v $cxx >/dev/null || continue
    # shellcheck disable=SC2086
    run shared-$cxx $cxx -std=c++17 $strict program.cc $shared_flags
done

# A plugin: the header alone, and nothing to link.
[ -z "$(pkg-config --libs fila-plugin | tr -d ' ')" ] || fail "fila-plugin has libraries"
# shellcheck disable=SC2046
gcc -std=c11 $strict -shared -fPIC -Wl,--no-undefined $(pkg-config --cflags fila-plugin) \
    "$here/plugin.c" -o plugin.so || fail "the plugin does not compile"
! readelf -d plugin.so | grep -q 'NEEDED.*fila' || fail "the plugin needs libfila"
pass
echo "$checks checks of the installed tree passed"
