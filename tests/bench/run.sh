#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# What the host costs beside a bare gRPC C core loop: builds (RelWithDebInfo, in build-bench) and
# measures. Options go to bench.py: see `tests/bench/run.sh --help`.
set -eu
cd "$(dirname "$0")/../.."
python=/usr/bin/python3
[ -x $python ] || python=python3
case " $* " in
*" --help "* | *" -h "* | *" --build "*) exec $python tests/bench/bench.py "$@" ;;
esac
CC=${CC:-gcc} cmake -S . -B build-bench -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
ninja -C build-bench >build-bench/build.log || { tail -n 20 build-bench/build.log; exit 1; }
exec $python tests/bench/bench.py --build build-bench "$@"
