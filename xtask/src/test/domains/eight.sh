# $count guests at once, some with four CPUs. Each checks $mib MiB of its disk, pings dom0 and its
# neighbour, and moves MiB over TCP to both and back, all at the same time, while CPUs and memory
# of some are changed.
step "create $count guests"
for number in $(seq "$count"); do
    # Two of three have more CPUs than the machine.
    vcpus=$((number % 3 ? 4 : 1))
    spawn "g$number" disk=$((mib + 8)) vcpus=$vcpus more="maxmem = 160" || failed "create g$number"
done
for number in $(seq "$count"); do
    await "g$number" "$READY" 900 || failed "the init of g$number"
    shell "g$number" "(dom0-load serve 0.0.0.0:7 &) >/dev/null 2>&1" || failed "the server of g$number"
done

# A guest's CPUs that come back are put online by udev, of which this is the part.
online='(while sleep 1; do for cpu in /sys/devices/system/cpu/cpu[1-9]*; do echo 1 >$cpu/online; done; done)'
shell g1 "$online >/dev/null 2>&1 &" || failed "udev's part in g1"

step "work"
seconds=1800
work() {
    local address=10.0.3.$((10 + $1 % count + 1))
    shell "g$1" "dom0-load disk /dev/xvda $mib && ping -c 3 10.0.3.1 && ping -c 3 $address" &&
        shell "g$1" "dom0-load tcp 10.0.3.1:7 $((mib / 4)) && dom0-load tcp $address:7 $((mib / 4))"
}
workers=
for number in $(seq "$count"); do
    (work "$number" || { echo "g$number has failed"; exit 1; }) &
    workers="$workers $!"
done
for round in 1 2 3 4; do
    $tool vcpu-set g1 $((round % 2 ? 2 : 4)) || failed "vcpu-set"
    $tool mem-set g2 $((round % 2 ? 112 : 160)) || failed "mem-set"
    ping -c 10 10.0.3.11 >/dev/null || failed "ping to g1"
done
for worker in $workers; do
    wait "$worker" || failed "a guest's work"
done
all='for try in $(seq 60); do [ $(nproc) = 4 ] && break; sleep 1; done; [ $(nproc) = 4 ]'
shell g1 "$all" || failed "g1 does not have its four CPUs back"

step "dom0 sees the same disks"
for number in $(seq "$count"); do
    inside=$(shell "g$number" "dd if=/dev/xvda bs=1M count=$mib 2>/dev/null | md5sum" | grep -- -)
    outside=$(dd if="/guests/g$number.img" bs=1M count="$mib" 2>/dev/null | md5sum)
    [ "$inside" = "$outside" ] || failed "the disk of g$number: $inside, $outside"
done

step "end"
for number in $(seq "$count"); do
    $tool shutdown "g$number" || failed "shutdown"
done
for number in $(seq "$count"); do
    gone "g$number" 300 || failed "g$number did not end"
done
# Tables of dom0 that grew for so many guests stay as large, so memory is not compared here.
[ "$(kept | grep -v -e free -e nodes)" = "$(echo "$before" | grep -v -e free -e nodes)" ] ||
    failed "something is left"
