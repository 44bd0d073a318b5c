#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Provokes each refusal by its real cause and prints a table row for each: what curl -v shows, the access log's line,
# what to do. With --update it writes them into README.md, between the troubleshooting markers. It wants build/miniproxy
# and build/miniproxy-small.
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d)
started=
trap 'kill $started 2>/dev/null; rm -rf "$dir"' EXIT

# start NAME BINARY OPTION...: a proxy that logs to $dir/NAME.log; its address is then in $proxy, its process in $pid
start() {
    name=$1 binary=$2
    shift 2
    "$binary" --listen 127.0.0.1:0 --log "$dir/$name.log" --name proxy "$@" 2>"$dir/$name.err" >/dev/null &
    pid=$!
    started="$started $pid"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        proxy=$(sed -n 's/.*http:\/\/\(127\.0\.0\.1:[0-9]*\).*/\1/p' "$dir/$name.err" | head -n 1)
        [ -n "$proxy" ] && return
        sleep 0.1
    done
    echo "$binary did not start" >&2
    exit 1
}

# row ADVICE: from curl's output in $dir/out and the last line of the log of the proxy started last
row() {
    status=$(sed -n 's/^\(< \)\{0,1\}HTTP\/1\.1 \([0-9]*\).*/\2/p' "$dir/out" | head -n 1)
    line=$(sed -n 's/^< //; s/\r$//; /^HTTP\/1\.1 /p' "$dir/out" | head -n 1)
    why=$(sed -n 's/^< //; s/\r$//; /^Proxy-Status/p' "$dir/out" | head -n 1)
    text=$(tr -d '\r' <"$dir/out" | grep -v -e '^[<>*{}]' -e '^[A-Za-z-]*: ' -e '^HTTP/1' -e '^ *$' | head -n 1)
    sleep 0.3
    log=$(tail -n 1 "$dir/$name.log" | sed 's/|/\\|/g; s/xxxxxxxxxx*/x…x/')
    echo "| $status | \`$line\`<br>\`$why\`<br>\`$text\` | \`$log\` | $1 |"
}

# x COUNT: that many letters
x() {
    head -c "$1" /dev/zero | tr '\0' x
}

# what only a build with pages and maintenance can say
rows_of_pages() {
    curl -sv "http://$proxy/proxy.pac" >"$dir/out" 2>&1
    row 'A page that this proxy has not: a PAC file has to be asked for by its operator.'

    printf 'user anna = clear "secret"\nallow users anna methods pages\n' >"$dir/pages.policy"
    start pages build/miniproxy --policy "$dir/pages.policy"
    curl -sv "http://$proxy/metrics" >"$dir/out" 2>&1
    row 'A page of the proxy that the policy shows to its users only: log in.'

    start closed build/miniproxy --maintenance 'Back at noon.'
    kill -USR2 "$pid"
    sleep 0.5
    curl -sv -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'Wait, or end it: SIGUSR2 again. Tunnels and responses that have begun go on.'
}

