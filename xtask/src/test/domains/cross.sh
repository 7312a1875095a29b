# A busy guest leaves for another machine ($way is "out"), or comes from one ("in"): its disk and its
# saved state travel on a disk of the machine.
for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial" 2>/dev/null)" = guests ] || luggage=/dev/${disk##*/}
done

case $way in
out)
    step "a busy guest"
    spawn g1 || failed "create"
    await g1 "$READY" 300 || failed "the guest's init"
    shell g1 "busy start" || failed "the guest's work"
    shell g1 "busy check" || failed "the guest's work before it leaves"
    shell g1 "busy part" || failed "the guest's leave"
    $tool save g1 /guests/g1.save >/dev/null || failed "save"
    gone g1 || failed "the saved guest is still there"
    tar c -C /guests g1.img g1.save | dd of="$luggage" bs=1M conv=fsync 2>/dev/null ||
        failed "no room for the luggage"
    step "saved"
    ;;
in)
    tar x -C /guests <"$luggage" || failed "the luggage is damaged"
    $tool restore /guests/g1.save || failed "restore"
    shell g1 'for try in $(seq 60); do ping -c 1 -W 1 10.0.3.1 && exit 0; done; exit 1' ||
        failed "the restored guest's card"
    # The other end of its connections has stayed behind.
    shell g1 "busy connect" || failed "a new connection"
    shell g1 "busy check" || failed "the guest's work"
    $tool destroy g1 || failed "destroy"
    gone g1 || failed "g1 is still there"
    step "restored"
    ;;
esac
