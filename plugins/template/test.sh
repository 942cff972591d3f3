#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later WITH fila-plugin-exception
# Messages through the handler, without a broker. A line each: status that `fila-worker try` must end
# with (0 ack, 75 retry, 65 reject, 69 unavailable), what it must say, what is sent, and its options.
set -eu
cd "$(dirname "$0")"
worker=${FILA_WORKER:-fila-worker}
failed=0

try() {
    status=$1 says=$2 payload=$3
    shift 3
    got=0
    output=$(printf '%s' "$payload" | "$worker" try --handler ./@NAME@.so "$@" 2>&1) || got=$?
    case $output in
    *"$says"*) ;;
    *) got="$got, without \"$says\"" ;;
    esac
    if [ "$got" != "$status" ]; then
        printf 'FAILED: "%s" %s: status %s, wanted %s\n%s\n' "$payload" "$*" "$got" "$status" "$output"
        failed=1
    fi
}

try 0 "Hello, 5 bytes" "world"
try 0 "Ahoy, 5 bytes" "world" --option greeting=Ahoy
try 65 "the message is empty" ""
try 65 "over \`most\`" "0123456789" --option most=9B
try 64 "it takes 1B to 16MiB" "" --option most=17MiB

"$worker" plugin verify ./@NAME@.so || failed=1
[ "$failed" = 0 ] && echo "@NAME@: all tests passed"
exit "$failed"
