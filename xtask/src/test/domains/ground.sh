# What every scenario starts with.
. /lib/guests.sh
# Messages of the kernel must not cut lines in two.
dmesg -n 1
step() {
    echo "step: $*"
}
failed() {
    echo "failed: $1"
    $tool list
    [ $tool = xl ] || tail -n 30 /var/log/oxen/oxd.log
    exit 1
}
dom0-load serve 10.0.3.1:7 &
before=$(kept)
