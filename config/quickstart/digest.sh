#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
#
# The quickstart's command for `exec`: the message is on standard input, what is known about it in
# the environment, and the exit status is the verdict.
case $FILA_HEADER_PATH in
*.md)
    # A passing trouble: exit 75 means "again later", and standard error says why.
    if [ "$FILA_ATTEMPT" = 1 ]; then
        echo "the first try of every .md file fails, so that a retry can be seen" >&2
        exit 75
    fi
    ;;
*never-works*)
    # A lasting one: after retry.attempts tries the message goes to the dead-letter queue.
    echo "no checksum for $FILA_HEADER_PATH, at try $FILA_ATTEMPT as at any other" >&2
    exit 1
    ;;
esac
sum=$(sha256sum) || exit 75
echo "${sum%% *}  $FILA_HEADER_PATH" >>digests.txt
