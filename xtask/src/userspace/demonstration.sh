# Sourced by dom0's /init before its shell: what the toolstack can do, shown on one guest, which stays.
. /lib/guests.sh
# Messages of the kernel must not cut lines in two.
dmesg -n 1
shown() {
    echo "# $*"
    "$@"
    echo
}
shown $tool create /etc/guest.cfg
if await guest "$READY" 300; then
    shown $tool list
    case $tool in
    xl) shown xentop -b -i 1 ;;
    ox) shown ox top --once ;;
    esac
    echo "The guest runs. \`$tool console guest\` is its console (Ctrl-] leaves it), \`$tool\` says what else there is."
fi
dmesg -n 7
