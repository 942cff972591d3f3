#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
# What a message (read and ack) costs over core/src/grpc_* beside the bare loop: user-space instructions under
# callgrind, as the difference of a long and a short run, so that start and end drop out.
#   transport_cost.sh BUILD_FOLDER [payload=1024] [in_flight=64]
set -eu
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
mkfifo "$work/in"
"$bench/stub_server" 127.0.0.1:0 "payload=$payload" < "$work/in" > "$work/port" &
server=$!
exec 3> "$work/in"
trap 'exec 3>&-; wait "$server"; rm -rf "$work"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -s "$work/port" ] && break
    sleep 0.2
done
address=127.0.0.1:$(cat "$work/port")

instructions() { # program, messages
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench/$1" "address=$address" "messages=$2" warm=500 \
        "in_flight=$in_flight" 2>&1 >/dev/null | sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}
short=1000
long=5000
each() { # program
    a=$(instructions "$1" $short)
    b=$(instructions "$1" $long)
    echo $(((b - a) / (long - short)))
}
bare=$(each bare_loop)
ours=$(each transport_cost)
"$bench/bare_loop" "address=$address" "in_flight=$in_flight" | sed 's/^/bare_loop      /'
"$bench/transport_cost" "address=$address" "in_flight=$in_flight" | sed 's/^/transport_cost /'
echo "user instructions a message: bare_loop $bare, transport_cost $ours"
echo "transport/bare instruction ratio: $(awk "BEGIN { printf \"%.4f\", $ours / $bare }")"
