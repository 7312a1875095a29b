# The example guests of pv-drivers, each with one vCPU and with four; what they say is checked.

# one NAME VCPUS LAST: a guest from its making to its end; LAST is a part of its last line.
one() {
    local log
    step "$1 with $2 vCPUs"
    sed "s/^vcpus = .*/vcpus = $2/" "/guests/$1.cfg" >"/run/$1.cfg"
    log=$(console "$1")
    rm -f "$log"
    $tool create "/run/$1.cfg" >/dev/null || failed "create $1"
    gone "$1" 300 || { cat "$log"; failed "$1 does not end"; }
    dom0-load await "$log" "$3" 20 >/dev/null || { cat "$log"; failed "$1 with $2 vCPUs"; }
    tr -d '\r' <"$log"
}

# The first guest of all leaves nodes for the next ones.
one hello 1 "hello: done"
before=$(kept)
for vcpus in 1 4; do
    one hello $vcpus "hello: done"
    grep -q "hello: $vcpus vCPUs" "$(console hello)" || failed "hello's vCPUs"
done
# Xen keeps a page or two of its own.
[ $tool = xl ] || same "$before" || failed "something is left"
