# Disks of every kind come and go while a guest runs: files, block devices, images by qemu-nbd, and
# what a script makes. There are mistakes among them, and `oxd` is killed while one is in use. Nothing
# of them stays in dom0.
[ $tool = ox ] || failed "xl has images served by QEMU, which is not here: only ox"
MIB=8
# disk NAME FORMAT TARGET: a disk as `block-attach` takes it.
disk() {
    echo "format=$2,vdev=$1,access=rw,target=$3"
}
# lent: what dom0 has given to devices.
lent() {
    echo "loop devices:" $(losetup -a | cut -d: -f1)
    echo "devices of images:" $(ls -d /sys/block/nbd*/pid 2>/dev/null)
    echo "servers of images:" $(pidof qemu-nbd)
    echo "interfaces:" $(ls /sys/class/net)
    echo "ports:" $(ls -d /sys/class/net/*/brif/* 2>/dev/null)
    echo "routes:" $(route -n | tail -n +3)
}
# returned WHAT: waits until dom0 has again what it had. A backend's last look at its device comes
# after it has said that it ended.
returned() {
    local tries=50
    until [ "$(lent)" = "$lent" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "before: $lent"; echo "after: $(lent)"; failed "$1 left something"; }
        usleep 200000
    done
}
# unchanged: fails unless hypervisor and store hold what they held. Xen keeps pages of its own for what a
# guest has had, so there it is not asked.
unchanged() {
    grep -q oxen /sys/hypervisor/version/extra || return 0
    same "$before" || failed "something is left"
}
# refused TEXT COMMAND...: a command that fails, and says why.
refused() {
    local text=$1 words
    shift
    words=$("$@" 2>&1) && failed "not refused: $*"
    case $words in
    *"$text"*) echo "  $words" ;;
    *) failed "$*: $words" ;;
    esac
}
# used DISK: the guest waits for it, writes it and reads it back; then its sum is $sum.
used() {
    shell g1 "until [ -b /dev/$1 ]; do usleep 100000; done; dom0-load disk /dev/$1 $MIB" ||
        failed "the guest's check of $1"
    [ "$(sum g1 "$1")" = "$sum" ] || failed "the guest sees another $1"
}
# sum GUEST DISK
sum() {
    shell "$1" "dd if=/dev/$2 bs=1M count=$MIB 2>/dev/null | md5sum" | grep -- -
}
attach() {
    $tool block-attach g1 "$(disk "$@")" || failed "block-attach $*"
}
detach() {
    for name; do
        $tool block-detach g1 "$name" || failed "block-detach $name"
    done
}
# shown NUMBER...: the guest's disks are these, and connected.
shown() {
    local now
    now=$($tool block-list g1 | awk 'NR > 1 { print $1 "=" $4 }' | sort)
    [ "$now" = "$(printf '%s=4\n' "$@")" ] || failed "block-list: $now"
}
# restart_oxd SOCKET: kills `oxd`, and starts another one that says there when it is ready.
restart_oxd() {
    local listener
    killall -9 oxd
    rm -f /run/oxen/oxd.sock
    dom0-load await-ready "$1" 60 &
    listener=$!
    until_true grep -q "$1" /proc/net/unix || failed "nobody listens at $1"
    NOTIFY_SOCKET=$1 oxd >>/var/log/oxen/oxd.log 2>&1 &
    wait $listener || failed "oxd does not say at $1 that it is ready"
    # That is when its sockets are served.
    ox rename g1 g1 || failed "oxd said too early that it is ready"
    xenstore-read /local/domain/0/name || failed "oxd said too early that it is ready"
}

step "a guest, and what its disks are made of"
spawn g1 memory=128 disk=8 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
truncate -s 16M /guests/raw.img /guests/device.img
dd if=/dev/zero of=/guests/bad.qcow2 bs=1M count=1 2>/dev/null
for image in a b c; do
    qemu-img create -q -f qcow2 "/guests/$image.qcow2" 16M || failed "qemu-img"
done
device=$(losetup -f)
losetup "$device" /guests/device.img || failed "losetup"
lent=$(lent)

step "a file"
attach xvdb raw /guests/raw.img
shell g1 "until [ -b /dev/xvdb ]; do usleep 100000; done; dom0-load disk /dev/xvdb $MIB" ||
    failed "the guest's check of xvdb"
sum=$(sum g1 xvdb)
[ "$(dd if=/guests/raw.img bs=1M count=$MIB 2>/dev/null | md5sum)" = "$sum" ] ||
    failed "dom0 sees another disk"

step "a block device"
attach xvdc raw "$device"
used xvdc
detach xvdb xvdc
returned "a file and a block device"
cmp /guests/raw.img /guests/device.img || failed "dom0 sees another disk"

step "what is missing is named"
refused "No such file" $tool block-attach g1 "$(disk xvdb raw /guests/none.img)"
refused "there is no /dev/nbd0" $tool block-attach g1 "$(disk xvdb qcow2 /guests/a.qcow2)"
for module in $(cat /etc/drivers.kinds); do
    case $module in
    */nbd.ko) insmod "$module" nbds_max=2 ;;
    *) insmod "$module" ;;
    esac
