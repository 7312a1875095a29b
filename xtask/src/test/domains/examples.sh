# What the scenarios with example guests share.

# make NAME GUEST VCPUS [WORDS of its command line] [SED]: creates an example guest of pv-drivers.
make() {
    sed "s/^vcpus = .*/vcpus = $3/; s/^name = .*/name = \"$1\"/; ${5:-}" "/guests/$2.cfg" >"/run/$1.cfg"
    [ -z "$4" ] || {
        sed -i '/^extra = /d' "/run/$1.cfg"
        echo "extra = \"$4\"" >>"/run/$1.cfg"
    }
    rm -f "$(console "$1")"
    $tool create "/run/$1.cfg" >/dev/null || failed "create $1"
}

# told ADDRESS PORT LINE: what a server says to a line. Until the bridge knows the guest's card, nobody
# is reached.
told() {
    local tries=60
    until printf '%s\n' "$3" | timeout 5 nc "$1" "$2" >/run/told 2>/dev/null && [ -s /run/told ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 1
    done
    cat /run/told
}

# ask LINE: what kv answers.
ask() {
    told 10.0.3.31 6379 "$1"
}

# crowd NUMBER: so many guests at once.
crowd() {
    local n=1
    step "$1 of hello at once"
    while [ $n -le "$1" ]; do
        make "hello-$n" hello 1 "stay=yes"
        n=$((n + 1))
    done
    n=1
    while [ $n -le "$1" ]; do
        dom0-load await "$(console "hello-$n")" "hello: done" 60 >/dev/null ||
            failed "hello-$n says nothing"
        $tool domid "hello-$n" >/dev/null || failed "hello-$n has gone"
        n=$((n + 1))
    done
    $tool list | tail -n 1
    while [ $n -gt 1 ]; do
        n=$((n - 1))
        $tool shutdown "hello-$n" >/dev/null || failed "shutdown"
    done
    while [ $n -le "$1" ]; do
        gone "hello-$n" || failed "hello-$n does not end"
        n=$((n + 1))
    done
}

# shut NAME: has a guest end by itself.
shut() {
    $tool shutdown "$1" || failed "shutdown $1"
    gone "$1" || failed "$1 does not end"
}

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

# echoing VCPUS MIB: so many MiB to the TCP server and back, every byte checked, over dom0's bridge.
echoing() {
    make echo echo "$1"
    await echo "echo: ready" 60 || failed "echo does not begin"
    dom0-load tcp 10.0.3.30:7 "$2" || { tail -n 5 "$(console echo)"; failed "echo"; }
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
    shut kv
    rm -f /guests/kv.img
}
