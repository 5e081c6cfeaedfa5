#!/usr/bin/env bash
# Installs Debian packages that are missing (needs root): `setup/debian.sh chromium make`.
set -euo pipefail
missing=()
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ "${#missing[@]}" = 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -q -y --no-install-recommends -o Acquire::Retries=3 "${missing[@]}"; } \
    >/dev/null </dev/null || { echo "setup: could not install ${missing[*]}" >&2; exit 1; }
