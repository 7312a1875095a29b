# Runs the guest microbench in dom0; prints its rows.
. /lib/guests.sh
dmesg -n 1
failed() {
    echo "failed: $1"
    exit 1
}

# make NAME CPUS [WORDS of its command line]
make() {
    sed "s/^name = .*/name = \"$1\"/" /guests/microbench.cfg >"/run/$1.cfg"
    echo "cpus = \"$2\"" >>"/run/$1.cfg"
    echo "extra = \"$3\"" >>"/run/$1.cfg"
    rm -f "$(console "$1")"
    $tool create "/run/$1.cfg" >/dev/null || failed "create $1"
}

# rows NAME [SUFFIX]: what a guest measured, when it has ended.
rows() {
    gone "$1" 600 || { cat "$(console "$1")"; failed "$1 does not end"; }
    dom0-load await "$(console "$1")" "microbench: done" 20 >/dev/null ||
        { cat "$(console "$1")"; failed "$1"; }
    tr -d '\r' <"$(console "$1")" | grep '^row ' | sed "s/|/$2|/"
}

# pair CPUS CPUS SUFFIX: two of them, introduced to each other.
pair() {
    local a b
    make a "$1" "role=serve"
    make b "$2" "role=visit"
    a=$($tool domid a) b=$($tool domid b)
    xenstore-write "/local/domain/$a/data/peer" "$b" "/local/domain/$b/data/peer" "$a" ||
        failed "introduce"
    rows b "$3"
    gone a 600
}

# The smallest guest first.
sed "s/^name = .*/name = \"hello\"/; s/^vcpus/cpus = \"1\"\nvcpus/" /guests/hello.cfg >/run/hello.cfg
rm -f "$(console hello)"
$tool create /run/hello.cfg >/dev/null || failed "create hello"
gone hello 600
dom0-load await "$(console hello)" "hello: done" 20 >/dev/null || failed "hello"
sed -n 's/^hello: \([0-9]*\) cycles.*/row hello: entry to first line|\1/p' "$(console hello)"

make alone 1
rows alone
pair 1 1 ", both on one CPU"
pair 1 0 ", each on a CPU"
