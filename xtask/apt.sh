# Sourced by scripts of xtask.

# Installs Debian's packages, if this is root and apt-get is there.
apt_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || return 1
    # A machine without a network is not waited for.
    local options=(-q -o Acquire::Retries=0 -o Acquire::http::Timeout=20)
    timeout 120 apt-get "${options[@]}" update &&
        DEBIAN_FRONTEND=noninteractive timeout 600 \
            apt-get "${options[@]}" install -y --no-install-recommends "$@"
}
