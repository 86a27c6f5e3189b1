#!/usr/bin/env bash
# Builds the Debian packages cma and libcma-dev in target/debian, has lintian check them, and tries
# them in a clean Debian root (xtask/packages/trial.sh).
# usage: xtask/packages.sh [--no-trial]    builds and checks them, and stops there
#
# It installs cargo-deb if that is missing and, as root, lintian and debootstrap. The trial needs
# root and Debian's archive; without them it is skipped, and the reason is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
. xtask/apt.sh

trial=yes
case $#:${1-} in
    0:) ;;
    1:--no-trial) trial='' ;;
    *)
        echo "usage: cargo xtask packages [--no-trial]" >&2
        exit 2
        ;;
esac

has() { command -v "$1" > /dev/null || [ -x "/usr/sbin/$1" ]; }
# cargo-deb asks dpkg-shlibdeps which packages the programs need.
has dpkg-shlibdeps || { echo "dpkg-shlibdeps is missing: install dpkg-dev" >&2; exit 1; }
has cargo-deb || cargo install --quiet --locked cargo-deb@3.8.0

# Cargo.toml names the changelogs there, wherever cargo builds otherwise.
export CARGO_TARGET_DIR=$PWD/target
work=target/release/packages
rm -rf "$work" target/debian
mkdir -p "$work/changelog"

cargo build --release --locked --package cma-cli --package cma-dev-preload
cargo xtask documents "$work/documents"
libraries=/usr/lib/$(dpkg-architecture --query DEB_HOST_MULTIARCH)
sh interfaces/c/install.sh --prefix /usr --libdir "$libraries" --destdir "$PWD/$work/libcma-dev"
# cargo-deb puts what is in usr/lib there.
mv "$work/libcma-dev$libraries" "$work/libcma-dev/lib"
# It strips the rest, and compresses nothing that is below target/release.
strip --strip-unneeded "$work/libcma-dev/lib/libcma.so.1"
strip --strip-debug "$work/libcma-dev/lib/libcma.a"
gzip --best --no-name "$work"/documents/man1/* "$work"/libcma-dev/usr/share/man/man3/*

# The time of the commit: two builds of it are the same.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
# PACKAGE FOLDER [OPTION]
package() {
    local package=$1 manifest=$2/Cargo.toml
    shift 2
    local maintainer
    maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' "$manifest")
    cat > "$work/changelog/$package" << END
$package ($version-1) unstable; urgency=medium

  * changelog.gz has the changes of version $version.

 -- $maintainer  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
END
    cargo deb --no-build --strip --manifest-path "$manifest" "$@"
}
package cma cma-cli
package libcma-dev interfaces/c --multiarch=same

skip() { echo "SKIPPED: $*"; }

if has lintian || apt_install lintian; then
    lintian --allow-root --fail-on error,warning target/debian/*.deb
else
    skip "lintian is missing and can't be installed, so it did not check the packages"
fi

[ -n "$trial" ] || exit 0
[ "$(id -u)" = 0 ] || { skip "only root makes a clean root, so the packages are not tried"; exit 0; }
# Packages need the C library of the release that they are built on, or a newer one.
release=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME-}") || true
[ -n "$release" ] || { skip "this is no release of Debian; the packages are not tried"; exit 0; }
has debootstrap || apt_install debootstrap ||
    { skip "debootstrap is missing and can't be installed"; exit 0; }

root=$PWD/$work/root
trap 'rm -rf --one-file-system "$root"' EXIT
if ! debootstrap --variant=minbase "$release" "$root" > "$work/debootstrap.log" 2>&1; then
    tail -n 5 "$work/debootstrap.log"
    skip "debootstrap can't make a root, so the packages are not tried"
    exit 0
fi
mkdir "$root/trial"
cp xtask/packages/trial.sh target/debian/*.deb README.md "$root/trial"
# With the root's own /proc: processes of the trial end with it.
unshare --mount --propagation private --pid --fork --kill-child bash -c '
    mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/run"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$1" bash /trial/trial.sh' - "$root"
