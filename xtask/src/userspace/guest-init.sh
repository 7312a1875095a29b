#!/bin/sh
# A guest's init: loads its drivers, gives its card the address of the command line, and then is a
# shell on the console, or (with `agent`) runs what dom0 sends: lines of "ID COMMAND...", answered by
# "@guest begin ID", what the command says, and "@guest end ID STATUS.".
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
ln -sf /proc/self/fd /dev/fd
for module in $(cat /etc/drivers.guest); do
    insmod "$module"
done
address=$(sed -n 's/.*address=\([0-9.]*\).*/\1/p' /proc/cmdline)
hostname guest
ifconfig lo 127.0.0.1 up
[ -z "$address" ] || ifconfig eth0 "$address" netmask 255.255.255.0 up

echo
echo "@guest ready: Linux $(uname -r), $(nproc) CPU(s), $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2-)"
if grep -qw agent /proc/cmdline; then
    # The line discipline must not repeat what dom0 sends, and messages not cut answers in two.
    stty -echo
    dmesg -n 1
    while read -r id command; do
        [ -n "$id" ] || continue
        echo "@guest begin $id"
        sh -c "$command" </dev/null 2>&1
        status=$?
        echo
        echo "@guest end $id $status."
    done
else
    setsid cttyhack sh -l
fi
poweroff
