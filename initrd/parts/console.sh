# shellcheck shell=sh
# Speaking to whoever watches the console.

# Everything goes through the kernel's log: to every console, and later into the journal.
say() { echo "<5>ssi: $*" >/dev/kmsg; }
complain() { echo "<3>ssi: error: $*" >/dev/kmsg; }

mount_kernel_filesystems() {
    mkdir -p /proc /sys /dev /run /tmp /root
    mount -t proc -o nosuid,noexec,nodev proc /proc
    mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
    mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
    mount -t tmpfs -o nosuid,nodev,mode=0755,size=20% tmpfs /run
    # The kernel drops lines that come quickly one after the other, unless told not to.
    echo on >/proc/sys/kernel/printk_devkmsg
}

shell() {
    say "a shell on the console; 'exit' goes on"
    setsid cttyhack sh
}

rescue_shell() {
    say "ssi.rescue: the interconnect is up, nothing is mounted; 'exit' restarts"
    setsid cttyhack sh
    reboot -f
}

# What can't be repaired from here: say it, offer a shell with ssi.debug, start over.
give_up() {
    complain "$*"
    if [ -n "$ssi_debug" ]; then
        shell
    else
        say "restarting in 30 s (ssi.debug offers a shell instead)"
        sleep 30
    fi
    reboot -f
    sleep 60
}

# What may heal: the first failure and then every tenth is told; with ssi.debug a shell after the third.
failures=0
try_again() {
    failures=$((failures + 1))
    [ $((failures % 10)) != 1 ] || complain "$* (try $failures; trying on)"
    if [ -n "$ssi_debug" ] && [ "$failures" = 3 ]; then shell; fi
    sleep 2
}
