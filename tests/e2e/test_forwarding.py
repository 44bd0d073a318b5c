# SPDX-License-Identifier: MIT
"""What is taken out, put in and left alone on the way: connection fields, Via, Max-Forwards, Date."""
import re
import socket
import time

import pytest

from peers import answer, chunked, request, response
from proxy import refused

HOP_FIELDS = ["Proxy-Connection: keep-alive", "Keep-Alive: timeout=5, max=100", "TE: gzip, trailers;q=0.5",
              "Upgrade: h2c"]


@pytest.mark.req("H01")
@pytest.mark.parametrize("connection", [["X-Hop"], ["x-hop, close"], ["close", "X-HOP"], ["foo,,X-Hop , bar"],
                                        [",X-Hop,"], ["\tX-Hop\t"],
                                        ["keep-alive, X-Hop"], ["", "X-Hop"]])
def test_nominated_fields_of_requests(proxy, origin, connection):
    o, client = origin(), proxy.client()
    lines = [f"Connection: {c}" for c in connection]
    client.send(request("GET", o.url + "/", "X-Hop: 1", *lines, "X-End: 2", "x-hop: 3", "X-Hop-Not: 4"))
    assert client.response().status == 200
    seen = o.requests[0]
    assert "X-Hop" not in seen and seen.get("X-End") == b"2" and seen.get("X-Hop-Not") == b"4"
    assert not set(seen.list("Connection")) & {b"x-hop", b"foo", b"bar"}


@pytest.mark.req("H02")
@pytest.mark.parametrize("connection", [["X-Hop"], ["x-hop, close"], ["keep-alive", "X-HOP, foo"]])
def test_nominated_fields_of_responses(proxy, origin, connection):
    lines = [f"Connection: {c}" for c in connection]
    o, client = origin(answer(response(b"ok", "X-Hop: 1", *lines, "X-End: 2", "X-HOP: 3"))), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert "X-Hop" not in back and back.get("X-End") == b"2" and not set(back.list("Connection")) & {b"x-hop", b"foo"}
    assert client.ask("GET", o.url + "/").status == 200


@pytest.mark.req("H02", "C07")
def test_nominated_fields_of_trailers(proxy, origin):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\n\r\n"
    body = chunked(b"a", trailers=b"X-Sum: 1\r\nConnection: X-Sum\r\nKeep-Alive: 1\r\n")
    o, client = origin(answer(head + body)), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert not any(k.lower() in (b"connection", b"keep-alive") for k, _ in back.trailers)


@pytest.mark.req("H03", "H05")
def test_connection_fields_are_removed_without_nomination(proxy, origin):
    fields = [f for f in HOP_FIELDS if not f.startswith("TE")]
    o, client = origin(answer(response(b"ok", *fields))), proxy.client()
    back = client.ask("GET", o.url + "/", *HOP_FIELDS)
    for name in ("Proxy-Connection", "Keep-Alive", "Upgrade"):
        assert name not in o.requests[0] and name not in back
    te = o.requests[0].get("TE")
    assert te is None or (te == b"trailers" and b"te" in o.requests[0].list("Connection"))


@pytest.mark.req("H04")
@pytest.mark.parametrize("name", ["Host", "Content-Length", "Transfer-Encoding", "Via", "connection",
                                  "Connection, Connection", "close, host",
                                  "content-length, via"])
def test_essentials_cannot_be_nominated(proxy, origin, name):
    o, client = origin(), proxy.client()
    client.send(request("POST", o.url + "/", "Connection: " + name, "Via: 1.1 other", body=b"hello"))
    message = client.response("POST")
    if message.status == 400:
        return
    seen = o.requests[0]
    assert seen.body == b"hello" and seen.get("Host") == o.authority.encode() and seen.get("Content-Length") == b"5"
    assert b"1.1 other" in seen.list("Via") and len(seen.list("Via")) == 2


@pytest.mark.req("H04", "B02")
def test_transfer_encoding_cannot_be_nominated_away(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("POST", o.url + "/", "Transfer-Encoding: chunked",
                        "Connection: transfer-encoding") + chunked(b"hello"))
    if client.response("POST").status == 200:
        assert o.requests[0].body == b"hello"


@pytest.mark.req("H04", "Z06")
@pytest.mark.parametrize("value", [",".join(f"f{i}" for i in range(5000)), "," * 20000, "x" * 20000,
                                   "connection," * 2000, "close," * 3000,
                                   " ," * 5000 + "close", "a b", "a;b", "\"a\"", "a\\,b", "\xe4", "=", "(c)"])
