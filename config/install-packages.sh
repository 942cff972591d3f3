#!/bin/bash
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# Installs what config/packages.txt lists for the groups named, when anything of it is missing:
#     config/install-packages.sh build run test lint
#     config/install-packages.sh --list build run     # the names, one a line; installs nothing
# As root, or with sudo. Exit status: 0 all there, 64 usage, 69 could not be installed.
set -u -o pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
list=$here/packages.txt

list_only=
if [ "${1:-}" = --list ]; then
    list_only=1
    shift
fi
if [ $# -eq 0 ]; then
    echo "usage: install-packages.sh [--list] GROUP...   (groups: build run test lint browser)" >&2
    exit 64
fi
packages=$(awk -v groups="$*" '
    BEGIN { n = split(groups, g, " "); for (i = 1; i <= n; i++) want[g[i]] = 1 }
    { sub(/#.*/, "") }
    NF > 1 { for (i = 2; i <= NF; i++) { known[$i] = 1; if ($i in want) chosen[$1] = 1 } }
    END {
        for (w in want) if (!(w in known)) { print "unknown group: " w > "/dev/stderr"; bad = 1 }
        if (bad) exit 64
        for (p in chosen) print p
    }' "$list" | sort) || exit 64
if [ -n "$list_only" ]; then
    printf '%s\n' "$packages"
    exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "packages: this is not a Debian system; the counterparts of these must be there:" $packages >&2
    exit 0
fi
missing=
for package in $packages; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "packages: all $(echo "$packages" | wc -l) for '$*' are installed"
    exit 0
fi

sudo=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "packages: run as root (no sudo here): apt-get install$missing" >&2
        exit 69
    fi
    sudo=sudo
fi
install() {
    $sudo apt-get -q -o Acquire::Retries=3 update &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
            -o Dpkg::Use-Pty=0 install --no-install-recommends $missing
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "packages: installing$missing"
for try in 1 2; do
    if install >"$log" 2>&1 </dev/null; then
        echo "packages: installed"
        exit 0
    fi
    tail -n 15 "$log" >&2
    [ $try = 2 ] || echo "packages: that failed; once more" >&2
done
echo "packages: could not install:$missing" >&2
exit 69
