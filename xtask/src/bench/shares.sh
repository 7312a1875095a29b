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
# Seconds of CPU a guest has had, in tenths.
cpu_time() {
    $tool list "$1" | tail -n 1 | awk '{ print $NF * 10 }'
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
one=$(cpu_time g1) two=$(cpu_time g2)
sleep 30
one=$(($(cpu_time g1) - one)) two=$(($(cpu_time g2) - two))
echo "seconds of CPU in 30 s, in tenths: $one, $two"
row "weights 256 and 512: hundredths of the double" $((two * 100 / (one * 2)))
if $tool sched-credit -d g1 -c 40 >/dev/null 2>&1; then
    $tool pause g2
    sleep 3
    one=$(cpu_time g1)
    sleep 30
    row "cap of 40 %: hundredths of it" $((($(cpu_time g1) - one) * 10000 / 40 / 300))
    $tool sched-credit -d g1 -c 0
    $tool unpause g2
fi
shell g3 "(while :; do :; done &) >/dev/null 2>&1"
row "wake-up of a sleeping guest while three work, latest, microseconds" \
    "$(shell g4 "dom0-load lateness 20" | sed -n 's,.*latest: \([0-9]*\) us.*,\1,p')"
row "ping of a sleeping guest while three work, longest, microseconds" \
    "$(ping -c 30 10.0.3.14 | sed -n 's,.*= [0-9.]*/[0-9.]*/\([0-9]*\)\.\([0-9]*\) ms,\1\2,p')"
