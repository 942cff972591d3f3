#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Every public header compiles alone, in C and in C++, under every compiler that is there, and twice
# in one file; and fila/plugin.h needs nothing but libc's own headers.
#     check.sh SOURCE-FOLDER WORK-FOLDER
set -u -o pipefail
export LC_ALL=C
root=$1
work=$2
mkdir -p "$work"
failed=0 done=0

check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        done=$((done + 1))
    else
        echo "FAIL $what"
        head -n 5 "$work/out"
        failed=$((failed + 1))
    fi
}

strict="-Wall -Wextra -Wpedantic -Werror -fsyntax-only"
for path in "$root"/core/include/fila/*.h "$root"/plugins/include/fila/*.h; do
    name=fila/$(basename "$path")
    include=$(dirname "$(dirname "$path")")
    printf '#include <%s>\n#include <%s>\ntypedef int not_empty;\n' "$name" "$name" >"$work/alone.c"
    cp "$work/alone.c" "$work/alone.cc"
    for cc in gcc clang; do
        command -v $cc >/dev/null || continue
        for std in c11 c17 gnu17; do
            # shellcheck disable=SC2086
            check "$name: $cc -std=$std" $cc -std=$std $strict -Wstrict-prototypes -I"$include" "$work/alone.c"
        done
    done
    for cxx in g++ clang++; do
        command -v $cxx >/dev/null || continue
        for std in c++11 c++20; do
            # shellcheck disable=SC2086
            check "$name: $cxx -std=$std" $cxx -std=$std $strict -I"$include" "$work/alone.cc"
        done
    done
done

others=$(gcc -M -I"$root/plugins/include" -include fila/plugin.h -x c /dev/null | tr ' \\' '\n\n' |
    grep -E '\.h$' | grep -vE 'fila/plugin\.h$|/(bits|sys|gnu|asm|asm-generic|linux)/|/(stddef|stdint|stdc-predef|features|features-time64)\.h$')
if [ -n "$others" ]; then
    echo "FAIL fila/plugin.h includes more than libc's stddef.h and stdint.h:" $others
    failed=$((failed + 1))
fi
echo "$done compilations passed, $failed failed"
[ "$failed" = 0 ] && [ "$done" != 0 ]
