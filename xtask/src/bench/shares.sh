# How guests share the one CPU: three that never rest, and one that mostly sleeps.
. /lib/guests.sh
dmesg -n 1
row() {
    echo "row $1|$2"
}
failed() {
    echo "failed: $1"
    exit 1
}
# Seconds of CPU that g1 and g2 have had, at one moment, in tenths.
cpu_times() {
    $tool list | awk '$1 == "g1" { one = $NF * 10 } $1 == "g2" { two = $NF * 10 } END { print one, two }'
}
# shared SECONDS: how much more they have after so long, in $1 and $2.
shared() {
    local before
    before=$(cpu_times)
    sleep "$1"
    echo "$before $(cpu_times)" | awk '{ print $3 - $1, $4 - $2 }'
}

for number in 1 2 3 4; do
    weight=$((number == 2 ? 512 : 256))
    spawn g$number more="cpu_weight = $weight" >/dev/null || failed "create g$number"
    await g$number "$READY" 600 || failed "init of g$number"
done
for number in 1 2; do
    shell g$number "(while :; do :; done &) >/dev/null 2>&1"
done
sleep 3
set -- $(shared 30)
echo "seconds of CPU in 30 s, in tenths: $1, $2"
row "weights 256 and 512: hundredths of the double" $(($2 * 100 / ($1 * 2)))
if $tool sched-credit -d g1 -c 40 >/dev/null 2>&1; then
    $tool pause g2
    sleep 3
    set -- $(shared 30)
    row "cap of 40 %: hundredths of it" $(($1 * 10000 / 40 / 300))
    $tool sched-credit -d g1 -c 0
    $tool unpause g2
fi
shell g3 "(while :; do :; done &) >/dev/null 2>&1"
row "wake-up of a sleeping guest while three work, latest, microseconds" \
    "$(shell g4 "dom0-load lateness 20" | sed -n 's,.*latest: \([0-9]*\) us.*,\1,p')"
# But the first two: this dom0 has just started programs, and is made to wait for what it had too much.
row "ping of a sleeping guest while three work, longest, microseconds" \
    "$(ping -c 32 10.0.3.14 | sed -n 's,.*seq=\([0-9]*\) .*time=\([0-9]*\)\.\([0-9]*\) ms,\1 \2\3,p' |
        awk '$1 > 1 && $2 + 0 > most { most = $2 + 0 } END { print most }')"
