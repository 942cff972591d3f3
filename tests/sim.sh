#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# The simulator: delivery engines against the broker's engine on a virtual clock, with random faults.
# tests/sim.sh --help says what can be asked of it.
set -eu
export LC_ALL=C.UTF-8
root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<'U'
usage: tests/sim.sh [--seeds N [--from S] [--jobs J]]   N random worlds (10000), from seed S (1) on
       tests/sim.sh --seed S [--trace] [--until T]      one of them again, with all that happens in it
       tests/sim.sh --scenarios                         the specification's table, with its figures
       tests/sim.sh --scenario NAME [--trace]
       --build DIR   where it is built (build-sim)
A failure prints its seed, what is wrong, and the last events; a million seeds take some hours.
U
}

build=$root/build-sim
seeds= from=1 jobs=1
args=()
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) usage; exit 0 ;;
    --seeds | --from | --jobs | --build | --seed | --until | --scenario)
        [ $# -gt 1 ] || { echo "tests/sim.sh: $1 takes a value" >&2; exit 64; } ;;
    esac
    case $1 in
    --seeds) seeds=$2; shift ;;
    --from) from=$2; shift ;;
    --jobs) jobs=$2; shift ;;
    --build) build=$2; shift ;;
    --seed | --until | --scenario) args+=("$1" "$2"); shift ;;
    --trace | --scenarios) args+=("$1") ;;
    *) echo "tests/sim.sh: unknown option $1" >&2; usage >&2; exit 64 ;;
    esac
    shift
done

[ -f "$build/build.ninja" ] || cmake -S "$root" -B "$build" -G Ninja > /dev/null
ninja -C "$build" sim > "$build/sim.log" 2>&1 || { cat "$build/sim.log" >&2; exit 70; }
sim=$build/tests/sim/sim

if [ ${#args[@]} -gt 0 ]; then
    exec "$sim" "${args[@]}"
fi
seeds=${seeds:-10000}
[ "$jobs" -gt 1 ] || exec "$sim" --seeds "$seeds" --from "$from"

share=$(((seeds + jobs - 1) / jobs))
pids=()
for ((j = 0; j < jobs; j++)); do
    "$sim" --seeds "$share" --from $((from + j * share)) &
    pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
    wait "$pid" || status=1
done
exit $status
