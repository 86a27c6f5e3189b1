#!/usr/bin/env bash
# Tries the packages in /trial as an administrator and as users: installs them, starts the server as
# its unit does, gets chunks from it, compiles README's program, and purges the packages. Run by
# xtask/packages.sh in a clean Debian root, which it changes.
set -euo pipefail
cd /trial
# Programs keep what they remember of their user in /tmp.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/tmp

step() { printf '== %s\n' "$*"; }
fail() { echo "FAILED: $*"; exit 1; }
# Runs a command quietly; what it prints matters if it fails.
quietly() { "$@" > /trial/log 2>&1 || { cat /trial/log; fail "$*"; }; }
# A command fails, and prints this on standard error.
refuses() {
    local message=$1
    shift
    ! "$@" > /trial/log 2>&1 || fail "this was not refused: $*"
    grep -qF -e "$message" /trial/log || { cat /trial/log; fail "no \"$message\" from: $*"; }
}
# A command prints this.
prints() {
    local text=$1
    shift
    "$@" > /trial/log 2>&1 || { cat /trial/log; fail "$*"; }
    grep -qF -e "$text" /trial/log || { cat /trial/log; fail "no \"$text\" from: $*"; }
}
# Every path that a package can leave. dpkg and the tools for users keep backups and logs, and
# man-db an index.
paths() {
    find / -xdev \( -path /trial -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /proc \
        -o -path /run \) -prune -o -print |
        grep -vE '^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|^/var/lib/dpkg/.*-old$' | sort
}

step "what the packages depend on, and what the trial needs"
quietly apt-get -q update
packages=(./cma_*.deb ./libcma-dev_*.deb)
for package in "${packages[@]}"; do
    quietly apt-get -q satisfy -y --no-install-recommends "$(dpkg-deb -f "$package" Depends)"
done
quietly apt-get -q install -y --no-install-recommends \
    gcc pkg-config man-db groff-base bash-completion zsh fish
paths > before

step "install"
quietly dpkg --install "${packages[@]}"
prints disabled sh -c 'systemctl is-enabled cma.socket || true'
prints disabled sh -c 'systemctl is-enabled cma.service || true'
prints "Contiguous memory server" getent passwd cma
unit=/usr/lib/systemd/system/cma.service
quietly systemd-analyze verify "$unit" /usr/lib/systemd/system/cma.socket

step "plug-ins beside the program"
cma plugins > plugins
for name in best-fit bitmap buddy tlsf; do
    grep -q "^$name " plugins || { cat plugins; fail "no plug-in $name"; }
done

step "manual pages and completions"
for page in cma cma-serve libcma '3 cma'; do
    # Its name and section are two words.
    # shellcheck disable=SC2086
    prints .gz man --where $page
done
quietly man --warnings cma-serve
prints _cma bash -c 'source /usr/share/bash-completion/completions/cma && complete -p cma'
prints _cma zsh -c 'autoload -U compinit && compinit -D && echo $_comps[cma]'
prints serve fish -c 'complete --do-complete "cma ser"'

step "the server, as its unit starts it"
value() { sed -n "s/^$1=//p" "$unit"; }
as() {
    local user=$1 group=$2
    shift 2
    setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs "$@"
}
install -d -o "$(value User)" -g "$(value Group)" -m "$(value RuntimeDirectoryMode)" \
    "/run/$(value RuntimeDirectory)"
# shellcheck disable=SC2046 # the words of the command line
setpriv --reuid="$(value User)" --regid="$(value Group)" --clear-groups --no-new-privs \
    $(value ExecStart) > server.log 2>&1 &
server=$!
ready() {
    for _ in {1..300}; do
        [ ! -S /run/cma/cma.sock ] || return 0
        kill -0 "$server" 2> /dev/null || break
        sleep 0.1
    done
    cat server.log
    fail "the server does not serve"
}
ready

step "chunks for members of the group cma, and for no others"
member() { as nobody cma "$@"; }
prints "1: 0x300000@" member sh -c \
    'echo "a camera/frame 3M" | cma shell --connect /run/cma/cma.sock'
# shellcheck disable=SC2016 # of the inner shell
prints "33554432 bytes" member cma exec --socket /run/cma/cma.sock --chunk ram=vm/32M/2M -- \
    sh -c 'echo $CMA_RAM_SIZE bytes at $CMA_RAM_START'
refuses "ermission denied" as nobody nogroup cma exec --socket /run/cma/cma.sock \
    --chunk ram=vm/1M -- true
refuses "too small" member cma exec --socket /run/cma/cma.sock --chunk ram=vm/1G -- true
refuses "Invalid argument" member env LD_PRELOAD=/usr/lib/cma/libcma_dev_preload.so cat /dev/cma
prints " a 1 " sh -c 'cma record -o /tmp/trace -- dd if=/dev/zero of=/dev/null bs=4M count=1 &&
    cat /tmp/trace'

step "README's program in C, with the shared library and with the static one"
sed -n '/^```c$/,/^```$/{//!p}' README.md > frame.c
# shellcheck disable=SC2046 # options
quietly cc frame.c -o frame $(pkg-config --cflags --libs cma)
prints "a frame of 3133440 bytes" member ./frame
ldd frame | grep -q 'libcma.so.1 => /' || fail "the program does not use the shared library"
# shellcheck disable=SC2046 # options
quietly cc frame.c -o frame-static -Wl,-Bstatic -lcma -Wl,-Bdynamic \
    $(pkg-config --static --libs-only-l cma | sed 's/^-lcma//')
prints "a frame of 3133440 bytes" member ./frame-static
! ldd frame-static | grep -q libcma || fail "the program uses the shared library"
printf '#include <cma_allocator.h>\n' > plugin.c
quietly cc -c plugin.c $(pkg-config --cflags cma)
kill "$server"
status=0
wait "$server" || status=$?
[ "$status" = 0 ] || { cat server.log; fail "the server ended with status $status"; }

step "a wrong configuration"
sed -i 's/^size = "64M"/size = "64Q"/' /etc/cma/cma.toml
refuses /etc/cma/cma.toml cma check --config /etc/cma/cma.toml
refuses 64Q as cma cma cma serve --config /etc/cma/cma.toml

step "an upgrade keeps what the administrator has changed"
systemctl --quiet enable cma.socket
quietly dpkg --install "${packages[@]}"
grep -q 64Q /etc/cma/cma.toml || fail "cma.toml was replaced"
prints enabled systemctl is-enabled cma.socket

step "purge"
quietly dpkg --purge cma libcma-dev
paths > after
diff before after || fail "purged packages leave this"
! ldconfig -p | grep -q libcma || fail "the dynamic linker knows libcma still"
step "end"
