# Guests that mean harm: $count times 10000 random hypercalls, then rings and page tables full of
# nonsense. A life may end early, by its own doing; another follows. Nobody else notices.
steps=0
seed=1

# lived NAME LOG: waits for the end of a guest. One that has stopped itself for good, or runs in circles,
# says nothing any more, and is ended.
lived() {
    local before now=none
    until gone "$1" 10 >/dev/null; do
        before=$now
        now=$(stat -c %s "$2" 2>/dev/null)
        [ "$now" != "$before" ] || { $tool destroy "$1"; return; }
    done
}

# harm MODE STEPS SEED: one life of such a guest; adds what it did to $steps.
harm() {
    local log took
    cat >/run/harm.cfg <<CONFIG
name = "harm"
kernel = "/guests/pv-fuzz"
memory = 32
extra = "mode=$1 count=$2 seed=$3"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
on_soft_reset = "destroy"
CONFIG
    log=$(console harm)
    rm -f "$log"
    $tool create /run/harm.cfg >/dev/null || failed "create a guest with seed $3"
    lived harm "$log"
    gone harm || failed "the guest with seed $3 cannot be destroyed"
    grep -v "called from" "$log" | tail -n 2 | tr -d '\r'
    took=$(sed -n 's/.*FUZZ .*steps\{0,1\} \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    steps=$((steps + ${took:-0}))
}

step "a neighbour"
spawn g1 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
harm calls 1000 0
before=$(kept)

for mode in calls rings tables; do
    wanted=$((count * 10000))
    [ $mode = calls ] || wanted=$((wanted / 10))
    steps=0
    lives=0
    while [ $steps -lt $wanted ]; do
        left=$((wanted - steps))
        harm $mode $((left < 100000 ? left : 100000)) $seed
        seed=$((seed + 1))
        lives=$((lives + 1))
        [ $((lives % 20)) != 0 ] || step "$mode: $steps steps in $lives lives so far"
        [ $lives -lt 2000 ] || failed "$mode: $steps steps in $lives lives"
    done
    step "$mode: $steps steps in $lives lives"
    same "$before" || failed "something is left"
done

step "the neighbour"
shell g1 "dom0-load disk /dev/xvda 16" || failed "its disk"
shell g1 "ping -c 3 10.0.3.1" || failed "its card"
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
