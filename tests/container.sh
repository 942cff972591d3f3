#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Builds the container image with Debian's own tools (debootstrap for the base, buildah for the
# Containerfile: no image registry is asked) and runs it as a container's entrypoint: process 1 of its
# namespace, not root, on a read-only root, with a mounted config and plugin.
#     tests/container.sh [--keep] [--base DIR]     # DIR: an unpacked Debian 12 to start from
# As root, with buildah and debootstrap; exit status 77 without them.
set -eu -o pipefail
export LC_ALL=C.UTF-8 BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
root=$(cd "$(dirname "$0")/.." && pwd)
keep= base=
while [ $# -gt 0 ]; do
    case $1 in
    --keep) keep=1 ;;
    --base) base=$2 && shift ;;
    *) echo "usage: tests/container.sh [--keep] [--base DIR]" >&2; exit 64 ;;
    esac
    shift
done
skip() { echo "SKIPPED: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "not root"
for tool in buildah debootstrap unshare; do
    command -v $tool >/dev/null || skip "no $tool (apt-get install buildah debootstrap)"
done

work=$(mktemp -d)
passed=0 worker=
clean() {
    [ -z "$worker" ] || kill -KILL $(cat "/proc/$worker/task/$worker/children") "$worker" 2>/dev/null || true
    if [ -z "$keep" ]; then
        buildah rm --all >/dev/null 2>&1 || true
        buildah rmi fila-worker-test fila-worker-base >/dev/null 2>&1 || true
        rm -rf "$work"
    fi
}
trap clean EXIT
pass() { passed=$((passed + 1)); echo "PASS $1"; }
fail() {
    echo "FAIL $1" >&2
    [ ! -s "$work/worker.log" ] || tail -n 20 "$work/worker.log" >&2
    exit 1
}
wait_for() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "waited a minute for $what"
}

if [ -z "$base" ]; then
    base=$work/base
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -n 's/^deb [^h]*\(http[^ ]*\) bookworm .*/\1/p; s/^URIs: *\(http[^ ]*\) *$/\1/p' |
        grep -v security | head -n 1 || true)
    debootstrap --variant=minbase bookworm "$base" ${mirror:+"$mirror"} >"$work/debootstrap.log" ||
        { tail -n 5 "$work/debootstrap.log" >&2; fail "debootstrap"; }
    # As the slim images: no documentation, no package lists; and packages from where this machine has them.
    rm -rf "$base"/usr/share/{doc,man,info,locale} "$base"/var/cache/apt/* "$base"/var/lib/apt/lists/*
    cp -a /etc/apt/. "$base/etc/apt/"
fi
container=$(buildah from scratch)
buildah add --quiet "$container" "$base" / >/dev/null
buildah commit --quiet --rm "$container" fila-worker-base >/dev/null
pass "a base image of Debian 12"

buildah build --quiet --build-arg BASE=localhost/fila-worker-base -t fila-worker-test \
    -f "$root/config/container/Containerfile" "$root" >"$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log" >&2; fail "the image's build"; }
pass "the image is built"

buildah push --quiet fila-worker-test "oci-archive:$work/image.tar" >/dev/null 2>&1
megabytes=$(($(stat -c %s "$work/image.tar") / 1000000))
[ "$megabytes" -lt 60 ] || fail "the image has $megabytes MB compressed: at most 60"
pass "the image has $megabytes MB compressed"
buildah inspect --type image --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}}' \
    fila-worker-test | grep -qx '65532:65532 \[/usr/bin/fila-worker\]' || fail "user and entrypoint"
pass "not root, entrypoint in exec form"

# ---- Run it ----

container=$(buildah from fila-worker-test)
image=$(buildah mount "$container")
mkdir -p "$work/config" "$work/plugins"
gcc -shared -fPIC -O2 -I "$root/plugins/include" -o "$work/plugins/count.so" "$root/config/quickstart/count.c"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/config/fila-worker.cfg" <<C
broker = "embedded:?listen=127.0.0.1:0";
http = { listen = "127.0.0.1:$port"; };
queues = ( { queue = "files"; handler = { plugin = "/plugins/count.so"; }; },
           { queue = "orphans"; handler = { plugin = "exec"; command = [ "setsid", "--fork", "true" ]; }; } );
C
chmod -R go-w,a+rX "$work/config" "$work/plugins"
chmod 711 "$work"
touch "$work/termination-log"
chmod 666 "$work/termination-log"
mkdir -p "$image/plugins" "$image/etc/fila-worker"
touch "$image/dev/termination-log"

# Process 1 of new namespaces: root file system read-only, config and plugins mounted, then the user.
cat >"$work/enter" <<'C'
set -eu
mount --bind "$1" "$1"
mount --rbind "$2/config" "$1/etc/fila-worker"
mount --rbind "$2/plugins" "$1/plugins"
mount --bind "$2/termination-log" "$1/dev/termination-log"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
exec chroot --userspec=65532:65532 "$1" /usr/bin/fila-worker run
C
in_image() { chroot --userspec=65532:65532 "$image" /usr/bin/fila-worker "$@"; }
unshare --mount --pid --fork sh "$work/enter" "$image" "$work" 2>"$work/worker.log" &
worker=$!
wait_for "the worker to be ready" grep -q '"event":"WORKER-READY"' "$work/worker.log"
started=$(sed -n 's/.*"event":"WORKER-READY".*"start_ms":\([0-9]*\).*/\1/p' "$work/worker.log")
[ "$started" -lt 500 ] || fail "start to ready took $started ms: at most 500"
pass "ready in $started ms"

