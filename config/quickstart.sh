#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# From a clone to a worker at work: installs the packages, builds, starts a worker with a broker
# inside it, gives it every file of this source tree as a message, and accounts for each of them.
#     config/quickstart.sh
#     config/quickstart.sh --program build/fila-worker    # use that one: nothing installed or built
# Everything it makes is in build/quickstart. Exit status 0 only if the account is exact.
set -u -o pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 70
program= work=$root/build/quickstart
while [ $# -gt 0 ]; do
    case $1 in
    --program) program=$(realpath "${2:?--program takes a path}"); shift ;;
    --work) work=$(realpath -m "${2:?--work takes a folder}"); shift ;;
    --help | -h) sed -n '4,8s/^# \?//p' "$0"; exit 0 ;;
    *) echo "quickstart: unknown option $1" >&2; exit 64 ;;
    esac
    shift
done

say() { printf '\n== %s\n' "$*"; }
die() { echo "quickstart: $*" >&2; exit 1; }

# ---- 1. Packages and build ----

if [ -z "$program" ]; then
    say "packages"
    config/install-packages.sh build run || exit $?
    say "build (in build/)"
    mkdir -p build
    cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFILA_TESTS=OFF >build/quickstart.log 2>&1 &&
        ninja -C build 2>&1 | tee -a build/quickstart.log | if [ -t 1 ]; then
            while IFS= read -r line; do printf '\r\033[K%.76s' "$line"; done
            echo
        else
            tail -n 1
        fi || { tail -n 20 build/quickstart.log; die "the build failed: build/quickstart.log"; }
    program=$root/build/fila-worker
fi
"$program" version || die "$program does not run"

# ---- 2. The worker ----

rm -rf "$work"
mkdir -p "$work"
cp config/quickstart/fila-worker.cfg config/quickstart/digest.sh "$work"/
"${CC:-cc}" -O2 -shared -fPIC -Wl,--no-undefined -Iplugins/include -o "$work/count.so" config/quickstart/count.c ||
    die "the plugin does not compile"
say "the config"
cat "$work/fila-worker.cfg"

cd "$work" || exit 70
worker=
finish() {
    if [ -n "$worker" ]; then
        kill -KILL "$worker" 2>/dev/null
        wait "$worker" 2>/dev/null
    fi
}
trap finish EXIT
trap 'exit 130' INT TERM

say "the worker starts; its log is $work/worker.log"
env -u FILA_WORKER_CONFIG -u FILA_WORKER_BROKER -u FILA_WORKER_LOG_LEVEL "$program" run --config fila-worker.cfg \
    --log-format text 2>worker.log </dev/null &
worker=$!
port=
for _ in $(seq 200); do
    port=$(sed -n 's/.* BROKER-READY .*port=\([0-9]*\).*/\1/p' worker.log)
    [ -n "$port" ] && [ "$(grep -c ' STREAM-OPEN ' worker.log)" -ge 2 ] && break
    kill -0 "$worker" 2>/dev/null || { cat worker.log; die "the worker ended"; }
    sleep 0.05
done
[ -n "$port" ] || { cat worker.log; die "the worker does not serve"; }
export FILA_WORKER_BROKER=grpc://127.0.0.1:$port
echo "ready; its broker listens at $FILA_WORKER_BROKER"

# ---- 3. The messages ----

files=$work/files.txt
(cd "$root" && find . -name .git -prune -o -name 'build*' -prune -o -name '.ccache' -prune -o -type f -size -4000k \
    -print | sed 's|^\./||' | sort) >"$files"
count=$(wc -l <"$files")
total=$((2 * count + 1))
say "$total messages: each of the $count files of the source tree into both queues, and one that never works"
enqueued=0
put() { # QUEUE ENQUEUE-OPTION... < NUL-terminated file names
    local queue=$1
    shift
    for n in $(cd "$root" && xargs -0 "$program" enqueue "$queue" "$@" --quiet); do
        enqueued=$((enqueued + n))
        echo "$n into $queue"
    done
}
for queue in digest count; do
    put "$queue" --file-header path < <(tr '\n' '\0' <"$files")
done
echo "This one has no checksum." >never-works.txt
put digest --header path=never-works < <(printf '%s\0' "$work/never-works.txt")

# ---- 4. Progress ----

left_of() { # of both queues together; nothing when the broker does not answer
    "$program" queue ls | awk '$1 == "digest" || $1 == "count" { left += $2; seen++ } END { if (seen == 2) print left }'
}

bar() { # DONE TOTAL
    local width=30 full
    full=$(($1 * width / $2))
    printf '%*s' "$full" '' | tr ' ' '#'
    printf '%*s' $((width - full)) '' | tr ' ' '.'
}

say "at work"
began=$SECONDS said=
while :; do
    left=$(left_of)
    kill -0 "$worker" 2>/dev/null || { tail -n 5 worker.log; die "the worker ended"; }
    [ -n "$left" ] || die "the broker does not answer"
    failures=$(grep -c ' MESSAGE-FAILED ' worker.log)
    line="[$(bar $((total - left)) "$total")] $((total - left)) of $total settled, $failures tries failed"
    if [ -t 1 ]; then
        printf '\r%s ' "$line"
    elif [ "$line" != "$said" ]; then
        echo "$line"
    fi
    said=$line
    [ "$left" -gt 0 ] || break
    [ $((SECONDS - began)) -lt 120 ] || die "not done after two minutes: see worker.log"
    sleep 0.2
done
[ ! -t 1 ] || echo

say "the dead letter, with its reason (fila-worker dlq show digest)"
"$program" dlq show digest || die "no dead letter to show"
dead_waiting=$("$program" queue ls | awk '$1 == "digest.dlq" { print $2 }')

# ---- 5. The account ----

kill -TERM "$worker"
wait "$worker"
status=$?
worker=
last=$(grep ' WORKER-STOP ' worker.log | tail -n 1)
figure() { printf '%s\n' "$last" | grep -o "\b$1=[0-9]*" | head -n 1 | cut -d= -f2; }
received=$(figure received) acked=$(figure acked) dead=$(figure dead_lettered)
finished=0
for outcome in acked retried dead_lettered dropped returned left lease_lost duplicate; do
    n=$(figure $outcome)
    finished=$((finished + ${n:-0}))
done
counted=$(sed -n 's/.*counted [0-9]* lines in \([0-9]*\) files.*/\1/p' worker.log | awk '{ n += $1 } END { print n + 0 }')
wrong=0
check() { # WHAT GOT WANTED
    printf '   %-52s %6s' "$1" "${2:-?}"
    if [ "${2:-}" = "$3" ]; then
        echo
    else
        echo "   EXPECTED $3"
        wrong=1
    fi
}
say "the account"
check "messages enqueued" "$enqueued" "$total"
check "deliveries read = deliveries finished" "$received" "$finished"
check "acked" "$acked" $((2 * count))
check "dead-lettered" "$dead" 1
check "waiting in digest.dlq" "$dead_waiting" 1
check "checksums written by the command (digests.txt)" "$(sort -u digests.txt | wc -l)" "$count"
check "files counted by the plugin" "$counted" "$count"
check "exit status of the worker after SIGTERM" "$status" 0
sed -n 's/.*\(fila-worker ended with.*\) exit_status=.*/\1/p' worker.log
if [ $wrong != 0 ]; then
    die "the account is not exact: see $work"
fi
echo "Every message is accounted for. Next: the README."
