#!/bin/sh
# systemd-in-namespaces.sh CGROUP: systemd as the first process of its own namespaces.
# CGROUP is the name of a control group to make for it; whoever started this removes it afterwards.
# It sees the same files as we do, with an empty /run, /tmp and /var/tmp of its own: without those, its
# systemd-tmpfiles-setup would empty ours.
set -eu

if [ "$1" != inside ]; then
    hierarchy=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
    mkdir -p "$hierarchy/$1"
    echo $$ >"$hierarchy/$1/cgroup.procs"
    exec unshare --pid --fork --mount --uts --ipc --cgroup --net --mount-proc --kill-child "$0" inside
fi

mount --make-rprivate /
for directory in /run /tmp /var/tmp; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

mkdir -p /run/systemd/system
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-clean.timer \
    systemd-sysctl.service systemd-udevd.service systemd-udev-trigger.service systemd-journald.service \
    systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket \
    systemd-journal-flush.service systemd-modules-load.service systemd-random-seed.service \
    systemd-remount-fs.service systemd-update-utmp.service systemd-logind.service; do
    ln -s /dev/null "/run/systemd/system/$unit"
done
exec env -i PATH="$PATH" container=unshare /lib/systemd/systemd --unit=basic.target --log-target=null
