# $count times, half of them with one CPU and half with two: a busy guest is saved and restored, and
# goes on as if nothing had been. Then checkpoints, snapshots, and damaged files.
step "once without counting, for what is made once and stays"
spawn g1 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
before=$(kept)

# busy_guest VCPUS: a new busy guest in the place of the one there is.
busy_guest() {
    step "a busy guest with $1 CPU"
    if $tool domid g1 >/dev/null 2>&1; then
        $tool destroy g1 || failed "destroy"
        gone g1 || failed "g1 is still there"
    fi
    spawn g1 vcpus=$1 || failed "create"
    await g1 "$READY" 300 || failed "the guest's init"
    shell g1 "busy start" || failed "the guest's work"
}

# Rounds that a guest lives: Linux 6.1 loses one to three MiB at each restore, on Xen as on Oxen.
life=10

for round in $(seq "$count"); do
    half=$(((count + 1) / 2))
    vcpus=$((round > half ? 2 : 1))
    [ $((round % life)) != 1 ] && [ "$round" != $((half + 1)) ] || busy_guest $vcpus
    $tool save g1 /guests/g1.save >/dev/null || failed "save in round $round"
    gone g1 || failed "the saved guest is still there in round $round"
    $tool restore /guests/g1.save >/dev/null || failed "restore in round $round"
    shell g1 "busy check" || failed "the guest's work in round $round"
    from=$(date +%s)
    inside=$(shell g1 "date +%s" | tr -dc 0-9)
    [ "$inside" -ge $((from - 2)) ] && [ "$inside" -le $(($(date +%s) + 2)) ] ||
        failed "the guest's clock says $inside, not $from, in round $round"
    step "round $round, $(shell g1 "grep MemAvailable /proc/meminfo" | tr -s ' \n' ' ')"
done

if [ $tool = ox ]; then
    ox save -c g1 /guests/g1.save || failed "checkpoint"
    shell g1 "busy check" || failed "the guest's work after a checkpoint"
    step "checkpoint"
    for round in $(seq "$count"); do
        [ $((round % life)) != 1 ] || busy_guest 2
        ox snapshot g1 one || failed "snapshot in round $round"
        shell g1 "busy check" || failed "the guest's work after snapshot $round"
        ox snapshot revert g1 one || failed "revert in round $round"
        # What dom0 got since then the guest has yet to send: no connection survives that.
        shell g1 "busy connect" || failed "a new connection after revert $round"
        shell g1 "busy check" || failed "the guest's work after revert $round"
        ox snapshot delete g1 one || failed "delete in round $round"
        step "snapshot $round"
    done
fi

step "damaged files"
$tool save g1 /guests/g1.save >/dev/null || failed "save"
gone g1 || failed "the saved guest is still there"
size=$(stat -c %s /guests/g1.save)
empty=$(kept)
for round in 1 2 3 4 5; do
    cut=$(($(od -An -N4 -tu4 /dev/urandom) % size))
    head -c "$cut" /guests/g1.save >/guests/damaged.save
    $tool restore /guests/damaged.save >/run/said 2>&1 && failed "restored from $cut bytes of $size"
    [ -s /run/said ] || failed "no reason why $cut bytes of $size are refused"
    same "$empty" || failed "something is left of $cut bytes of $size"
    # xl looks at no checksum.
    [ $tool = ox ] || continue
    cp /guests/g1.save /guests/damaged.save
    old=$(dd if=/guests/g1.save bs=1 skip="$cut" count=1 2>/dev/null | od -An -tu1)
    printf "\\$(printf %o $((old ^ 64)))" |
        dd of=/guests/damaged.save bs=1 seek="$cut" conv=notrunc 2>/dev/null
    ox restore /guests/damaged.save >/run/said 2>&1 && failed "restored with byte $cut flipped"
    same "$empty" || failed "something is left of a file with byte $cut flipped"
done
$tool restore /guests/g1.save || failed "the whole file, after all"
shell g1 "busy check" || failed "the guest's work at the end"
$tool destroy g1 || failed "destroy"
gone g1
same "$before" || failed "something is left"
