#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Format (clang-format) and lint (clang-tidy) of the project's own C; generated code and templates are left out.
#     tests/lint.sh                 all files
#     tests/lint.sh FILE...         these
#     tests/lint.sh --changed       what differs from the branch main, or is not committed
#     tests/lint.sh --format-only   without clang-tidy
#     tests/lint.sh --fix           rewrites the format instead of complaining
#     tests/lint.sh --tests         clang-tidy on the tests too: a Criterion suite takes half a minute
# clang-tidy reads the compile commands of --build DIR (default build), and remembers clean files by
# a hash of everything that went into them, in $FILA_LINT_CACHE (default ~/.cache/fila-worker).
set -u -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=build jobs=$(nproc) outcomes=/dev/null format_only= fix= changed= tests=
files=()
given=
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --outcomes) outcomes=$2; shift ;;
    --format-only) format_only=1 ;;
    --fix) fix=1 ;;
    --changed) changed=1 ;;
    --tests) tests=1 ;;
    --help | -h) sed -n '4,12s/^# \?//p' "$0"; exit 0 ;;
    -*) echo "lint: unknown option $1" >&2; exit 64 ;;
    *) files+=("$(realpath "$1")"); given=1 ;;
    esac
    shift
done
build=$(realpath "$build")
cd "$root" || exit 70
python=/usr/bin/python3
[ -x $python ] || python=python3

list_files() {
    if [ -n "$changed" ]; then
        { git diff --name-only --diff-filter=d main...; git diff --name-only --diff-filter=d HEAD
          git ls-files --others --exclude-standard; } | sort -u
    elif git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard
    else
        find . -path './build*' -prune -o -type f -print | sed 's|^\./||'
    fi | grep -E '\.[ch]$' | grep -vE '^(gen|plugins/template)/'
}
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(list_files)
if [ ${#files[@]} -eq 0 ]; then
    echo "lint: no files"
    exit 0
fi

outcome() { # KIND COUNT NAME RERUN
    printf '%s\t%s\tlint\t%s\t%s\n' "$@" >>"$outcomes"
}

status=0
if ! command -v clang-format >/dev/null; then
    echo "lint: skipped: clang-format is not installed"
    outcome skip 1 "clang-format is not installed" ""
elif [ -n "$fix" ]; then
    clang-format -i "${files[@]}"
else
    bad=$(printf '%s\n' "${files[@]}" |
        xargs -P "$jobs" -n 16 clang-format --dry-run -Werror --ferror-limit=3 2>&1)
    printf '%s' "$bad" | head -n 60
    names=$(printf '%s\n' "$bad" | sed -n 's/^\([^ :]*\):[0-9]*:[0-9]*: error:.*/\1/p' | sort -u)
    if [ -n "$names" ]; then
        status=1
        for name in $names; do
            outcome fail 1 "format of $name" "tests/lint.sh --fix $name"
        done
    fi
    wrong=$(printf '%s' "$names" | grep -c .)
    echo "lint: format: ${#files[@]} files, $wrong to correct"
    [ "$wrong" = "${#files[@]}" ] || outcome pass $((${#files[@]} - wrong)) "format" ""
fi
[ -z "$format_only$fix" ] || exit $status

if ! command -v clang-tidy >/dev/null; then
    echo "lint: skipped: clang-tidy is not installed"
    outcome skip 1 "clang-tidy is not installed" ""
elif [ ! -s "$build/compile_commands.json" ]; then
    echo "lint: skipped: no compile commands in $build"
    outcome skip 1 "clang-tidy: no compile commands in $build" ""
else
    if [ -z "$tests$given" ]; then
        mapfile -t files < <(printf '%s\n' "${files[@]}" | grep -v '^tests/')
    fi
    $python tests/tools/tidy.py --build "$build" --jobs "$jobs" --outcomes "$outcomes" "${files[@]}" || status=1
fi
exit $status
