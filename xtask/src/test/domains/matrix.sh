# One cell of the matrix: a guest with console, disk and network card, from its making to its end.
step "create"
spawn g1 || failed "create"
await g1 "$READY" 300 || failed "the guest's init"
$tool list | grep -w g1 || failed "$tool list does not show it"

step "disk"
shell g1 "dom0-load disk /dev/xvda 16" || failed "the guest's check of its disk"
sums=$(shell g1 "dd if=/dev/xvda bs=1M count=16 2>/dev/null | md5sum" && dd if=/guests/g1.img bs=1M count=16 2>/dev/null | md5sum)
[ "$(echo "$sums" | grep -- - | uniq | wc -l)" = 1 ] || failed "dom0 sees another disk: $sums"

step "network"
shell g1 "ping -c 3 10.0.3.1" || failed "ping from the guest"
ping -c 3 10.0.3.11 || failed "ping to the guest"
shell g1 "dom0-load tcp 10.0.3.1:7 8" || failed "TCP"

step "pause and unpause"
$tool pause g1 || failed "pause"
$tool unpause g1 || failed "unpause"
shell g1 "echo the guest says that all is well" || failed "the guest after its pause"

step "shutdown"
$tool shutdown g1 || failed "shutdown"
gone g1 120 || failed "the guest did not end"

# Some of what the scenario `rust-guests` asks.
one hello 1 "hello: done"
one stress 4 "stress: done, 0 errors" "rounds=3"
one microbench 1 "microbench: done"
step "echo"
echoing 1 4
shut echo
kv_server 4 1

# Tables of dom0 that grew for the first guest stay as large, so a second one is measured.
step "create and destroy"
before=$(kept)
spawn g1 || failed "create again"
await g1 "$READY" 300 || failed "the guest's second init"
$tool destroy g1 || failed "destroy"
gone g1 || failed "the guest is still there"
same "$before" || failed "something is left"
