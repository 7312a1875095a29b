# Guests that attack: $count times 10000 random hypercalls by two vCPUs at once, a hundredth of that by a
# driver domain, then rings and page tables full of nonsense. A life may end early, by its own doing;
# another follows. The neighbour, a Linux guest that checks itself, and dom0 notice nothing.
calls=0
seed=${seed:-1}

# lived NAME LOG: waits for the end of a guest. One that has stopped itself for good, or runs in circles,
# says nothing any more, and is destroyed.
lived() {
    local before now=none
    until gone "$1" 10 >/dev/null; do
        before=$now
        now=$(stat -c %s "$2" 2>/dev/null)
        [ "$now" != "$before" ] || { $tool destroy "$1"; return; }
    done
}

# harm MODE CALLS SEED [MORE]: one life of such a guest, with more of its configuration; adds the calls
# that it made to $calls.
harm() {
    local log made
    cat >/run/harm.cfg <<CONFIG
name = "harm"
kernel = "/guests/pv-fuzz"
memory = 32
vcpus = 2
extra = "mode=$1 count=$2 seed=$3"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
on_soft_reset = "destroy"
$4
CONFIG
    log=$(console harm)
    rm -f "$log"
    $tool create /run/harm.cfg >/dev/null || failed "create a guest with seed $3"
    lived harm "$log"
    gone harm || failed "the guest with seed $3 cannot be destroyed"
    grep FUZZ "$log" | tail -n 1 | tr -d '\r'
    made=$(sed -n 's/.*FUZZ .* calls \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    calls=$((calls + ${made:-0}))
}

# neighbour: the Linux guest checks its memory, disk and card.
neighbour() {
    shell g1 "dom0-load disk /dev/xvda 4" || failed "the neighbour's disk"
    shell g1 "ping -c 1 10.0.3.1" >/dev/null || failed "the neighbour's card"
}

# attack NAME MODE CALLS [MORE]: lives in that mode until so many calls are made.
attack() {
    local lives=0
    calls=0
    while [ $calls -lt $3 ]; do
        harm $2 $((($3 - calls) * 2)) $seed "$4"
        seed=$((seed + 1))
        lives=$((lives + 1))
        [ $((lives % 20)) != 0 ] || {
            step "$1: $calls calls in $lives lives so far, $(cut -d' ' -f1 /proc/uptime) s"
            neighbour
        }
        # What makes no calls is given as many lives as it would have taken.
        [ $2 = calls ] || calls=$((calls + 10000))
    done
    step "$1: $calls calls in $lives lives"
    same "$before" || failed "something is left"
    neighbour
}

step "a neighbour"
spawn g1 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
harm calls 1000 0
before=$(kept)

attack "page tables" tables $((count * 1000))
attack "rings" rings $((count * 1000))
attack "a driver domain" calls $((count * 100)) 'driver_domain = 1
irqs = [ 3 ]
ioports = [ "2f8-2ff" ]
iomem = [ "a0,20" ]'
attack "a plain domain" calls $((count * 10000))

step "the neighbour"
shell g1 "dom0-load disk /dev/xvda 16" || failed "its disk"
shell g1 "ping -c 3 10.0.3.1" || failed "its card"
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
