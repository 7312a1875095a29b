#!/bin/sh
# The first process of dom0: mounts what a shell expects, loads drivers, then runs
# /script (added by `--script`) or an interactive shell, and powers off.
# Lines that start with "@oxen" are for the program watching the console.
export PATH=/bin HOME=/root
[ -n "$oxen_console" ] || echo "@oxen init"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
if [ "$oxen_console" = kmsg ]; then
    # No console but the kernel's log: each line becomes a message of it.
    echo 0 >/proc/sys/kernel/printk_ratelimit
    echo on >/proc/sys/kernel/printk_devkmsg
    mkfifo /dev/lines
    while read -r line; do echo "<1>$line" >/dev/kmsg; done </dev/lines &
    exec >/dev/lines 2>&1
    echo "@oxen init"
fi
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
# Without these, Debian's hotplug scripts wait for ever.
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ifconfig lo 127.0.0.1 up

# /etc/drivers lists the modules, each behind what it needs.
load() {
    for module in $(cat "/etc/drivers.$1"); do
        insmod "$module" 2>/dev/null
    done
}
if [ ! -e /etc/nodrivers ]; then
    load devices
    if [ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ]; then
        load xen
        mount -t xenfs xenfs /proc/xen 2>/dev/null
        [ ! -e /etc/toolstack ] || . /lib/toolstack.sh
    fi
fi

if [ -e /script ]; then
    echo "@oxen begin"
    sh /script </dev/null
    status=$?
    # Kernel messages must not cut the line with the verdict in two.
    [ -n "$oxen_console" ] || dmesg -n 1
    echo
    echo "@oxen exit $status."
    # The log's reader gets its time.
    [ -z "$oxen_console" ] || sleep 1
else
    hostname dom0
    echo
    echo "This is dom0: Linux $(uname -r), $(nproc) CPU(s), $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2-)."
    echo "\`poweroff -f\` or leaving the shell ends the machine; Ctrl-A X ends QEMU."
    [ ! -e /run/toolstack ] || . /lib/demonstration.sh
    setsid cttyhack sh -l
fi
sync
poweroff -f
