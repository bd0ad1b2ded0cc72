#!/bin/sh
# Boots the installed systemd as PID 1 of namespaces of its own, and ends it again.
#
#   systemd-in-namespaces.sh
#
# Prints the pid of that systemd (as this side sees it) when basic.target is reached, and keeps it until its
# own standard input ends, be it by the death of who started it. Reach it with
#
#   nsenter --target PID --mount --uts --ipc --net --pid --cgroup systemctl ...
#
# and its files below /proc/PID/root. Needs root, a cgroup2 and an overlay file system in the kernel.
#
# Nothing inside can change a file of the machine: its root is an overlay whose changes stay in memory, with
# file systems of their own on /run, /tmp, /var/tmp and /dev. (Debian's tmpfiles rules empty /tmp at boot: systemd
# sharing the machine's /tmp would take all of it away. They are masked as well.)
set -eu

# Units of no use inside, or that reach for the machine's kernel.
masked='
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service
    systemd-tmpfiles-clean.service systemd-tmpfiles-clean.timer systemd-sysctl.service systemd-modules-load.service
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service
    systemd-remount-fs.service systemd-random-seed.service systemd-update-utmp.service systemd-binfmt.service
    proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-config.mount
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount systemd-journal-flush.service
    systemd-firstboot.service systemd-machine-id-commit.service systemd-sysusers.service ldconfig.service
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service
    systemd-logind.service systemd-ask-password-console.path systemd-ask-password-wall.path kmod-static-nodes.service
    systemd-networkd.service systemd-resolved.service systemd-timesyncd.service systemd-homed.service
    systemd-oomd.service systemd-userdbd.socket systemd-initctl.socket systemd-rfkill.socket getty.target
'

find_systemd() {
    for file in /usr/lib/systemd/systemd /lib/systemd/systemd; do
        if [ -x "$file" ]; then echo "$file"; return; fi
    done
    echo "$0: no systemd (package systemd)" >&2
    return 1
}

# Stage 1, in a mount namespace: keeps the control group, starts stage 2, waits, and clears away.
keep() {
    state=$(mktemp -d "${TMPDIR:-/tmp}/dw-systemd.XXXXXX")
    mkdir "$state/cgroup" "$state/box"
    # The first of the namespace, so that it is ours however the machine mounts its own.
    mount -t cgroup2 cgroup2 "$state/cgroup"
    here=$(sed -n 's/^0:://p' /proc/self/cgroup)
    here="$state/cgroup${here%/}"
    sweep "$here"
    leaf="$here/doorward-test-$$"
    mkdir "$leaf"
    sh "$0" --start "$state" "$leaf" >"$state/log" 2>&1 </dev/null &
    starter=$!
    # From here on there is something to clear away, whoever dies and whatever is typed.
    trap '' PIPE HUP INT TERM
    if init=$(booted); then
        echo "$init" || true
        exec >&-
        cat >/dev/null
    else
        echo "$0: systemd did not boot:" >&2
        cat "$state/log" >&2
    fi
    # The kernel ends everything in a pid namespace with its PID 1; what was moved in from outside goes with the group.
    [ -z "$init" ] || kill -s KILL "$init" 2>/dev/null || true
    echo 1 >"$leaf/cgroup.kill" 2>/dev/null || kill -s KILL "$starter" 2>/dev/null || true
    wait "$starter" 2>/dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        find "$leaf" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
    umount "$state/cgroup" || true
    rm -f "$state/log"
    rmdir "$state/cgroup" "$state/box" "$state"
    [ -n "$init" ]
}

# Groups that a keeper left behind who was killed himself; the name ends in the keeper's pid.
sweep() {
    for old in "$1"/doorward-test-*; do
        if [ ! -d "$old" ] || [ -d "/proc/${old##*-}" ]; then continue; fi
        find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# The pid of the booted systemd. Half a minute is ten times what it needs on a slow machine.
booted() {
    tries=0
    while [ "$tries" -lt 300 ] && kill -0 "$starter" 2>/dev/null; do
        init=$(cat "/proc/$starter/task/$starter/children" 2>/dev/null) || init=
        init=${init%% *}
        # `degraded` is up as well: some unit of the machine's that cannot work in here.
        case $(inside systemctl is-system-running 2>/dev/null || true) in
        running | degraded) echo "$init"; return ;;
        esac
        tries=$((tries + 1))
        sleep 0.1
    done
    return 1
}

inside() {
    [ -n "$init" ] && nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup "$@"
}

# Stage 2: into the control group, then into the namespaces.
start() {
    echo 0 >"$2/cgroup.procs"
    exec unshare --pid --fork --kill-child --mount --propagation private --uts --ipc --cgroup --net \
        sh "$0" --boot "$1"
}

# Stage 3, as PID 1: the file systems, then systemd itself.
boot() {
    box="$1/box"
    mount -t tmpfs -o mode=0755 tmpfs "$box"
    mkdir "$box/upper" "$box/work" "$box/root"
    mount -t overlay -o "lowerdir=/,upperdir=$box/upper,workdir=$box/work" overlay "$box/root"
    cd "$box/root"
    mount -t proc -o nosuid,nodev,noexec proc proc
    # What systemd raises at boot (fs.nr_open and the like) belongs to the machine.
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    # Read-only also tells udev and others to stay away.
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs var/tmp
    devices
    units
    mkdir run/machine
    pivot_root . run/machine
    cd /
    umount -l /run/machine
    rmdir /run/machine
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=unshare \
        "$(find_systemd)" --system --unit=basic.target --show-status=no --crash-reboot=no
}

devices() {
    mount -t tmpfs -o mode=0755,nosuid tmpfs dev
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
    (
        umask 0
        mknod dev/null c 1 3
        mknod dev/zero c 1 5
        mknod dev/full c 1 7
        mknod dev/random c 1 8
        mknod dev/urandom c 1 9
        mknod dev/tty c 5 0
    )
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s /proc/self/fd/0 dev/stdin
    ln -s /proc/self/fd/1 dev/stdout
    ln -s /proc/self/fd/2 dev/stderr
}

# None of the machine's own units, timers and mounts; a journal in memory.
units() {
    mkdir -p etc/systemd/system etc/systemd/journald.conf.d run/systemd/system
    mount -t tmpfs -o mode=0755 tmpfs etc/systemd/system
    for unit in $masked; do
        ln -s /dev/null "run/systemd/system/$unit"
    done
    rm -f etc/fstab
    printf '[Journal]\nStorage=volatile\nReadKMsg=no\nForwardToSyslog=no\nRateLimitBurst=0\nAudit=no\n' \
        >etc/systemd/journald.conf.d/test.conf
}

case ${1-} in
'')
    find_systemd >/dev/null
    exec unshare --mount --propagation private sh "$0" --keep
    ;;
--keep) keep ;;
--start) start "$2" "$3" ;;
--boot) boot "$2" ;;
*)
    echo "usage: $0" >&2
    exit 100
    ;;
esac
