#!/bin/sh
# Install the Debian packages whose programs the tests need and this machine lacks: `debian.sh PROGRAM:PACKAGE …`.
# Without root or sudo it names them and goes on; tests that need them then say so.
set -eu
missing=""
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then as_root=""
elif sudo -n true 2>/dev/null; then as_root="sudo"
else
    echo "MISSING, and neither root nor sudo is here: apt-get install$missing" >&2
    exit 0
fi
echo "installing$missing" >&2
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
