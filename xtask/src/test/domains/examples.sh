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
    local tries=30
    until printf '%s\n' "$3" | timeout 20 nc "$1" "$2" >/run/told 2>/dev/null && [ -s /run/told ]; do
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
