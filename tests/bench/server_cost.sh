#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
# What an enqueue, a delivery and an ack cost the broker's gRPC server beside the bare stub_server: user-space
# instructions of the server process under callgrind, as the difference of a long and a short run of the same load, so
# that start, end and what the load needs before it drop out. One thread runs at a time under callgrind.
#   server_cost.sh BUILD_FOLDER [payload=1024] [in_flight=64]
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
for part in enqueue delivery ack; do
    bare=$(each stub_server 0 $part)
    ours=$(each serve_broker 1 $part)
    printf '%-9s %9d %9d  %s\n' $part "$bare" "$ours" "$(awk "BEGIN { printf \"%.3f\", $ours / $bare }")"
done
