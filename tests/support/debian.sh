# shellcheck shell=sh
# Sourced: which packages of Debian are missing, and their installation without starting a service of theirs.

# Those of the words of $1 that are not installed.
missing() {
    for package in $1; do
        case $(dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null) in
        *' installed') ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

# A package's service would be started on installing it: this file is Debian's way to say no.
policy=/usr/sbin/policy-rc.d
placed=
restore() {
    if [ -n "$placed" ]; then rm -f "$policy"; fi
    placed=
}

# The words of $1.
install_packages() {
    trap restore EXIT
    trap 'exit 130' HUP INT TERM
    if [ ! -e "$policy" ]; then
        placed=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update || echo "$0: unable to update the package lists, going on" >&2
    # shellcheck disable=SC2086 # a list of words
    apt-get -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $1
    restore
    trap - EXIT HUP INT TERM
}