def test_odd_nominations_are_harmless(proxy, origin, value):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/", "f1: x", "f4999: x", "Connection: " + value))
    status = client.response().status
    assert status in (200, 400, 431)
    if status == 200:
        assert "f1" not in o.requests[0] or not value.startswith("f0")
    assert proxy.client().ask("GET", o.url + "/").status == 200


@pytest.mark.req("H01", "H04", "H05")
def test_own_connection_field_only(proxy, origin):
    """What the proxy says about its own connection must be consistent, and nothing of the client's remains."""
    o, client = origin(), proxy.client()
    client.ask("GET", o.url + "/", "Connection: keep-alive, TE, x", "TE: trailers", "Keep-Alive: 1")
    assert set(o.requests[0].list("Connection")) <= {b"keep-alive", b"close", b"te"}


@pytest.mark.req("H06", "G02")
@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy-authorization", "PROXY-AUTHORIZATION"])
def test_proxy_authorization_goes_no_further(proxy, origin, name):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", name + ": Basic c2VjcmV0OnNlc2FtZQ==").status == 200
    assert b"c2VjcmV0" not in o.peers[0].received and b"proxy-authorization" not in o.peers[0].received.lower()


@pytest.mark.req("H06")
def test_proxy_authorization_goes_no_further_with_logins(start, origin):
    o, proxy = origin(), start("--allow-private", "--user", "anna:sesame")
    client = proxy.client()
    assert client.ask("GET", o.url + "/", "Proxy-Authorization: Basic YW5uYTpzZXNhbWU=").status == 200
    assert b"proxy-authorization" not in o.peers[0].received.lower()


@pytest.mark.req("H07")
@pytest.mark.parametrize("status", [200, 407, 401])
def test_proxy_authenticate_of_an_origin_stays_out(proxy, origin, status):
    fields = ('Proxy-Authenticate: Basic realm="evil"', "Proxy-Authentication-Info: x",
              "WWW-Authenticate: Basic realm=x")
    o, client = origin(answer(response(b"ok", *fields, status=status))), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert "Proxy-Authenticate" not in back and "Proxy-Authentication-Info" not in back
    assert back.status == 502 or back.get("WWW-Authenticate") == b"Basic realm=x"


@pytest.mark.req("H08", "R04", "H09", "S05")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]", "LOCALHOST"])
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_the_proxy_never_talks_to_itself(start, host, method):
    proxy = start("--allow-private", "--connect-ports", "any")
    client = proxy.client()
    target = f"{host}:{proxy.port}"
    client.send(request(method, target if method == "CONNECT" else f"http://{target}/", host=target))
    message = client.response(method, patience=3)
    assert message.status in (403, 502)
    event = proxy.event(client)
    assert event["cause"] in ("loop", "address_denied", "connection_refused", "unreachable"), event
    if host in ("127.0.0.1", "localhost"):
        assert event["cause"] == "loop"
    time.sleep(0.05)
    assert len(proxy.records()) == 1 and proxy.counters()["accepted"] == 1


@pytest.mark.req("H08", "R04")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "0.0.0.0", "localhost"])
def test_the_proxy_on_all_addresses_never_talks_to_itself(start, host):
    proxy = start("--clients", "127.0.0.0/8", "--allow-private", listen="0.0.0.0:0")
    client = proxy.client()
    client.send(request("GET", f"http://{host}:{proxy.port}/"))
    refused(proxy, client, "loop", closes=False)
    assert proxy.counters()["accepted"] == 1


@pytest.mark.req("H08", "V04")
def test_two_proxies_in_a_circle(start, origin):
    """Each is the other's destination by way of an origin that redirects octets: Via ends it."""
    proxy = start("--allow-private", "--name", "round")

    def script(peer):
        message = peer.request()
        back = proxy.client()
        fields = b"".join(k + b": " + v + b"\r\n" for k, v in message.fields if k.lower() != b"connection")
        line = b"GET " + peer.origin.url.encode() + message.target + b" HTTP/1.1\r\n"
        back.send(line + fields + b"Connection: close\r\n\r\n")
        while data := back.some():
            peer.send(data)
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/"))
    message = client.response()
    assert message.status == 502 and b"loop" in message.get("Proxy-Status")
    assert len(o.requests) == 1


