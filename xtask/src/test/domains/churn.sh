# $count times: a guest is made and destroyed in whatever state it happens to be, and every third time
# the tools are killed at some moment. Nothing is left of any.
dice() {
    echo $(($(od -An -N2 -tu2 /dev/urandom) % $1))
}
# Kills the tools at some moment from now on, and starts the daemon again.
kill_tools() {
    usleep "$(dice 3000)000"
    case $tool in
    xl) killall -9 xl 2>/dev/null ;;
    ox)
        killall -9 ox oxd 2>/dev/null
        rm -f /run/oxen/oxd.sock
        start_oxd
        ;;
    esac
}
# Destroys every domain but dom0, named or half made.
sweep() {
    local tries=100
    while [ "$($tool list | tail -n +2 | wc -l)" -gt 1 ]; do
        for domain in $($tool list | awk 'NR > 1 && $(NF-4) > 0 { print $(NF-4) }'); do
            $tool destroy "$domain" >/dev/null 2>&1
        done
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 100000
    done
}

step "once without counting, for what is made once and stays"
spawn g1 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
before=$(kept)

for round in $(seq "$count"); do
    if [ $((round % 3)) = 0 ]; then
        how="tools killed"
        spawn g1 >/dev/null 2>&1 &
        # Not `$!` later on: that is the new daemon then.
        creator=$!
        kill_tools
        wait $creator
    else
        spawn g1 >/dev/null || failed "create in round $round"
        case $(dice 4) in
        0) how="just made" ;;
        1)
            how="paused"
            $tool pause g1
            ;;
        2)
            how="booting"
            usleep "$(dice 5000)000"
            ;;
        3)
            how="shutting down"
            await g1 "$READY" 300 || failed "the guest's init in round $round"
            $tool shutdown g1
            usleep "$(dice 1000)000"
            ;;
        esac
    fi
    sweep || failed "domains are left in round $round ($how)"
    same "$before" || failed "something is left in round $round ($how)"
    step "round $round: $how"
done
