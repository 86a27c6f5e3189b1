#!/usr/bin/env bash
# Runs chunks through QEMU, DPDK, GStreamer, libavcodec and Python, has Prometheus scrape a server,
# and boots systemd with the units of service/: the tests named real_programs of this workspace, on
# this machine. As root it installs what is missing with apt-get first, except systemd. A test that
# still lacks something says that it is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
. xtask/apt.sh

# Debian's packages for what the tests look for.
missing=()
has() { command -v "$1" > /dev/null; }
has_library() { has pkg-config && pkg-config --exists "$1"; }
has cc || missing+=(gcc libc6-dev)
has pkg-config || missing+=(pkg-config)
has python3 || missing+=(python3)
has qemu-system-x86_64 || missing+=(qemu-system-x86)
has_library libdpdk || missing+=(libdpdk-dev)
has_library gstreamer-app-1.0 || missing+=(libgstreamer-plugins-base1.0-dev)
has_library gstreamer-app-1.0 && has gst-inspect-1.0 && gst-inspect-1.0 --exists videotestsrc ||
    missing+=(gstreamer1.0-tools gstreamer1.0-plugins-base)
has prometheus || missing+=(prometheus)
has_library libavcodec || missing+=(libavcodec-dev)

if [ ${#missing[@]} -gt 0 ] && ! apt_install "${missing[@]}"; then
    echo "SKIPPED: could not install ${missing[*]}; tests that need them say that they are skipped"
fi

# Each test restores the machine's pools of huge pages, unless it is killed.
pools=(/sys/kernel/mm/hugepages/hugepages-*/nr_hugepages)
declare -A before
for pool in "${pools[@]}"; do
    [ ! -r "$pool" ] || before[$pool]=$(cat "$pool")
done
restore() {
    for pool in "${!before[@]}"; do
        [ "$(cat "$pool")" = "${before[$pool]}" ] || echo "${before[$pool]}" > "$pool"
    done
}

trap '[ $? = 0 ] || restore' EXIT

# `timeout` ends the whole group of processes, so also the programs that the tests have started. The
# tests are built as `cargo test --workspace` builds them.
cargo test --workspace --locked --test real_programs --no-run
timeout --kill-after=10 600 cargo test --workspace --locked --test real_programs -- \
    --ignored --test-threads=1
