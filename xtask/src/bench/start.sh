# Starts the smallest guest in Rust and a Linux guest, and prints what each had spent when it said its
# first words.
. /lib/guests.sh
dmesg -n 1
failed() {
    echo "failed: $1"
    cat "$(console "$1")"
    exit 1
}
now() {
    tr -d . </proc/uptime | cut -d' ' -f1
}

# start WHO NAME WORDS
start() {
    local before took spent
    before=$(now)
    $tool create "/run/$2.cfg" >/dev/null || failed "$2"
    dom0-load await "$(console "$2")" "$3" 600 || failed "$2"
    took=$((($(now) - before) * 10000000))
    spent=$(dom0-load cpu-time "$($tool domid "$2")") || failed "$2"
    $tool destroy "$2" && gone "$2" || failed "$2"
    echo "row $1: first instruction to first words|$spent"
    echo "row $1: create to first words|$took"
}

cat >/run/tux.cfg <<CONFIG
name = "tux"
kernel = "/vmlinux"
ramdisk = "/initrd.img"
extra = "console=hvc0 quiet rdinit=/bin/dom0-load -- sit"
memory = 128
vcpus = 1
CONFIG
sed 's/^memory = .*/memory = 128/' /guests/hello.cfg >/run/hello.cfg
echo 'extra = "stay=yes"' >>/run/hello.cfg
start linux tux "@guest init"
start rust hello "hello: first line"
