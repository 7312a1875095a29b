# Sourced by dom0's /init: makes dom0 ready to create domains, with the toolstack that
# /etc/toolstack names. Both toolstacks find Debian's files where Debian has them.
mkdir -p /var/lib/xen /var/lib/xenstored /var/log/xen/console /var/lib/oxen /var/log/oxen \
    /run/xen /run/xenstored /run/oxen /run/lock /guests
ln -s ../run /var/run
ln -s ../run/lock /var/lock

load backends
# The disk with the guests' parts.
for disk in /sys/block/*; do
    if [ "$(cat "$disk/serial" 2>/dev/null)" = guests ]; then
        mount -t ext4 "/dev/${disk##*/}" /guests
    fi
done
truncate -s 64M /guests/guest.img
# The network of dom0 and its guests.
brctl addbr xenbr0
ifconfig xenbr0 10.0.3.1 netmask 255.255.255.0 up

. /lib/guests.sh
case $tool in
xl)
    xenstored --pid-file /run/xenstored.pid
    until_true xenstore-exists /
    xen-init-dom0 >/dev/null
    xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file=/run/xenconsoled.pid
    ;;
ox)
    start_oxd
    ;;
esac
# Whoever sees this finds a toolstack at work.
touch /run/toolstack
