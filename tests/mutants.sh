#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Mutation check of the delivery engine: switches off each of its guards, one at a time, and shows
# which check catches it. None may survive. The guards are listed in tests/mutants/delivery.txt, as
# edits of lines of code: one that no longer matches is an error, so the list cannot rot.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'U'
usage: tests/mutants.sh [--jobs N] [--seeds N] [--build DIR] [WORD...]
  --jobs N     mutants at a time (2)
  --seeds N    of the simulator, for those that the delivery tests let through (2000)
  --build DIR  where the tests are built (build-sim)
  WORD...      only the guards whose line has one of these words
Exit status: 0 all are caught; 1 some survive; 2 an edit does not match or does not compile.
U
}

build=$root/build-sim jobs=2 seeds=2000
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --jobs) jobs=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --build) build=$2; shift 2 ;;
    -*) echo "tests/mutants.sh: unknown option $1" >&2; usage >&2; exit 64 ;;
    *) break ;;
    esac
done

[ -f "$build/build.ninja" ] || cmake -S "$root" -B "$build" -G Ninja > /dev/null
suites=$(sed -n 's/^foreach(suite \(.*\))$/\1/p' "$root/tests/delivery/CMakeLists.txt")
targets=sim
for suite in $suites; do
    targets="$targets delivery_${suite}_test"
done
# shellcheck disable=SC2086
ninja -C "$build" $targets > "$build/mutants.log" 2>&1 || { cat "$build/mutants.log" >&2; exit 70; }
# shellcheck disable=SC2086
exec python3 -B "$root/tests/mutants/mutants.py" --root "$root" --build "$build" --jobs "$jobs" --seeds "$seeds" \
    --list "$root/tests/mutants/delivery.txt" --targets "$targets" -- "$@"
