#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Mutation check of the delivery engine and of what outlives the process (journal, crash record,
# lock): switches off each of their guards, one at a time, and shows which check catches it. None may
# survive. The guards are listed in tests/mutants/*.txt, as edits of lines of code: one that no longer
# matches is an error, so the lists cannot rot.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'U'
usage: tests/mutants.sh [--jobs N] [--seeds N] [--resume] [--quick] [--build DIR] [WORD...]
  --jobs N     mutants at a time (2)
  --seeds N    of the simulator, for those that the delivery tests let through (2000)
  --resume     do not try again what was found for the same code and the same tests
  --quick      without the simulator: some survive that it would catch
  --build DIR  where the tests are built (build-sim)
  WORD...      only the guards whose line has one of these words
The last line says "... 0 survived". Exit status: 0 all are caught; 1 some survived; 2 an edit does
not match or does not compile.
U
}

build=$root/build-sim jobs=2 seeds=2000 resume= quick=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --jobs) jobs=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --resume) resume=--resume; shift ;;
    --quick) quick=--quick; shift ;;
    --build) build=$2; shift 2 ;;
    -*) echo "tests/mutants.sh: unknown option $1" >&2; usage >&2; exit 64 ;;
    *) break ;;
    esac
done

[ -f "$build/build.ninja" ] || cmake -S "$root" -B "$build" -G Ninja > /dev/null
ninja -C "$build" sim delivery_all_tests journal_all_tests > "$build/mutants.log" 2>&1 ||
    { cat "$build/mutants.log" >&2; exit 70; }
# shellcheck disable=SC2086
exec python3 -B "$root/tests/mutants/mutants.py" --root "$root" --build "$build" --jobs "$jobs" --seeds "$seeds" $resume $quick -- "$@"
