# What becomes of a guest that reboots, crashes or powers off: what its configuration says. Its memory
# is dumped when it says so, and on demand.
case $tool in
xl) dumps=/var/lib/xen/dump ;;
ox) dumps=/var/lib/oxen/dump ;;
esac
# boots NAME NUMBER: waits until the console has seen so many boots.
boots() {
    local tries=600
    until [ "$(grep -c "$READY" "$(console "$1")")" -ge "$2" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { tail -n 20 "$(console "$1")"; return 1; }
        usleep 500000
    done
}
# another NAME ID: waits until the domain of that name has another number, and says which.
another() {
    local tries=300 now
    until now=$($tool domid "$1" 2>/dev/null) && [ "$now" != "$2" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { $tool list >&2; return 1; }
        usleep 200000
    done
    echo "$now"
}
# crash NAME: its kernel panics in a second.
crash() {
    shell "$1" "(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &"
}
# stopped NAME: whether it is there, and its kernel is not any more.
stopped() {
    $tool list "$1" | grep -q -- "---s"
}
# is_core FILE: whether it is an ELF file of 96 MiB at least.
is_core() {
    [ "$(head -c 4 "$1" | tail -c 3)" = ELF ] && [ "$(stat -c %s "$1")" -ge $((96 << 20)) ]
}

step "once without counting, for what is made once and stays"
spawn g1 memory=96 || failed "create"
boots g1 1 || failed "the guest's init"
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
before=$(kept)

spawn g1 memory=96 more='on_reboot = "restart"
on_crash = "coredump-restart"
on_poweroff = "preserve"' || failed "create"
boots g1 2 || failed "the guest's init"
first=$($tool domid g1)
$tool dump-core g1 /guests/g1.core || failed "dump-core"
is_core /guests/g1.core || failed "dump-core wrote no core"
rm /guests/g1.core
shell g1 true || failed "the guest after dump-core"
step "dumped while it runs"
$tool reboot g1 || failed "reboot"
second=$(another g1 "$first") || failed "no guest after a reboot"
boots g1 3 || failed "the guest's init after a reboot"
step "reboot: domain $second for $first"
crash g1
third=$(another g1 "$second") || failed "no guest after a crash"
core=$(ls $dumps/*g1*) || failed "no core dump of the crash"
is_core "$core" || failed "the dump of the crash is no core"
rm "$core"
boots g1 4 || failed "the guest's init after a crash"
step "crash: domain $third for $second, and its dump"
$tool shutdown g1 || failed "shutdown"
until_true stopped g1 || failed "the guest that powered off is not kept"
[ "$($tool domid g1)" = "$third" ] || failed "another guest than the one that powered off"
$tool destroy g1 || failed "destroy what was kept"
gone g1 || failed "g1 is still there"
same "$before" || failed "something is left"
step "power-off: kept until it is destroyed"

spawn g2 memory=96 more='on_crash = "rename-restart"
on_reboot = "destroy"' || failed "create"
boots g2 1 || failed "the guest's init"
first=$($tool domid g2)
crash g2
second=$(another g2 "$first") || failed "no guest after a crash"
if [ $tool = ox ]; then
    until_true stopped "g2-$first" || failed "the guest that crashed is not kept"
    ox dump-core "g2-$first" /guests/g2.core || failed "dump what was kept"
    is_core /guests/g2.core || failed "the dump of what was kept is no core"
    rm /guests/g2.core
    ox destroy "g2-$first" || failed "destroy what was kept"
fi
boots g2 2 || failed "the guest's init after a crash"
step "crash: domain $second for $first, which is kept"
$tool reboot g2 || failed "reboot"
gone g2 || failed "the guest that rebooted is still there"
[ $tool = xl ] || same "$before" || failed "something is left"
