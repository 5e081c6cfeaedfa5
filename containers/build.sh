#!/usr/bin/env bash
# Builds the image of the locked packages ahead of a run, for nodes without network:
#   containers/build.sh image    with podman or docker, as nnactive-nf:VERSION
#   containers/build.sh sif      with Apptainer or Singularity, as .tools/nnactive-nf-VERSION.sif
#   containers/build.sh folder   the same as a root folder, .tools/nnactive-nf-VERSION.sif too: larger, but not packed
# Variables: ENGINE (podman, docker, apptainer, singularity), BASE (another Debian 12 image; for `sif` also a root
# folder or an image file), BUILD_OPTIONS (more options for the build, such as "--network host").
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n "s/^ *version = '\(.*\)'/\1/p" "$root/nextflow.config")

need() { echo "containers/build.sh: $1" >&2; exit 1; }

find_engine() {
    local name
    for name in ${ENGINE:-"$@"}; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
    need "none of $* is on PATH. Install one, or name one: ENGINE=/path/to/$1."
}

build_image() {
    local engine options=()
    engine=$(find_engine podman docker)
    # A health check is no part of podman's default format.
    [ "$(basename "$engine")" != podman ] || options+=(--format docker)
    [ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
    # shellcheck disable=SC2086 # BUILD_OPTIONS holds several words
    "$engine" build "${options[@]}" --build-arg "VERSION=$version" ${BUILD_OPTIONS:-} \
        --file "$root/containers/Containerfile" --tag "nnactive-nf:$version" "$root"
    echo "Built nnactive-nf:$version. Run with -profile $(basename "$engine")."
}

build_sif() { # build_sif [--sandbox]
    local engine options=("$@") sif="$root/.tools/nnactive-nf-$version.sif"
    engine=$(find_engine "$root/.tools/bin/apptainer" apptainer singularity)
    if [ -e "${BASE:-}" ]; then
        options+=(--build-arg "BOOTSTRAP=localimage" --build-arg "BASE=$BASE")
    elif [ -n "${BASE:-}" ]; then
        options+=(--build-arg "BASE=$BASE")
    fi
    mkdir -p "$root/.tools"
    # shellcheck disable=SC2086
    (cd "$root" && "$engine" build --force "${options[@]}" --build-arg "VERSION=$version" ${BUILD_OPTIONS:-} \
        "$sif.part" containers/nnactive.def)
    rm -rf "$sif"
    mv "$sif.part" "$sif"
    echo "Built $sif. Run with -profile apptainer or singularity."
}

case "${1:-}" in
    image | sif | folder) "$root/setup/niivue.sh" ;;
esac
case "${1:-}" in
    image) build_image ;;
    sif) build_sif ;;
    folder) build_sif --sandbox ;;
    *) need "say what to build: image, sif or folder." ;;
esac
