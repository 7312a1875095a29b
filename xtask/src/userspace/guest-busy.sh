#!/bin/sh
# `busy start` in a guest: memory with a checked pattern, timers, a file system under write load and a
# TCP connection to dom0, all of them checking themselves, until `busy stop`. `busy check` fails, and
# says why, as soon as one of them has.
case $1 in
start)
    watch() {
        what=$1
        shift
        ("$@" >"/tmp/$what.log" 2>&1
        echo "$what ended with $?: $(tail -n 1 "/tmp/$what.log")" >>/tmp/failed) &
    }
    mke2fs /dev/xvda >/dev/null && mount -t ext4 /dev/xvda /mnt || exit 1
    watch memory dom0-load role memory 1000000 25
    watch timers dom0-load role clocks 1000000 0
    watch connection dom0-load tcp 10.0.3.1:7 1000000
    watch files busy files
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
    ;;
esac
