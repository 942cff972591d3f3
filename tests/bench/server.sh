#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
# What an enqueue, a delivery and an ack cost the broker's gRPC server beside the bare stub_server: user-space
# instructions of the server process under callgrind, as the difference of a long and a short run of the same load, so
# that start, end and what the load needs before it drop out. One thread runs at a time under callgrind. Then the memory
# of `fila-worker broker` with 1,000 streams on 1,000 queues. The last line has the ratios; exit status 1 where one is
# over 1.4, or the memory over 300 MiB.
#   server.sh BUILD_FOLDER [payload=1024] [in_flight=64]
set -eu -o pipefail
build=$1
payload=1024
in_flight=64
shift
for word in "$@"; do
    case $word in
    payload=*) payload=${word#*=} ;;
    in_flight=*) in_flight=${word#*=} ;;
    *) echo "unknown option: $word" >&2; exit 64 ;;
    esac
done
bench=$build/tests/bench
work=$(mktemp -d)
trap 'exec 3>&- || true; rm -rf "$work"' EXIT

# serve SERVER CREATE LOAD...: the instructions of SERVER under that load.
serve() {
    local server=$1 create=$2 options=()
    shift 2
    [ "$server" = stub_server ] && options=("payload=$payload")
    rm -f "$work/in" && mkfifo "$work/in" && : >"$work/port"
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench/$server" 127.0.0.1:0 ${options[@]+"${options[@]}"} \
        <"$work/in" >"$work/port" 2>"$work/report" &
    local pid=$!
    exec 3>"$work/in"
    until [ -s "$work/port" ]; do
        kill -0 $pid || { cat "$work/report" >&2; exit 1; }
        sleep 0.1
    done
    timeout 300 "$bench/server_load" "$(cat "$work/port")" create="$create" payload="$payload" in_flight="$in_flight" "$@" \
        >"$work/times"
    exec 3>&-
    wait $pid
    sed -n 's/.*Collected : *\([0-9]*\).*/\1/p' "$work/report"
}

short=500
long=2500
# each SERVER CREATE PART: instructions of one enqueue, delivery or ack.
each() {
    local server=$1 create=$2 a b
    case $3 in
    enqueue) a=$(serve "$server" "$create" enqueue=$short) b=$(serve "$server" "$create" enqueue=$long) ;;
    delivery) a=$(serve "$server" "$create" enqueue=4000 consume=$short) b=$(serve "$server" "$create" enqueue=4000 consume=$long) ;;
    ack) a=$(serve "$server" "$create" enqueue=3000 consume=3000 ack=$short) b=$(serve "$server" "$create" enqueue=3000 consume=3000 ack=$long) ;;
    esac
    echo $(((b - a) / (long - short)))
}

echo "user instructions in the server, payload $payload, $in_flight calls in flight"
printf '%-9s %9s %9s  %s\n' "" stub broker ratio
line="" over=0
for part in enqueue delivery ack; do
    bare=$(each stub_server 0 $part)
    ours=$(each serve_broker 1 $part)
    ratio=$(awk "BEGIN { printf \"%.3f\", $ours / $bare }")
    printf '%-9s %9d %9d  %s\n' $part "$bare" "$ours" "$ratio"
    line="$line $part $ratio"
    awk "BEGIN { exit !($ratio > 1.4) }" && over=1
done

# memory DATA_OPTIONS...: KiB of the broker with 1,000 streams.
memory() {
    : >"$work/broker"
    "$build/fila-worker" broker --listen 127.0.0.1:0 "$@" >"$work/broker" &
    local broker=$! port kib
    until [ -s "$work/broker" ]; do kill -0 $broker || exit 1; sleep 0.1; done
    port=$(sed 's/.*://' "$work/broker")
    rm -f "$work/in" && mkfifo "$work/in" && : >"$work/said"
    timeout 300 "$bench/server_load" "$port" streams=1000 <"$work/in" >"$work/said" &
    local load=$!
    exec 3>"$work/in"
    until grep -q ready "$work/said"; do kill -0 $load || exit 1; sleep 0.1; done
    kib=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$broker/status)
    exec 3>&-
    wait $load
    kill -TERM $broker
    wait $broker
    echo "$kib"
}

for kind in memory file; do
    options=()
    [ $kind = memory ] || options=(--data "$work/data.db")
    kib=$(memory ${options[@]+"${options[@]}"})
    echo "1,000 streams on 1,000 queues, broker in $kind: $((kib / 1024)) MiB resident"
    line="$line streams-$kind $((kib / 1024))MiB"
    [ "$kib" -lt 307200 ] || over=1
done
echo "ratios:$line"
exit $over
