#!/bin/sh
# `busy start` in a guest: memory with a checked pattern, timers, a file system under write load and a
# TCP connection to dom0, all of them checking themselves. `busy check` fails, and says why, when one
# of them has failed or does not go on.

# What has been done so far, a line for each: bytes received, sectors written, the checkers' ticks.
progress() {
    cat /sys/class/net/eth0/statistics/rx_bytes
    awk '{ print $7 }' /sys/block/xvda/stat
    for process in $(pidof dom0-load); do
        awk '{ print $14 + $15 }' "/proc/$process/stat"
    done
}
# Whether each has gone on since /tmp/before.
moved() {
    progress >/tmp/after
    awk 'NR == FNR { was[FNR] = $0; next } was[FNR] == $0 { still = 1 } END { exit still }' \
        /tmp/before /tmp/after
}
# Runs work in the background; its end is a failure unless /tmp/over.WORK says that it is over.
watch() {
    what=$1
    shift
    ("$@" >"/tmp/$what.log" 2>&1
    status=$?
    [ -e "/tmp/over.$what" ] ||
        echo "$what ended with $status: $(tail -n 1 "/tmp/$what.log")" >>/tmp/failed) &
}
# From now on the connection may end: its other end stays behind, as the guest leaves.
part() {
    touch "/tmp/over.$(cat /tmp/connection)"
}
# Connects to dom0, anew if there is a connection.
connect() {
    if [ -e /tmp/connection ]; then
        part
        kill "$(cat /tmp/connected)" 2>/dev/null
    fi
    echo "connection.$$" >/tmp/connection
    watch "connection.$$" sh -c 'echo $$ >/tmp/connected; exec dom0-load tcp 10.0.3.1:7 1000000'
}
case $1 in
start)
    mke2fs /dev/xvda >/dev/null && mount -t ext4 /dev/xvda /mnt || exit 1
    watch memory dom0-load role memory 1000000 25
    watch timers dom0-load role clocks 1000000 0
    connect
    watch files busy files
    ;;
connect)
    connect
    ;;
part)
    part
    ;;
files)
    while :; do
        for number in 1 2 3 4; do
            dd if=/dev/urandom of="/mnt/$number" bs=64k count=8 2>/dev/null || exit 1
        done
        cat /mnt/[1-4] | md5sum >/mnt/sum || exit 1
        sync
        echo 1 >/proc/sys/vm/drop_caches
        [ "$(cat /mnt/[1-4] | md5sum)" = "$(cat /mnt/sum)" ] || { echo "files differ"; exit 1; }
    done
    ;;
check)
    [ ! -e /tmp/failed ] || { cat /tmp/failed; exit 1; }
    [ "$(pidof dom0-load | wc -w)" -ge 3 ] || { ps; exit 1; }
    progress >/tmp/before
    tries=600
    until moved; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "stands still:" $(cat /tmp/before) / $(cat /tmp/after); exit 1; }
        usleep 100000
    done
    [ ! -e /tmp/failed ] || { cat /tmp/failed; exit 1; }
    ;;
esac
