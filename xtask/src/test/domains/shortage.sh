# Guests are made, asked about and destroyed while allocations of the hypervisor fail. Any of these
# steps may fail; the machine goes on, nothing of a guest is left, and some get through.
made=0
for n in $(seq "$count"); do
    if spawn g1 memory=32 >/dev/null 2>&1; then
        made=$((made + 1))
        $tool list >/dev/null
        $tool pause g1 >/dev/null 2>&1
        $tool unpause g1 >/dev/null 2>&1
    fi
    tries=0
    while $tool domid g1 >/dev/null 2>&1; do
        $tool destroy g1 >/dev/null 2>&1
        tries=$((tries + 1))
        [ $tries -lt 100 ] || failed "g1 cannot be destroyed"
        usleep 100000
    done
done
step "$made of $count guests were made"
[ "$made" -gt 0 ] || failed "no guest was made"
[ "$made" -lt "$count" ] || failed "no allocation failed"
$tool list
