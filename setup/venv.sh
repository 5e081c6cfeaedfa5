#!/usr/bin/env bash
# Makes .venv with the locked packages: `setup/venv.sh` for the workflow, `setup/venv.sh tests` for its tests too.
# Does nothing where the lock files' content is what was installed last.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
venv="$root/.venv"

need() { echo "setup: $1" >&2; exit 1; }

# Of two that are started at once, the second waits and finds all done.
mkdir -p "$root/.tools"
exec 9>"$root/.tools/venv.lock"
! command -v flock >/dev/null || flock 9 # which macOS lacks

find_python() {
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    need "Python 3.11 or newer with venv is missing. Install it (Debian: apt-get install python3-venv; or see python.org), or name one: PYTHON=/path/to/python make demo."
}

# install STAMP LOCK_FILE: `--no-deps`, since the lock names every package and no other is wanted; a package whose hash is
# not the lock's is refused.
install() {
    local stamp="$venv/.installed-$1" want
    want=$(cksum < "$2")
    [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
    echo "setup: installing ${2#"$root"/} into .venv" >&2
    rm -f "$stamp"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$2" >&2
    printf '%s' "$want" > "$stamp"
}

# A venv whose interpreter has gone (moved folder, new Python) is made anew.
if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python=$(find_python)
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
install workflow "$root/containers/requirements.txt"
[ "${1:-}" != tests ] || install tests "$root/tests/requirements.txt"
