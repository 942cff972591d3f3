#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
# All faults at random for N minutes (tests/e2e/soak.py): nothing lost, nothing grows. Not part of the test suite.
#
#     tests/soak.sh [BUILD_FOLDER] --minutes N [--seed S] [--keep]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
if [ $# -gt 0 ] && [ -d "$1" ]; then
    build=$(cd "$1" && pwd)
    shift
fi
exec python3 -B "$root/tests/e2e/soak.py" --worker "$build/fila-worker" --build "$build" "$@"
