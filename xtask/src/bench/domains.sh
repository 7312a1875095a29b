# Measures guests, in dom0. Prints "row NAME|VALUE", with times in milliseconds.
. /lib/guests.sh
dmesg -n 1
now() {
    tr -d . </proc/uptime | cut -d' ' -f1
}
row() {
    echo "row $1|$2"
}
# Milliseconds since `now` said $1.
since() {
    echo $((($(now) - $1) * 10))
}
failed() {
    echo "failed: $1"
    exit 1
}
free_kib() {
    dom0-load memory | sed -n 's/free //p'
}
# The same once what was given back has been scrubbed, and no more comes.
settled() {
    local free=none
    until [ "$free" = "$(free_kib)" ]; do
        free=$(free_kib)
        sleep 2
    done
    echo "$free"
}
dom0-load serve 10.0.3.1:7 &

# The first one brings the files into memory.
spawn g1 >/dev/null || failed "create"
await g1 "$READY" 600 || failed "init"
$tool destroy g1 && gone g1 || failed "destroy"

free=$(settled)
start=$(now)
spawn g1 memory=256 disk=80 >/dev/null || failed "create"
row "create, until the command ends" "$(since "$start")"
await g1 "$READY" 600 || failed "init"
row "create, until the guest's init" "$(since "$start")"
used=$((free - $(free_kib)))
row "KiB for a guest of 256 MiB, beyond those" $((used - 256 * 1024))
# Whatever the guest still has to do would count.
sleep 5
start=$(now)
for turn in 1 2 3 4 5 6 7 8 9 10; do
    $tool list >/dev/null
done
row "ten times list" "$(since "$start")"

took() {
    sed -n 's/.* in \([0-9]*\)\.\([0-9]\) s.*/\1\200/p'
}
row "disk, 64 MiB written and read" "$(shell g1 "dom0-load disk /dev/xvda 64" | took)"
row "TCP, 16 MiB there and back" "$(shell g1 "dom0-load tcp 10.0.3.1:7 16" | took)"
row "ping, microseconds" "$(ping -c 20 10.0.3.11 | sed -n 's,.*= [0-9.]*/\([0-9]*\)\.\([0-9]*\)/.*,\1\2,p')"

start=$(now)
if $tool save g1 /guests/g1.save >/dev/null; then
    row "save of 256 MiB" "$(since "$start")"
    start=$(now)
    $tool restore /guests/g1.save >/dev/null || failed "restore"
    row "restore of 256 MiB" "$(since "$start")"
    shell g1 true || failed "the restored guest"
fi
start=$(now)
$tool destroy g1 && gone g1 || failed "destroy"
row "destroy" "$(since "$start")"

free=$(settled)
$tool create /guests/hello.cfg 'extra="stay=yes"' >/dev/null || failed "create hello"
await hello "hello: done" 60 || failed "hello"
row "guests of 8 MiB in a GiB" $((1024 * 1024 / (free - $(free_kib))))
$tool destroy hello && gone hello || failed "destroy hello"