all_rows() {
    start plain build/miniproxy
    printf 'GET http://example.com/two words HTTP/1.1\r\nHost: example.com\r\n\r\n' | curl -sv "telnet://$proxy" >"$dir/out" 2>&1
    row 'A blank in a URL is `%20`: the program that sent it has to be mended.'

    curl -sv "http://$proxy/nothing" >"$dir/out" 2>&1
    row 'Set it as the *proxy* of the client (`curl -x`). Its own pages open by its IP address, or a name of `--page-names`.'

    curl -sv -x "http://$proxy" http://127.0.0.1:9/ >"$dir/out" 2>&1
    row 'Wanted? Then allow it: here `--allow-private`, in C `.special_purpose` in a rule. The log names the rule.'

    curl -sv -X TRACE -H 'Max-Forwards: 0' -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'TRACE that asks the proxy itself. Do without: it would show a client what others have added to its request.'

    curl -sv -H 'Expect: 200-ok' -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'The client expects something else than 100-continue: leave it out.'

    curl -sv -x "http://$proxy" ftp://example.com/ >"$dir/out" 2>&1
    row 'It forwards `http://` only, and `https://` in a build with TLS: let the client use CONNECT.'

    printf 'GET http://example.com/ HTTP/2.0\r\n\r\n' | curl -sv "telnet://$proxy" >"$dir/out" 2>&1
    row 'HTTP/1.1 to the proxy. Through a tunnel any version passes.'

    ! build/miniproxy --help | grep -q -- --pages || rows_of_pages

    start login build/miniproxy --user anna:secret
    curl -sv -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'Give the client a user name and password: `curl -x http://anna:secret@…`.'

    start small build/miniproxy-small --body-max 1000
    curl -sv -d "$(x 2000)" -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'The upload is larger than `--body-max`.'

    curl -sv -x "http://$proxy" "http://example.com/$(x 2000)" >"$dir/out" 2>&1
    row 'The URL does not fit into a buffer (`MINIPROXY_BUFFER_SIZE`): send by POST what may be long.'

    curl -sv -b "a=$(x 2000)" -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'Mostly cookies: delete those of this site, or raise `MINIPROXY_BUFFER_SIZE`.'

    start slow build/miniproxy --timeout head=1
    { printf 'GET http://example.com/ HTTP/1.1\r\nHost: exa'; sleep 2; } | curl -sv "telnet://$proxy" >"$dir/out" 2>&1
    row 'The client or the way to it is slow, or it is no HTTP client. Raise the timeout `head` if it has a reason.'

    start refused build/miniproxy --allow-private
    curl -sv -x "http://$proxy" http://127.0.0.1:9/ >"$dir/out" 2>&1
    row 'Nothing listens there: check host and port, and whether the origin runs.'

    start busy build/miniproxy --per-client 1
    { sleep 2; } | curl -s "telnet://$proxy" >/dev/null 2>&1 &
    sleep 0.5
    curl -sv -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'The client keeps too many connections open, or needs more: `--per-client`, `MINIPROXY_SESSIONS_PER_CLIENT`.'

    # a stopped process takes connections, through its kernel's queue, and says nothing
    start silent build/miniproxy
    silent=$proxy
    kill -STOP "$pid"
    start waiting build/miniproxy --allow-private --timeout first_byte=1
    curl -sv -x "http://$proxy" "http://$silent/" >"$dir/out" 2>&1
    row 'The origin is overloaded or hangs. Raise the timeout `first_byte` if it is only slow.'
    for p in $started; do kill -CONT "$p"; done

    start orphan build/miniproxy --parent http://127.0.0.1:9
    curl -sv -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'Neither the parent nor any other that this goes by takes connections: see the lines with `state=down` for why each, and `--parent`.'

    start upstream build/miniproxy --user anna:secret --name upstream
    upstream=$proxy
    start stranger build/miniproxy --parent "http://anna:wrong@$upstream"
    curl -sv -x "http://$proxy" http://example.com/ >"$dir/out" 2>&1
    row 'Name or password in `--parent`, or in the policy, is not what the parent wants. No client can mend that.'

    printf 'allow to 127.0.0.0/8 ports any\nlimit each client requests 1/min\n' >"$dir/p.policy"
    start hasty build/miniproxy --policy "$dir/p.policy"
    curl -s -o "$dir/out" -x "http://$proxy" http://127.0.0.1:9/
    curl -sv -x "http://$proxy" http://127.0.0.1:9/ >"$dir/out" 2>&1
    row 'The client asks more often than a `limit` of the policy allows; `policy explain` says which. `Retry-After` says how long to wait.'
}

{
    echo '| status | `curl -v` shows | access log | what to do |'
    echo '|---|---|---|---|'
    all_rows >"$dir/rows" || exit 1
    sort -s -t '|' -k 2n "$dir/rows"
} >"$dir/table"
cat "$dir/table"
[ "$1" = --update ] || exit 0
awk -v table="$dir/table" '
    /^<!-- troubleshooting -->$/ { print; while ((getline row < table) > 0) print row; inside = 1; next }
    /^<!-- \/troubleshooting -->$/ { inside = 0 }
    !inside { print }' README.md >"$dir/README.md" && cp "$dir/README.md" README.md
