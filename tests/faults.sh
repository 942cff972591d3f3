#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
# The whole table of faults of real processes (tests/e2e/faults.py), crash points included.
#
#     tests/faults.sh [BUILD_FOLDER] [options and row names of faults.py]
#
# BUILD_FOLDER (build) is an ordinary one. Beside it, in BUILD_FOLDER-faults, a worker is built that dies at named
# instants when told to.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
if [ $# -gt 0 ] && [ -d "$1" ]; then
    build=$(cd "$1" && pwd)
    shift
fi
cmake -S "$root" -B "$build-faults" -G Ninja -DFILA_CRASH_POINTS=ON > "$build-faults.log" 2>&1 ||
    { tail -20 "$build-faults.log"; exit 1; }
ninja -C "$build" -j2 > "$build-faults.log" 2>&1 || { tail -20 "$build-faults.log"; exit 1; }
ninja -C "$build-faults" -j2 fila-worker handler_exec handler_log >> "$build-faults.log" 2>&1 ||
    { tail -20 "$build-faults.log"; exit 1; }
exec python3 -B "$root/tests/e2e/faults.py" --worker "$build/fila-worker" --build "$build" \
    --crash "$build-faults/fila-worker" "$@"
