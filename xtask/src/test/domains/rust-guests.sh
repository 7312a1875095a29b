# The example guests of pv-drivers, each with one vCPU and with four; what they say is checked.

# ended NAME LAST: waits for a guest's end, shows what it said, and looks for its last line.
ended() {
    local log
    log=$(console "$1")
    gone "$1" 300 || { cat "$log"; failed "$1 does not end"; }
    dom0-load await "$log" "$2" 20 >/dev/null || { cat "$log"; failed "$1: no \"$2\""; }
    tr -d '\r' <"$log"
}

# one GUEST VCPUS LAST [WORDS]: a guest from its making to its end; LAST is a part of its last line.
one() {
    step "$1 with $2 vCPUs"
    make "$1" "$1" "$2" "$4"
    ended "$1" "$3"
}

# pair GUEST VCPUS LAST [WORDS]: two copies, introduced to each other.
pair() {
    local a b
    step "two of $1 with $2 vCPUs"
    make "$1-a" "$1" "$2" "role=serve $4"
    make "$1-b" "$1" "$2" "role=visit $4"
    a=$($tool domid "$1-a") b=$($tool domid "$1-b")
    xenstore-write "/local/domain/$a/data/peer" "$b" "/local/domain/$b/data/peer" "$a" ||
        failed "introduce"
    ended "$1-a" "$3"
    ended "$1-b" "$3"
}

# moved NAME: saves a guest and restores it.
moved() {
    $tool save "$1" "/guests/$1.save" >/dev/null || failed "save $1"
    gone "$1" || failed "the saved $1 is still there"
    $tool restore "/guests/$1.save" >/dev/null || failed "restore $1"
    rm -f "/guests/$1.save"
}

# sized NAME MIB: gives a guest so much memory, and waits until it has.
sized() {
    $tool mem-set "$1" "$2" || failed "mem-set $1 $2"
    until_true eval "[ \"\$($tool list $1 | tail -n 1 | tr -s ' ' | cut -d' ' -f3)\" = $2 ]" ||
        failed "$1 has not $2 MiB"
}

# sound TIMES PLACE: waits until `stress` has found all sound since it was suspended for the nth time.
sound() {
    await life "suspended $1 times, $2, 0 errors" 180 || failed "stress, suspended $1 times"
}

# life VCPUS: `stress` watches itself while it is saved and restored, smaller and larger, and copied.
life() {
    step "the life of stress with $1 vCPUs"
    rm -f /guests/life.img
    truncate -s 1M /guests/life.img
    cp /guests/stress.cfg /guests/life.cfg
    echo 'disk = [ "format=raw, vdev=xvda, access=rw, target=/guests/life.img" ]' >>/guests/life.cfg
    make life life "$1" "mode=life"
    await life "watching on $1 vCPUs, disk: true" 120 || failed "stress does not begin"
    moved life
    sound 1 elsewhere
    sized life 24
    moved life
    sound 2 elsewhere
    sized life 32
    $tool save -c life /guests/life.save >/dev/null || failed "save -c"
    sound 3 here
    $tool shutdown life || failed "shutdown"
    ended life "stress: done, 0 errors"
    rm -f /guests/life.img /guests/life.save
}

# echo VCPUS MIB: so many MiB to the TCP server and back, every byte checked, over dom0's bridge.
echo_server() {
    step "echo with $1 vCPUs, $2 MiB"
    make echo echo "$1"
    await echo "echo: ready" 60 || failed "echo does not begin"
    dom0-load tcp 10.0.3.30:7 "$2" || { tail -n 5 "$(console echo)"; failed "echo"; }
    moved echo
    until_true dom0-load tcp 10.0.3.30:7 1 || failed "echo after its restore"
    $tool shutdown echo || failed "shutdown"
    gone echo || failed "echo does not end"
}

# kv_server VCPUS KILLS: writes as fast as they are acknowledged, until the guest is killed; the next
# life must know all that was acknowledged.
kv_server() {
    local life=0 next=1 acknowledged kept writer
    step "kv with $1 vCPUs, $2 kills"
    rm -f /guests/kv.img
    truncate -s 2M /guests/kv.img
    while :; do
        make kv kv "$1"
        await kv "ready at" 60 || failed "kv does not begin"
        ask count >/dev/null || failed "kv is not reached"
        if [ $next -gt 1 ]; then
            kept=$(ask "get n")
            kept=${kept#value }
            [ "${kept:-0}" -ge "$acknowledged" ] || {
                cat "$(console kv)"
                failed "kv acknowledged $acknowledged and kept \"$kept\""
            }
            next=$((kept + 1))
        fi
        [ $life -lt "$2" ] || break
        life=$((life + 1))
        seq $next $((next + 100000)) | sed 's/^/set n /' |
            timeout 60 nc 10.0.3.31 6379 >/run/answers 2>/dev/null &
        writer=$!
        until_true test -s /run/answers || failed "kv acknowledges nothing"
        # Up to 1.3 s.
        usleep $(($(od -An -N2 -tu2 /dev/urandom) * 20))
        $tool destroy kv || failed "destroy"
        gone kv || failed "kv is still there"
        kill $writer 2>/dev/null
        acknowledged=$((next - 1 + $(grep -c '^ok' /run/answers)))
        next=$((acknowledged + 1))
    done
    [ "$acknowledged" -gt 0 ] || failed "kv acknowledged nothing"
    echo "kv: $acknowledged writes acknowledged over $life lives, none lost"
    [ "$(ask "del n")" = ok ] && [ "$(ask "get n")" = none ] || failed "kv: del"
    $tool shutdown kv || failed "shutdown"
    gone kv || failed "kv does not end"
    rm -f /guests/kv.img
}

# disk VCPUS: everything that a disk can be asked for, every byte checked.
disk() {
    truncate -s 64M /guests/iobench.img
    one iobench "$1" "iobench: done" "mib=16 disk=check"
    rm -f /guests/iobench.img
}

# The guest of docs/guest-tutorial.md.
tutorial() {
    step "the tutorial's guest"
    make my-guest my-guest 1
    await my-guest "ready at" 60 || failed "the tutorial's guest does not begin"
    told 10.0.3.32 80 hello | grep '^seconds: 0' || failed "the tutorial's guest"
    $tool shutdown my-guest || failed "shutdown"
    gone my-guest || failed "the tutorial's guest does not end"
}

# The first guests of all, with a disk and a card, leave nodes for the next ones.
one hello 1 "hello: done"
truncate -s 2M /guests/kv.img
make kv kv 1
await kv "ready at" 60 || failed "kv does not begin"
$tool destroy kv || failed "destroy"
gone kv || failed "kv is still there"
before=$(kept)
tutorial
crowd 10
for vcpus in 1 4; do
    one hello $vcpus "hello: done"
    grep -q "hello: $vcpus vCPUs" "$(console hello)" || failed "hello's vCPUs"
    one stress $vcpus "stress: done, 0 errors" "rounds=20"
    pair stress $vcpus "stress: done, 0 errors" "rounds=10"
    life $vcpus
    one microbench $vcpus "microbench: done"
    pair microbench $vcpus "microbench: done"
    echo_server $vcpus $((vcpus == 1 ? 64 : 16))
    disk $vcpus
    kv_server $vcpus $((vcpus == 1 ? count : 2))
done
# Xen keeps a page or two of its own.
[ $tool = xl ] || same "$before" || failed "something is left"