@pytest.mark.req("H11", "H10")
def test_fields_of_others_are_untouched(proxy, origin):
    there = ["User-Agent: x/1 (a; b)", "Referer: http://a/b?c", "Accept-Encoding: gzip;q=0, br", "Range: bytes=1-2",
             "From: a@b",
             "If-Match: \"e\"", "Cache-Control: no-transform", "Pragma: no-cache", "DNT: 1"]
    back = ["Server: y/2", 'ETag: W/"x"', "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT", "Content-Range: bytes 0-1/2",
            "Vary: *", "Age: 7",
            "Allow: GET", "Location: http://other/", "Content-Location: /x", "Warning: 199 - x",
            "Cache-Control: max-age=1", "Expires: 0",
            "Content-Type: text/plain", "Retry-After: 3", "Strict-Transport-Security: max-age=1"]
    o, client = origin(answer(response(b"ok", *back))), proxy.client()
    message = client.ask("GET", o.url + "/", *there)
    for line in there:
        assert o.requests[0].get(line.split(":")[0]) == line.split(": ", 1)[1].encode()
    for line in back:
        assert message.get(line.split(":")[0]) == line.split(": ", 1)[1].encode()


@pytest.mark.req("H11", "G03", "M13")
def test_nothing_is_added_but_what_must_be(proxy, origin):
    o, client = origin(), proxy.client()
    back = client.ask("GET", o.url + "/", "X-Mine: 1")
    assert {k.lower() for k, _ in o.requests[0].fields} <= {b"host", b"x-mine", b"via", b"connection"}
    assert {k.lower() for k, _ in back.fields} <= {b"content-length", b"via", b"date", b"connection"}


