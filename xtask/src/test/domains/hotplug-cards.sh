# Cards of every kind come and go while a guest runs: bridged, under a name, in a VLAN, routed, and
# connected by a script. dom0's end of each is 10.0.x.1.

# card NUMBER PEER KEY=VALUE...: attaches a card whose address is that of the peer, but for a 2 at its
# end, and has the guest use it.
card() {
    local mac=00:16:3e:00:01:0$1 peer=$2
    shift 2
    $tool network-attach g1 "mac=$mac" "$@" || failed "network-attach $*"
    reaches "$mac" "$peer" || failed "the guest's check of its card ($*)"
    $tool network-list g1 | grep -q "$mac .* 4 " || failed "network-list does not show $mac"
}
# reaches MAC PEER: the guest's card of that address reaches dom0's end.
reaches() {
    shell g1 "until at=\$(grep -l $1 /sys/class/net/*/address); do usleep 100000; done; \
at=\${at%/address}; ifconfig \${at##*/} ${2%1}2 netmask 255.255.255.0 up; \
ping -c 3 $2 && dom0-load tcp $2:7 2"
}
uncard() {
    $tool network-detach g1 "00:16:3e:00:01:0$1" || failed "network-detach $1"
    returned "card $1"
}
# interface NUMBER: dom0's end of the guest's card.
interface() {
    echo "vif$($tool domid g1).$1"
}

step "bridges, VLANs and addresses in dom0"
ip addr add 10.0.4.1/24 dev xenbr0
ip addr add 10.0.9.1/32 dev lo
brctl addbr xenbr1
# Not the usual one: no port with a VLAN of its own may stay in it.
echo 3 >/sys/class/net/xenbr1/bridge/default_pvid
echo 1 >/sys/class/net/xenbr1/bridge/vlan_filtering
ip link set xenbr1 up
bridge vlan add dev xenbr1 vid 7 self || failed "no VLAN for dom0"
ip link add link xenbr1 name vlan7 type vlan id 7 || failed "no interface for a VLAN"
ifconfig vlan7 10.0.7.1 netmask 255.255.255.0 up
for peer in 10.0.4.1 10.0.7.1 10.0.9.1; do
    dom0-load serve $peer:7 &
done
lent=$(lent)

step "what is missing is named"
refused "dom0 has no bridge none" $tool network-attach g1 bridge=none
refused "bridge xenbr0 does not tell VLANs apart" $tool network-attach g1 bridge=xenbr0 vlan=7
refused "cannot be called so" $tool network-attach g1 bridge=xenbr0 vifname=vlan7
refused "cannot run the script" $tool network-attach g1 bridge=xenbr0 script=vif-none
returned "what is missing"

step "a card on a bridge"
card 1 10.0.4.1 bridge=xenbr0
[ -e "/sys/class/net/xenbr0/brif/$(interface 1)" ] || failed "it is no port of its bridge"
uncard 1
before=$(kept)

step "a card with a name"
card 2 10.0.4.1 bridge=xenbr0 vifname=lan2
[ -e /sys/class/net/xenbr0/brif/lan2 ] || failed "its interface has another name"
restart_oxd /run/notify2
uncard 2

step "a card in a VLAN"
card 3 10.0.7.1 bridge=xenbr1 vlan=7
vlans=$(bridge vlan show dev "$(interface 1)" | tail -n +2)
echo $vlans | grep -x "$(interface 1) 7 PVID Egress Untagged" || failed "its VLANs: $vlans"
uncard 3
$tool network-attach g1 mac=00:16:3e:00:01:04 bridge=xenbr1 || failed "network-attach"
reaches 00:16:3e:00:01:04 10.0.7.1 && failed "a card outside of the VLAN is in it"
uncard 4

step "a routed card"
card 5 10.0.9.1 script=vif-route ip=10.0.9.2
ip route | grep "10.0.9.2 dev $(interface 1)" || failed "there is no route"
uncard 5

step "a card that a script connects"
cp /etc/xen/scripts/vif-bridge /etc/xen/scripts/vif-mine
card 6 10.0.4.1 bridge=xenbr0 script=vif-mine vifname=mine6
[ -e /sys/class/net/xenbr0/brif/mine6 ] || failed "its interface is no port of its bridge"
uncard 6
# Xen's script writes the MTU for a domain of the number "mine6".
xenstore-rm /local/domain/mine6
unchanged

step "a guest is destroyed with all of them"
loop=$(losetup -a | sed -n 's/:.*g1\.img$//p')
[ -n "$loop" ] || failed "no loop device for its first disk"
own="s: $loop\>::; s: [^ ]*$(interface 0)\>::g"
lent=$(lent | sed "$own")
attach xvdb raw /guests/raw.img
attach xvdc raw "$device"
attach xvdd qcow2 /guests/a.qcow2
used xvdd
card 1 10.0.4.1 bridge=xenbr0 vifname=lan1
card 3 10.0.7.1 bridge=xenbr1 vlan=7
card 5 10.0.9.1 script=vif-route ip=10.0.9.2
$tool destroy g1 || failed "destroy"
gone g1 || failed "g1 is still there"
returned "a guest's end"
qemu-img check /guests/a.qcow2 || failed "the image is damaged"
