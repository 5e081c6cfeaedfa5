#!/usr/bin/env bash
# Installs Debian packages that are missing (needs root): `setup/debian.sh chromium make`. Tests that need a package
# skip where it cannot be had, so a failure is told and is no error.
set -uo pipefail
missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}"; } >/dev/null </dev/null ||
    echo "setup: could not install ${missing[*]}; the tests that need them will skip" >&2
