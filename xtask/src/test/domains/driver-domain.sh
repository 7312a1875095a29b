# A domain without rights over others serves the disks and cards of a Linux guest and of Rust guests;
# it is destroyed while they use them, and another one powers off under them.

# A configuration's disk as one of the driver domain's.
on_driver="s|target=/guests/kv.img|backend=driver, target=ram2|"

begin_driver() {
    make driver driver 1
    await driver "driver: ready" 60 || failed "the driver domain does not begin"
    driver=/local/domain/$($tool domid driver)
}

# disk NAME: a disk in the driver domain's memory.
disk() {
    echo "format=raw, vdev=$1, access=rw, backend=driver, target=ram4"
}

# ends NAME: destroys a guest.
ends() {
    $tool destroy "$1" || failed "destroy $1"
    gone "$1" || failed "$1 is still there"
}

# attached DISK: waits until the Linux guest has it, and has it write and read it.
attached() {
    local tries=60
    until shell g1 "test -b /dev/$1" >/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || failed "the guest does not see $1"
        sleep 1
    done
    shell g1 "dom0-load disk /dev/$1 4" || failed "the guest's check of $1"
}

# lost DISK: waits until the Linux guest has been told that it has gone.
lost() {
    local tries=60
    until shell g1 "test ! -e /sys/block/$1 || grep -qx 0 /sys/block/$1/size" >/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || failed "the guest does not see that $1 has gone"
        sleep 1
    done
}

# Xen keeps a page or two of its own, so there nothing is counted.
if [ $tool = ox ]; then
    step "once without counting, for what is made once and stays"
    begin_driver
    spawn g1 backend=driver disk=8 || failed "create"
    make kv kv 1 "" "$on_driver"
    ends kv
    ends g1
    ends driver
    before=$(kept)
fi

step "a Linux guest's disk and card"
begin_driver
spawn g1 backend=driver disk=8 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
g1=$($tool domid g1)
[ "/local/domain/$(xenstore-read "/local/domain/$g1/device/vbd/51712/backend-id")" = "$driver" ] ||
    failed "another domain serves it"
shell g1 "dom0-load disk /dev/xvda 8" || failed "the guest's check of its disk"

step "a Rust guest on the same switch"
make echo echo 1 "" "s/bridge=xenbr0/backend=driver/"
await echo "echo: ready" 60 || failed "echo does not begin"
shell g1 "dom0-load tcp 10.0.3.30:7 1" || { cat "$(console driver)"; failed "TCP over the switch"; }
echo=$($tool domid echo)
ends echo
until_true eval "! xenstore-exists $driver/backend/vif/$echo" || failed "the card's backend is left"

step "a Rust guest's disk"
make kv kv 1 "" "$on_driver"
await kv "ready at" 60 || failed "kv does not begin"
[ "$(ask "set a 1")" = ok ] && [ "$(ask "get a")" = "value 1" ] || failed "kv"

step "a disk comes and goes"
$tool block-attach g1 "$(disk xvdb)" || failed "block-attach"
attached xvdb
$tool block-detach g1 xvdb || failed "block-detach"
until_true eval "! xenstore-exists $driver/backend/vbd/$g1/51728" || failed "the disk's backend is left"
lost xvdb
$tool block-attach g1 "$(disk xvdb | sed s/backend=driver/backend=nobody/)" &&
    failed "a disk of a domain that is not there"
$tool block-attach g1 "$(disk xvdb | sed s/ram4/none/)" && failed "a disk that the domain refuses"

step "the driver domain is destroyed while its devices are in use"
shell g1 "(while :; do echo 1 >/proc/sys/vm/drop_caches
    dd if=/dev/xvda of=/dev/null bs=4k count=1; usleep 100000; done) >/dev/null 2>&1 &"
seq 1000000 | sed 's/^/set n /' | timeout 60 nc 10.0.3.31 6379 >/run/answers 2>/dev/null &
writer=$!
until_true test -s /run/answers || failed "kv acknowledges nothing"
ends driver
kill $writer 2>/dev/null
[ "$(ask "set b 2")" = failed ] || { cat "$(console kv)"; failed "kv does not see that its disk has gone"; }
# xl leaves it to the driver domain to tell its guests, and it had no time.
[ $tool = xl ] || lost xvda
shell g1 "echo the guest says that all else is well" || failed "the guest without its disk"

step "another one serves the same guest, and powers off"
begin_driver
$tool block-attach g1 "$(disk xvdc)" || failed "block-attach"
attached xvdc
$tool shutdown driver || failed "shutdown"
gone driver || failed "the driver domain does not end"
lost xvdc
ends kv
ends g1
[ $tool = xl ] || same "$before" || failed "something is left"
