# The example guests of pv-drivers, each with one vCPU and with four; what they say is checked.

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

# unwatched NAME: ends what has shut down; the process of `xl` that would do it left when the guest
# suspended itself for `save -c`.
unwatched() {
    until_true eval "$tool list $1 | grep -q -- '---s'" || failed "$1 does not shut down"
    $tool destroy "$1" || failed "destroy"
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
    [ $tool = xl ] && unwatched life
    ended life "stress: done, 0 errors"
    rm -f /guests/life.img /guests/life.save
}

# echo_server VCPUS MIB: what `echoing` asks, and that its server is there again when it is restored.
echo_server() {
    step "echo with $1 vCPUs, $2 MiB"
    echoing "$1" "$2"
    moved echo
    until_true dom0-load tcp 10.0.3.30:7 1 || failed "echo after its restore"
    shut echo
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
    shut my-guest
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
