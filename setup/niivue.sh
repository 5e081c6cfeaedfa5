#!/usr/bin/env bash
# Fetches NiiVue, the viewer of annotation pages, with npm into containers/niivue, from where the images take it, and puts
# it into .venv/share/niivue. Does nothing where it is there. Without npm, or a registry, set-up goes on: pages then show
# patches without a pen.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
package=@niivue/niivue@0.69.0
want=47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af
kept="$root/containers/niivue"
name=niivue.umd.js

go_on() { echo "setup: $1; annotation pages will have no pen" >&2; exit 0; }
digest() { { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d ' ' -f 1; } # macOS has the second
is_it() { [ -f "$1" ] && [ "$(digest "$1")" = "$want" ]; }

# Of two that are started at once, the second waits and finds all done.
mkdir -p "$root/.tools"
exec 9>"$root/.tools/niivue.lock"
! command -v flock >/dev/null || flock 9

if ! is_it "$kept/$name"; then
    command -v npm >/dev/null || go_on "npm is missing (Debian: apt-get install npm)"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    echo "setup: fetching $package" >&2
    (cd "$folder" && npm pack --silent "$package" >/dev/null && tar -xzf ./*.tgz "package/dist/$name") ||
        go_on "npm could not fetch $package"
    is_it "$folder/package/dist/$name" || go_on "$name of $package has not the digest that setup/niivue.sh names"
    mv "$folder/package/dist/$name" "$kept/$name.part"
    chmod 644 "$kept/$name.part"
    mv "$kept/$name.part" "$kept/$name"
fi
if [ -d "$root/.venv" ] && ! is_it "$root/.venv/share/niivue/$name"; then
    mkdir -p "$root/.venv/share/niivue"
    cp "$kept/LICENSE" "$kept/$name" "$root/.venv/share/niivue/"
fi
