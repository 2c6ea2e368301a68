#!/bin/sh
# chroot_session.sh ROOT USER COMMAND [ARGUMENT…]: run a command in the chroot ROOT as USER (a name, a number or uid:gid).
#
# Runs as the first process of namespaces of its own (see chroot.py), so every mount ends with it. It waits
# for the command instead of becoming it: the first process of a pid namespace ignores SIGTERM.
set -eu
root=$1
user=$2
shift 2

mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,size=1m dev "$root/dev"
# Without privileges no device can be made: the host's are bound in.
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
# A network namespace of its own has loopback down; one shared with the host has it up already.
ip link set lo up 2>/dev/null || :

# Moved over /, it is the root of the mount namespace and no chroot in it: what runs there can make namespaces too.
mount --rbind "$root" "$root"
cd "$root"
mount --no-mtab --move . /

status=0
chroot --userspec="$user" . "$@" || status=$?
exit "$status"