@pytest.mark.req("H12")
def test_missing_date_is_added(proxy, origin):
    o, client = origin(answer(response(), response(b"ok", "Date: Sat, 01 Jan 2000 00:00:00 GMT"))), proxy.client()
    added = client.ask("GET", o.url + "/").get("Date")
    assert re.fullmatch(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", added)
    when = time.mktime(time.strptime(added.decode(), "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert abs(when - time.time()) < 60
    assert client.ask("GET", o.url + "/").get("Date") == b"Sat, 01 Jan 2000 00:00:00 GMT"


def once_then_close(peer):
    """The first connection answers once and closes when the second request has come; others answer."""
    peer.request()
    peer.send(response(b"first"))
    if peer.index == 0:
        peer.request(body=False)
        return
    peer.request()


@pytest.mark.req("H13", "P08", "S05", "S14")
@pytest.mark.parametrize("method", ["POST", "PATCH", "FOO"])
def test_unsafe_requests_are_never_repeated(proxy, origin, method):
    o, client = origin(once_then_close), proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    client.send(request(method, o.url + "/2", body=b"hello"))
    refused(proxy, client, "origin_empty", "origin_reset", "origin_cut", method=method, closes=None)
    assert [r.method for r in o.requests].count(method) == 1


@pytest.mark.req("H13", "P08")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_requests_on_a_stale_connection_are_repeated_once(proxy, origin, method):
    o, client = origin(once_then_close), proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    status = client.ask(method, o.url + "/2").status
    count = [r.target for r in o.requests].count(b"/2")
    assert (status, count) in ((200, 2), (502, 1))


@pytest.mark.req("H13")
def test_requests_on_a_new_connection_are_not_repeated(proxy, origin):
    o, client = origin(lambda peer: peer.request() and None), proxy.client()
    assert client.ask("GET", o.url + "/").status == 502
    time.sleep(0.1)
    assert len(o.requests) == 1


@pytest.mark.req("H13")
def test_request_is_not_repeated_after_a_part_of_the_answer(proxy, origin):
    def script(peer):
        peer.request()
        peer.send(response(b"first"))
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    o, client = origin(script), proxy.client()
    client.ask("GET", o.url + "/")
    assert client.ask("GET", o.url + "/2").status == 502
    assert len(o.requests) == 2


@pytest.mark.req("P08", "P09", "H13")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_origin_that_closed_while_idle(proxy, origin, method):
    """The close is seen in time: even a POST goes out on a new connection."""
    o = origin(answer(response(), then_close=True))
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    o.wait(lambda o: o.peers[0].done)
    time.sleep(0.1)
    assert client.ask(method, o.url + "/2", body=b"x").status == 200
    assert len(o.peers) == 2 and len(o.requests) == 2


# ---- Via, Max-Forwards, TRACE


@pytest.mark.req("V01", "M15")
@pytest.mark.parametrize("version,expected", [("1.1", b"1.1 tester"), ("1.0", b"1.0 tester")])
def test_via_on_requests(proxy, origin, version, expected):
    o, client = origin(), proxy.client()
    client.ask("GET", o.url + "/", "Via: 1.0 first, 1.1 second (comment)", "Via: HTTP/1.1 third:80", version=version)
    via = [v.strip() for v in b",".join(o.requests[0].all("Via")).split(b",")]
    assert via == [b"1.0 first", b"1.1 second (comment)", b"HTTP/1.1 third:80", expected]


@pytest.mark.req("V02")
@pytest.mark.parametrize("version,expected", [("1.1", b"1.1 tester"), ("1.0", b"1.0 tester")])
def test_via_on_responses(proxy, origin, version, expected):
    o, client = origin(answer(response(b"ok", "Via: 1.1 inner", version=version), then_close=True)), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert [v.strip() for v in b",".join(back.all("Via")).split(b",")] == [b"1.1 inner", expected]


@pytest.mark.req("V03")
def test_pseudonym_is_no_host_name(start, origin):
    o, names = origin(), set()
    for _ in range(2):
        client = start("--allow-private").client()
        back = client.ask("GET", o.url + "/")
        via = back.get("Via").split(b" ")
        assert len(via) == 2 and via[1] == o.requests[-1].get("Via").split(b" ")[1]
        assert socket.gethostname().encode() != via[1] and b"miniproxy" not in via[1] and b"127.0.0.1" not in via[1]
        names.add(via[1])
    assert len(names) == 2, "two proxies with the same pseudonym would take each other for a loop"


@pytest.mark.req("V04", "H08", "Q03")
@pytest.mark.parametrize("via", ["1.1 tester", "1.0 tester", "1.1 a, 1.1 tester (x), 1.1 b", "1.1 a,1.1\ttester",
                                 "HTTP/1.1 tester", "1.1  tester ",
                                 "2 tester", ",1.1 tester,"])
def test_own_pseudonym_in_via_is_a_loop(proxy, origin, via):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/", "Via: 1.1 other", "Via: " + via))
    refused(proxy, client, "loop", closes=None)
    assert not o.peers


@pytest.mark.req("V04")
@pytest.mark.parametrize("via", ["1.1 tester2", "1.1 xtester", "1.1 a (tester)", "1.1 test", "1.1 a, 1.0 b"])
def test_other_pseudonyms_are_no_loop(proxy, origin, via):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", "Via: " + via).status == 200


@pytest.mark.req("X01")
@pytest.mark.parametrize("given,expected", [("5", b"5"), ("1", b"1"), ("010", b"10"), ("4294967295", b"4294967295")])
def test_max_forwards_is_decremented(proxy, origin, given, expected):
    o, client = origin(), proxy.client()
    assert client.ask("OPTIONS", o.url + "/", "Max-Forwards: " + given).status == 200
    assert int(o.requests[0].get("Max-Forwards")) == int(expected) - 1


@pytest.mark.req("X02", "S09", "X04")
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
@pytest.mark.parametrize("given", ["0", "00"])
def test_max_forwards_zero_ends_here(proxy, origin, method, given):
    o, client = origin(), proxy.client()
    client.send(request(method, o.url + "/", "Max-Forwards: " + given, "Cookie: sesame",
                        "Proxy-Authorization: Basic eDpzZXNhbWU="))
    message = client.response(method)
    assert not o.peers and b"sesame" not in message.body
    assert message.status in ((200, 204) if method == "OPTIONS" else (200, 405))
    if message.status == 405:
        assert "Allow" in message and proxy.event(client)["cause"] == "trace_refused"


@pytest.mark.req("X02", "Z09")
@pytest.mark.parametrize("given", ["-1", "x", "", "1 2", "0x5", "+1", "1.5"])
def test_malformed_max_forwards_goes_nowhere(proxy, origin, given):
    o, client = origin(), proxy.client()
    client.send(request("OPTIONS", o.url + "/", "Max-Forwards: " + given))
    assert client.response("OPTIONS").status in (200, 204, 400)
    assert not o.peers


@pytest.mark.req("X03")
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_max_forwards_is_not_invented(proxy, origin, method):
    o, client = origin(), proxy.client()
    assert client.ask(method, o.url + "/").status == 200
    assert "Max-Forwards" not in o.requests[0]


@pytest.mark.req("X03")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "FOO"])
def test_max_forwards_of_other_methods_is_ignored(proxy, origin, method):
    o, client = origin(), proxy.client()
    assert client.ask(method, o.url + "/", "Max-Forwards: 0").status == 200
    assert o.requests[0].get("Max-Forwards") == b"0"


@pytest.mark.req("X04", "X01")
def test_trace_is_forwarded_or_refused(proxy, origin):
    o, client = origin(), proxy.client()
    status = client.ask("TRACE", o.url + "/", "Max-Forwards: 3").status
    assert (status == 200 and o.requests[0].get("Max-Forwards") == b"2") or (status == 405 and not o.peers)
