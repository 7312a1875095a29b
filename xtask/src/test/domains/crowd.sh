# $count of hello at once, and what they take.
one=$(dom0-load memory | sed -n 's/free //p')
make hello hello 1 "stay=yes"
await hello "hello: done" 60 || failed "hello says nothing"
echo "one hello takes $((one - $(dom0-load memory | sed -n 's/free //p'))) KiB"
$tool shutdown hello || failed "shutdown"
gone hello || failed "hello does not end"
before=$(kept)
crowd "$count"
# Tables of dom0 that grew for so many guests stay as large, so memory is not compared here.
[ "$(kept | grep -v -e free -e nodes)" = "$(echo "$before" | grep -v -e free -e nodes)" ] ||
    failed "something is left"
