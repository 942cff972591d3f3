#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Every test of the project. clang-tidy is a step of its own, beside this one: tests/lint.sh. `--help` says
# what can be chosen. What counts is the last line, "N passed, N failed", and the exit status.
#
# A test that fails is run once more, alone, after its stage. If it then passes it is unstable: it is
# shown with what it said, and counted in the last line, but fails nothing. What a sanitizer or
# valgrind finds is never forgiven so.
set -u -o pipefail
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 70
. tests/tools/stages.sh

usage() {
    cat <<'U'
usage: tests/run.sh [OPTION...]
  --quick            the plain build and its tests alone
  --no-sanitizers    without ASan+UBSan, TSan, fuzzing and valgrind
  --no-lint          without clang-format
  --only REGEX       only tests whose name matches (in each build); no lint, fuzzing or valgrind
  --jobs N           programs at once (default: the processors)
  --fuzz-seconds N   for each fuzzer (default 2)
  --out DIR          where it builds (default build-tests); results and reports are kept there
  --no-install       do not install missing Debian packages (as root, or with sudo)
  --help
A test that fails is run once more, alone; if it then passes, the last line counts it as unstable, and
it fails nothing. Reports of sanitizers and valgrind always fail. The exit status is 0 if nothing failed.
Environment: CC (gcc) compiles the plain build; FILA_SERVER_BIN names a real Fila server, for the
tests that need one.
U
}

jobs=$(nproc)
out=build-tests
quick= only= install=1 sanitizers=1 lint=1 fuzz_seconds=2
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --no-sanitizers) sanitizers= ;;
    --no-lint) lint= ;;
    --no-install) install= ;;
    --only | --jobs | --fuzz-seconds | --out)
        [ $# -gt 1 ] || { echo "tests/run.sh: $1 takes a value" >&2; exit 64; }
        case $1 in
        --only) only=$2 ;;
        --jobs) jobs=$2 ;;
        --fuzz-seconds) fuzz_seconds=$2 ;;
        --out) out=$2 ;;
        esac
        shift
        ;;
    --help | -h) usage; exit 0 ;;
    *) echo "tests/run.sh: unknown option $1" >&2; usage >&2; exit 64 ;;
    esac
    shift
done
[ -z "$quick" ] || { sanitizers=; lint=; }

if [ -n "$install" ]; then
    config/install-packages.sh build run test lint || exit 69
fi

# A sanitizer has nothing to say of figures: server_fair measures shares; nor more of the same rows by way of
# a process in between (stand_in, server). ThreadSanitizer has none of the command line, which has one thread,
# nor of the tables of bad input and of kills and of the guides' drills, whose threads other tests have.
not_asan='^(server_fair|client_stand_in|conformance_stand_in|faults\.server)$'
not_tsan='^(server_fair|bad_plugins|store_crash|client_stand_in|conformance_(embedded|stand_in)|faults\..*|e2e\.(bad_.*|check_.*|drill_.*|guide_.*|dlq_.*|.*_are_used))$'

stages_begin "$out" "$jobs"
plain_cc=${CC:-gcc}

lines_only=(-DCMAKE_BUILD_TYPE=Debug "-DCMAKE_C_FLAGS_DEBUG=-O1 -g1") # what reports show, for less time to compile

# What is done while tests wait.
behind() { # NAME
    case $1 in
    asan)
        stage_name=asan
        build_tree asan clang "${lines_only[@]}" -DFILA_SANITIZE=address -DFILA_FUZZ=ON
        ;;
    tsan)
        stage_name=tsan
        build_tree tsan clang "${lines_only[@]}" -DFILA_SANITIZE=thread
        ;;
    valgrind)
        stage valgrind "memcheck over tests/valgrind.txt"
        built plain && valgrind_tree plain
        stage_close
        ;;
    fuzz)
        stage fuzz "each fuzzer for $fuzz_seconds s"
        built asan && fuzz_tree asan "$fuzz_seconds"
        stage_close
        ;;
    esac
}

stage plain "the plain build, $plain_cc, warnings are errors"
build_tree plain "$plain_cc" -DCMAKE_BUILD_TYPE=RelWithDebInfo
if [ -n "$sanitizers" ]; then
    pieces="asan tsan"
    [ -n "$only" ] || pieces+=" valgrind fuzz"
    # shellcheck disable=SC2086
    behind_begin behind $pieces
fi
if built plain; then
    ctest_tree plain --label-exclude bench
fi
if [ -n "$lint" ] && [ -z "$only" ]; then
    stage lint "clang-format"
    lint_format
fi
if [ -n "$sanitizers" ]; then
    stage asan "AddressSanitizer and UndefinedBehaviorSanitizer, clang"
    behind_await asan
    if built asan; then
        ctest_tree asan --label-exclude bench --exclude-regex "$not_asan"
    fi
    stage tsan "ThreadSanitizer, clang: stress programs and the real binary"
    behind_await tsan
    if built tsan; then
        ctest_tree tsan --label-regex 'stress|e2e|integration' --exclude-regex "$not_tsan"
    fi
    stage_close
    if [ -z "$only" ]; then
        behind_await valgrind
        behind_await fuzz
    fi
fi
stages_end
