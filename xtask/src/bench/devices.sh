# Disk and card of a Linux guest and of iobench, one after the other; prints the rows of both.
. /lib/guests.sh
dmesg -n 1
failed() {
    echo "failed: $1"
    tail -n 20 "$(console "$1")"
    exit 1
}
mib=8
disk="read:256:4 read:64:8 read:4:32 write:256:4 write:64:8 write:4:32 random:4:1"
card="send receive echo turns"

# The disk is in memory, and all of it is there.
mkdir /ram
mount -t tmpfs tmpfs /ram
dd if=/dev/zero of=/ram/disk.img bs=1M count=$mib 2>/dev/null
dom0-load serve 10.0.3.1:7 &
dom0-load measure-serve 10.0.3.1 &

# make NAME KERNEL NUMBER MORE: creates a guest.
make() {
    rm -f "$(console "$1")"
    cat >"/run/$1.cfg" <<CONFIG
name = "$1"
kernel = "/guests/$2"
memory = 128
vcpus = 1
disk = [ "format=raw, vdev=xvda, access=rw, target=/ram/disk.img" ]
vif = [ "bridge=xenbr0, mac=00:16:3e:00:00:$3" ]
on_poweroff = "destroy"
on_crash = "destroy"
$4
CONFIG
    $tool create "/run/$1.cfg" >/dev/null || failed "$1"
}

make tux vmlinux 11 'ramdisk = "/guests/initrd.img"
extra = "console=hvc0 quiet address=10.0.3.11 agent"'
await tux "$READY" 600 || failed tux
seconds=600
shell tux ping -c 3 10.0.3.1 >/dev/null || failed tux
shell tux dom0-load measure-disk /dev/xvda $mib $disk | sed -n 's/^row /row linux: /p'
shell tux dom0-load measure-tcp 10.0.3.1 $mib $card | sed -n 's/^row /row linux: /p'
$tool destroy tux && gone tux || failed tux

words() {
    echo "$1" | tr ' ' ,
}
make iobench iobench 33 "extra = \"mib=$mib disk=$(words "$disk"),check tcp=$(words "$card")\""
gone iobench 600 || failed iobench
dom0-load await "$(console iobench)" "iobench: done" 20 || failed iobench
tr -d '\r' <"$(console iobench)" | sed -n 's/^row /row rust: /p; /^iobench/p'
