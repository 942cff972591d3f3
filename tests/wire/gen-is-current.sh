#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
# Whether gen/ is what protoc-c makes of proto/. Argument: the source tree. 77 = skipped.
set -eu
root=$1
command -v protoc-c > /dev/null || {
    echo "skipped: no protoc-c here (package protobuf-c-compiler)"
    exit 77
}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cd "$root/proto"
protoc-c -I . --c_out="$out" $(find . -name '*.proto' | sed 's,^\./,,')
cd "$root/gen"
find . -name '*.pb-c.[ch]' | sort > "$out/.committed"
(cd "$out" && find . -name '*.pb-c.[ch]' | sort) > "$out/.fresh"
diff "$out/.committed" "$out/.fresh"
while read -r file; do
    diff -u "$file" "$out/$file"
done < "$out/.committed"
echo "$(wc -l < "$out/.committed") generated files are current"
