#!/usr/bin/env bash
# A cluster on one machine, to try the SLURM and container profiles and to run tests/cluster. Debian 12, needs root.
#
#   setup/cluster.sh install         packages: SLURM, munge, podman, runc, debootstrap, squashfs; Apptainer into .tools
#   setup/cluster.sh start [DIR]     start SLURM with all cores of this machine and two pretended GPUs
#   setup/cluster.sh stop [DIR]      stop it
#   setup/cluster.sh env [DIR]       print the variables that reach it: eval "$(setup/cluster.sh env)"
#   setup/cluster.sh image           build the image with podman from a local Debian, without any image registry
#   setup/cluster.sh folder          build it with Apptainer as a root folder, in the same way
#
# DIR (default .tools/slurm) takes SLURM's configuration, state and logs; nothing is written to /etc/slurm. A GPU is
# pretended by a device like /dev/null: jobs with --gres=gpu:1 are scheduled and get CUDA_VISIBLE_DEVICES, but no GPU is
# there.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
# The local Debian that `image` and `folder` start from.
base="$root/.tools/debian-base"
packages=(slurmctld slurmd slurm-client munge podman runc fuse-overlayfs debootstrap squashfuse squashfs-tools uidmap)

need() { echo "setup/cluster.sh: $1" >&2; exit 1; }

as_root() { [ "$(id -u)" = 0 ] || need "'$1' needs root."; }

install() {
    as_root install
    "$root/setup/debian.sh" "${packages[@]}"
    command -v slurmctld >/dev/null || need "SLURM could not be installed."
    "$root/setup/venv.sh"
    "$root/setup/apptainer.sh"
    mkdir -p "$root/.tools"
    # podman asks for limits that a container of its own kind of machine may not set; runc copes with mixed cgroups.
    printf '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\n' > "$root/.tools/containers.conf"
}

start() {
    as_root start
    local dir=$1 host cpus memory
    host=$(hostname -s)
    cpus=$(nproc)
    memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
    [ ! -e "$dir/slurmctld.pid" ] || stop "$dir"
    rm -rf "$dir"
    mkdir -p "$dir"/{state,spool,log}
    mknod "$dir/gpu0" c 1 3
    mknod "$dir/gpu1" c 1 3
    cat > "$dir/slurm.conf" <<CONF
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A job over its memory is killed, as on clusters with cgroups.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
# What ran: one line for each job.
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobs.txt
KillWait=20
MinJobAge=300
ReturnToService=2
GresTypes=gpu
DefMemPerCPU=1000
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:2
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
    printf 'NodeName=%s Name=gpu Flags=nvidia_gpu_env File=%s/gpu[0-1]\n' "$host" "$dir" > "$dir/gres.conf"

    [ -s /etc/munge/munge.key ] || mungekey
    chown munge: /etc/munge/munge.key
    if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
        mkdir -p /run/munge
        chown munge: /run/munge
        runuser -u munge -- munged
    fi
    export SLURM_CONF="$dir/slurm.conf"
    slurmctld
    slurmd
    local i
    for i in $(seq 30); do
        [ "$(sinfo -h -o %T 2>/dev/null)" != idle ] || { echo "SLURM is up: $(sinfo -h -o '%n, %c cores, %m MB, %G')"; return; }
        sleep 0.5
    done
    tail -n 5 "$dir"/log/*.log >&2
    need "SLURM did not come up; its logs are in $dir/log."
}

stop() {
    as_root stop
    local dir=$1 name pid
    for name in slurmctld slurmd; do
        if pid=$(cat "$dir/$name.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ]; then
            kill "$pid"
            while [ -d "/proc/$pid" ]; do sleep 0.1; done
        fi
        rm -f "$dir/$name.pid"
    done
}

print_env() {
    echo "export SLURM_CONF=$1/slurm.conf"
    echo "export CONTAINERS_CONF=$root/.tools/containers.conf"
    echo "export PATH=$root/.tools/bin:\$PATH"
}

# A Debian 12 root folder from the packages' own source. It gets this machine's certificates and pip's settings to use
# them, for networks that look into their traffic: images made from it are for this machine.
make_base() ( # a shell of its own, whose end opens the lock
    local mirror bundle=/etc/ssl/certs/ca-certificates.crt
    exec 9>"$base.lock" # of two that are started at once, the second finds it made
    flock 9
    [ ! -e "$base/etc/debian_version" ] || return 0
    mirror=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources)
    rm -rf "$base.part"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$base.part" "$mirror" >/dev/null
    rm -rf "$base.part"/dev/* "$base.part"/var/cache/apt/archives/*.deb
    cp "$bundle" "$base.part$bundle"
    printf '[global]\ncert = %s\n' "$bundle" > "$base.part/etc/pip.conf"
    mv "$base.part" "$base"
)

image() {
    as_root image
    make_base
    export CONTAINERS_CONF="$root/.tools/containers.conf"
    podman image prune --force >/dev/null # what earlier builds left, 7 GB each
    tar -C "$base" -c . | podman import --quiet - localhost/debian-base:bookworm >/dev/null
    ENGINE=podman BASE=localhost/debian-base:bookworm BUILD_OPTIONS="--network host" "$root/containers/build.sh" image
}

folder() {
    as_root folder
    make_base
    # Root builds in a user namespace, for which it needs a range of ids as other users have it.
    local file
    for file in /etc/subuid /etc/subgid; do
        grep -q '^root:' "$file" 2>/dev/null || echo root:1000000:65536 >> "$file"
    done
    ENGINE="$root/.tools/bin/apptainer" BASE="$base" BUILD_OPTIONS=--fakeroot "$root/containers/build.sh" folder
}

dir=${2:-$root/.tools/slurm}
case "${1:-}" in
    install) install ;;
    start) start "$(realpath -m "$dir")" ;;
    stop) stop "$(realpath -m "$dir")" ;;
    env) print_env "$(realpath -m "$dir")" ;;
    image) image ;;
    folder) folder ;;
    *) sed -n 's/^# \{0,1\}//; 2,10p' "$0" >&2; exit 2 ;;
esac