done
refused "Image is not in qcow2 format" $tool block-attach g1 "$(disk xvdb qcow2 /guests/bad.qcow2)"
returned "what is missing"

step "an image"
attach xvdd qcow2 /guests/a.qcow2
used xvdd
shown 51712 51760
refused "in use by vbd 51760" $tool block-attach g1 "$(disk xvde qcow2 /guests/a.qcow2)"
detach xvdd
[ -z "$(pidof qemu-nbd)" ] || failed "the image's server runs after block-detach"
qemu-img compare /guests/a.qcow2 /guests/raw.img || failed "the image holds something else"
qemu-img check /guests/a.qcow2 || failed "the image is damaged"
returned "an image"
before=$(kept)

step "more images than devices"
attach xvdd qcow2 /guests/b.qcow2
attach xvde qcow2 /guests/c.qcow2
refused "all of /dev/nbd* are in use" $tool block-attach g1 "$(disk xvdb qcow2 /guests/a.qcow2)"
shown 51712 51760 51776
detach xvdd xvde
returned "two images"

step "oxd is killed while an image is in use"
attach xvdd qcow2 /guests/b.qcow2
shell g1 "until [ -b /dev/xvdd ]; do usleep 100000; done; \
(dom0-load disk /dev/xvdd $MIB; echo status \$?) >/run/checked 2>&1 &" || failed "no check begun"
restart_oxd /run/notify
shell g1 "until grep status /run/checked; do usleep 100000; done; cat /run/checked" |
    grep "status 0" || failed "the guest's check of xvdd"
used xvdd
restart_oxd @oxd-ready
detach xvdd
returned "an image whose oxd was killed"
qemu-img compare /guests/b.qcow2 /guests/raw.img || failed "the image holds something else"

step "oxd is killed between an image and its disk"
served() {
    qemu-nbd --fork "$@" --format=qcow2 || failed "qemu-nbd"
}
served --description=oxd --connect=/dev/nbd0 /guests/b.qcow2
served --connect=/dev/nbd1 /guests/c.qcow2
restart_oxd /run/notify3
pidof qemu-nbd | grep "^[0-9]*$" || failed "not one server is left, but: $(pidof qemu-nbd)"
qemu-nbd --disconnect /dev/nbd1
returned "an image without a disk"

step "a script's disk"
cat >/etc/xen/scripts/block-mine <<'SCRIPT'
#!/bin/sh
case $1 in
add)
    loop=$(losetup -f)
    if ! losetup "$loop" "$(xenstore-read "$XENBUS_PATH/params")"; then
        xenstore-write "$XENBUS_PATH/hotplug-error" "mine has no such file"
        exit 1
    fi
    xenstore-write "$XENBUS_PATH/node" "$loop"
    xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$loop")"
    ;;
remove) losetup -d "$(xenstore-read "$XENBUS_PATH/node")" ;;
esac
SCRIPT
chmod +x /etc/xen/scripts/block-mine
refused "mine has no such file" $tool block-attach g1 "script=block-mine,$(disk xvdf raw /guests/none.img)"
$tool block-attach g1 "script=block-mine,$(disk xvdf raw /guests/raw.img)" || failed "block-attach"
used xvdf
detach xvdf
returned "a script's disk"
unchanged

step "an image in the configuration, at create and reboot"
image="format=qcow2, vdev=xvda, access=rw, target=/guests/a.qcow2"
other() {
    sed "s/\"g1\"/\"g2\"/; s/10\.0\.3\.11/10.0.3.12/; s/00:0b/00:0c/; s|^disk = .*|disk = [ $1 ]|" \
        /run/g1.cfg >/run/g2.cfg
}
other "\"$image\", \"$(disk xvdb raw /guests/none.img)\""
refused "No such file" $tool create /run/g2.cfg
returned "a guest that was not made"
other "\"$image\""
$tool create /run/g2.cfg || failed "create"
await g2 "$READY" 300 || failed "the guest's init"
[ "$(sum g2 xvda)" = "$sum" ] || failed "the other guest sees another image"
$tool reboot g2 || failed "reboot"
until_true eval '[ "$(grep -c "$READY" "$(console g2)")" = 2 ]' || failed "no guest after a reboot"
[ "$(sum g2 xvda)" = "$sum" ] || failed "after a reboot it sees another image"
$tool destroy g2 || failed "destroy"
gone g2 || failed "g2 is still there"
returned "a guest with an image"
qemu-img compare /guests/a.qcow2 /guests/raw.img || failed "the image holds something else"