broker=grpc://127.0.0.1:$(sed -n 's/.*"event":"BROKER-READY".*"port":\([0-9]*\).*/\1/p' "$work/worker.log")
seq 100 | in_image enqueue --broker "$broker" --lines files >/dev/null
seq 20 | in_image enqueue --broker "$broker" --lines orphans >/dev/null
empty() { in_image queue stats "$1" --broker "$broker" --json | grep -Eq '"depth": ?0'; }
wait_for "the messages to be handled" empty files
wait_for "the orphans' messages to be handled" empty orphans
pass "messages are handled, by a mounted plugin and by a command"

mkdir -p "$image/tmp/outside" && cp "$work/config/fila-worker.cfg" "$image/tmp/outside/" # no mounts out here
chmod -R a+rX "$image/tmp/outside"
healthy() { in_image healthcheck --config /tmp/outside/fila-worker.cfg "$@"; }
wait_for "the worker to say that it is ready" healthy
wait_for "the worker to say that it is alive" healthy --live
pass "healthcheck"

first=$(cat "/proc/$worker/task/$worker/children")
first=${first%% *}
zombies() { grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | xargs -r grep -l "^PPid:.$first\$" | wc -l; }
none_left() { [ "$(zombies)" = 0 ]; }
wait_for "the orphans to be reaped" none_left
pass "no orphan is left a zombie"
[ "$(awk '/^Uid:/ { print $2 }' "/proc/$first/status")" = 65532 ] || fail "the worker runs as another user"
pass "it runs as 65532"

kill -TERM "$first"
status=0
wait "$worker" || status=$?
worker=
[ "$status" = 0 ] || fail "it ended with $status"
grep -q "ended with 0: received=120 acked=120" "$work/termination-log" ||
    fail "the termination log: $(cat "$work/termination-log")"
pass "TERM drains it: exit status 0, the account in /dev/termination-log"

grace=$(sed -n 's/ *terminationGracePeriodSeconds: *//p' "$root/config/kubernetes/deployment.yaml")
sed -n '/fila-worker.cfg: |/,/^---/p' "$root/config/kubernetes/deployment.yaml" | sed '1d; $d' |
    sed 's/${file:[^}]*}//' >"$work/config/kubernetes.cfg"
cp "$work/config/kubernetes.cfg" "$image/tmp/outside/"
chmod -R a+rX "$image/tmp/outside"
in_image check --offline --config /tmp/outside/kubernetes.cfg --grace "${grace}s" --deny-warnings >"$work/check.log" 2>&1 ||
    { cat "$work/check.log" >&2; fail "the Kubernetes example's config"; }
pass "the Kubernetes example's drain fits its grace period"
echo "$passed passed, 0 failed"
