#!/usr/bin/env bash
# Writes the lock files anew from requirements.in: the newest versions that fit Python 3.11 and each other, with the hashes
# of their files. `setup/lock.sh hashes` keeps the versions.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .tools/uv/bin/uv ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --target .tools/uv uv
fi
upgrade=(--upgrade)
[ "${1:-}" != hashes ] || upgrade=()
for folder in containers tests; do
    (cd "$folder" && ../.tools/uv/bin/uv pip compile --quiet "${upgrade[@]}" --generate-hashes --python-version 3.11 --no-emit-index-url \
        --custom-compile-command "make lock" requirements.in -o requirements.txt)
done
