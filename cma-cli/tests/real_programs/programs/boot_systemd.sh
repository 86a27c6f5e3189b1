#!/usr/bin/env bash
# usage: boot_systemd.sh FOLDER
#
# Boots systemd as the first process of namespaces of its own, on a copy-on-write view of this
# machine's root, with FOLDER at /mnt. There it runs /mnt/session.sh as root, with its output in
# /mnt/printed. Exits with 77 and a reason on standard error if the machine can't do that.
#
# Nothing of it outlives this script: the mounts are in a namespace that ends with systemd, and what
# is written outside of /mnt is in memory.
set -euo pipefail

skip() {
    echo "$*" >&2
    exit 77
}

if [ "$1" != --inside ]; then
    [ "$(id -u)" = 0 ] || skip "only root boots systemd"
    [ -x /lib/systemd/systemd ] || skip "systemd is not installed"
    grep -q overlay /proc/filesystems || skip "the kernel has no overlay file system"
    groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$groups" ] || skip "the machine has no cgroup2"
    group=$groups/cma-test-$$
    mkdir "$group" 2> /dev/null || skip "no control group can be created"
    # The services of the session end with their namespace, a moment after it.
    trap 'for _ in {1..100}; do
              find "$group" -depth -type d -exec rmdir {} \; 2> /dev/null || true
              [ -d "$group" ] || break
              sleep 0.1
          done' EXIT
    (
        echo "$BASHPID" > "$group/cgroup.procs"
        exec unshare --mount --propagation private --pid --fork --kill-child \
            --cgroup --ipc --uts --net bash "$0" --inside "$1"
    ) || exit
    exit
fi

folder=$2
view=$folder/view
mkdir "$view"
mount -t tmpfs tmpfs "$view"
mkdir "$view"/{changes,work,root}
root=$view/root
mount -t overlay -o "lowerdir=/,upperdir=$view/changes,workdir=$view/work" overlay "$root" ||
    skip "the root can't be the base of an overlay"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for mounted in dev run tmp; do
    mount -t tmpfs tmpfs "$root/$mounted"
done
cp -a /dev/{null,zero,full,random,urandom,tty} "$root/dev"
mount --bind "$folder" "$root/mnt"

# This machine's own units stay out, and its hardware is left alone.
units=$root/etc/systemd/system
rm -rf "$units"
mkdir "$units"
for unit in "$root"/lib/systemd/system/sysinit.target.wants/*; do
    case ${unit##*/} in
        systemd-journald.service | systemd-tmpfiles-setup.service) ;;
        *) ln -s /dev/null "$units/${unit##*/}" ;;
    esac
done
: > "$root/etc/fstab"
: > "$root/etc/machine-id"

cat > "$units/session.service" << 'END'
[Unit]
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=oneshot
ExecStart=/bin/bash /mnt/session.sh
StandardOutput=truncate:/mnt/printed
StandardError=inherit
TimeoutStartSec=150
END

cd "$root"
mkdir machine
pivot_root . machine
umount --lazy /machine
exec env -i container=cma-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=session.service --show-status=no --log-target=null
