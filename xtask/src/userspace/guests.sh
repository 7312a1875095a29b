# For scripts in dom0 that make guests, with either toolstack: `spawn` creates one, `await` waits for
# a line of its console, `shell` runs a command in it. A guest is called g1, g2, ...; its address
# is 10.0.3.11, 10.0.3.12, ...; its disk is /guests/<name>.img.
tool=$(cat /etc/toolstack)

# What /init in the guest says when it is ready for `shell`.
READY="@guest ready"

# until_true COMMAND...: waits until a command succeeds, a tenth of a second between tries.
until_true() {
    tries=600
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "\`$*\` never came true"; return 1; }
        usleep 100000
    done
}

# Starts `oxd`, and waits until it is ready or has ended, and then shows why.
start_oxd() {
    oxd >>/var/log/oxen/oxd.log 2>&1 &
    oxd=$!
    until_true eval "[ -S /run/oxen/oxd.sock ] || ! kill -0 $oxd"
    kill -0 $oxd 2>/dev/null || { echo "oxd has ended:"; cat /var/log/oxen/oxd.log; }
}

# spawn NAME [memory=MIB] [vcpus=N] [disk=MIB] [backend=DOMAIN] [more="key = value"]: creates a guest;
# with `backend`, that driver domain has its disk in memory, and its card.
spawn() {
    local name=$1 number=${1#g} memory=128 vcpus=1 disk=64 backend= more= target bridge
    shift
    for word; do
        local "$word"
    done
    if [ -n "$backend" ]; then
        # xl takes all that follows `target=` for its value.
        target="backend=$backend, target=ram$disk"
        bridge="backend=$backend"
    else
        truncate -s "${disk}M" "/guests/$name.img"
        target="target=/guests/$name.img"
        bridge="bridge=xenbr0"
    fi
    cat >"/run/$name.cfg" <<CONFIG
name = "$name"
kernel = "/guests/vmlinux"
ramdisk = "/guests/initrd.img"
extra = "console=hvc0 quiet address=10.0.3.$((10 + number)) agent"
memory = $memory
vcpus = $vcpus
disk = [ "format=raw, vdev=xvda, access=rw, $target" ]
vif = [ "$bridge, mac=00:16:3e:00:00:$(printf %02x $((10 + number)))" ]
$more
CONFIG
    $tool create "/run/$name.cfg"
}

# console NAME: the file that keeps a guest's console.
console() {
    case $tool in
    xl) echo "/var/log/xen/console/guest-$1.log" ;;
    ox) echo "/var/log/oxen/guest-$1.log" ;;
    esac
}

# await NAME TEXT [SECONDS]: waits for a line of the guest's console.
await() {
    dom0-load await "$(console "$1")" "$2" "${3:-120}" || {
        tail -n 20 "$(console "$1")"
        return 1
    }
}

# shell NAME COMMAND... [SECONDS in $seconds]: runs a command in a guest, shows what it says, and
# returns its status.
shell() {
    local name=$1 id terminal
    shift
    id=$(tr -dc a-z0-9 </dev/urandom | head -c 12)
    terminal="/local/domain/$($tool domid "$name")/console/tty"
    # Who serves consoles finds a new one in its own time.
    until_true xenstore-exists "$terminal" || return 1
    terminal=$(xenstore-read "$terminal") || return 1
    echo "$id $*" >"$terminal"
    await "$name" "@guest end $id" "${seconds:-120}" || return 1
    tr -d '\r' <"$(console "$name")" |
        sed -n "/@guest begin $id/,/@guest end $id/p" | grep -v '^@guest'
    return "$(sed -n "s/.*@guest end $id \([0-9]*\)\..*/\1/p" "$(console "$name")")"
}

# gone NAME [SECONDS]: waits until there is no such domain.
gone() {
    local tries=$((${2:-60} * 5))
    while $tool domid "$1" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "$1 is still there"; $tool list; return 1; }
        usleep 200000
    done
}

# kept: what the hypervisor and the store hold, to compare before and after. Memory is in KiB. The
# domains are listed first: what a dead one still holds is freed by that.
kept() {
    local domains
    domains=$($tool list | tail -n +2 | wc -l)
    dom0-load memory | grep -v ram
    echo "ports $(lsevtchn 0 | wc -l)"
    xenstore-ls -f | sed 's/ = .*//' >/run/nodes
    echo "nodes $(wc -l </run/nodes)"
    echo "domains $domains"
}

# same BEFORE: fails, and shows the difference, unless `kept` comes to say again what it said. A
# domain's end goes on for a moment after its tools have done.
same() {
    local tries=50
    until [ "$(kept)" = "$1" ]; do
        tries=$((tries - 1))
        if [ $tries -le 0 ]; then
            echo "before:" $1
            echo "after: " $(kept)
            cat /run/nodes
            return 1
        fi
        usleep 200000
    done
}
