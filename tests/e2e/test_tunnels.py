# SPDX-License-Identifier: MIT
"""CONNECT, Upgrade, Expect and interim responses."""
import os
import threading
import time

import pytest

from peers import Cut, Silent, answer, request, response, unused_port
from proxy import refused


def connect(client, authority, *fields, early=b""):
    client.send(request("CONNECT", authority, *fields, host=authority) + early)
    return client.response("CONNECT")


def echo(peer):
    while data := peer.some(30):
        peer.send(data)


@pytest.mark.req("K01", "K06", "T23", "S01")
@pytest.mark.parametrize("target", ["localhost", "localhost:", "localhost:0", "localhost:65536", "localhost:80x",
                                    "localhost:-1", ":443", "",
                                    "[::1]", "[::1]:", "localhost:443/path", "user@localhost:443",
                                    "user:sesame@localhost:443",
                                    "http://localhost:443", "localhost:443#f", "localhost:443?q", "localhost:+443",
                                    "localhost:4 43", "::1:443",
                                    "localhost:443:443", "localhost:000443", "localhost,other:443", "[::1:443",
                                    "loc%61lhost:443", "localhost:0x1bb",
                                    "127.1:443", "\x00:443", "localhost:443\x00"])
def test_connect_needs_a_valid_authority(proxy, target):
    client = proxy.client()
    client.send(request("CONNECT", target,
                        host="localhost:443") + b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    refused(proxy, client, "bad_target", "bad_request_line", method="CONNECT")


@pytest.mark.req("K02", "S02")
def test_connect_ports_are_limited(start, origin):
    o = origin(echo)
    proxy = start("--allow-private")
    client = proxy.client()
    client.send(request("CONNECT", o.authority))
    refused(proxy, client, "connect_port_denied", method="CONNECT")
    assert not o.peers


@pytest.mark.req("K02")
def test_connect_port_list(start, origin):
    o, other = origin(echo), origin(echo)
    proxy = start("--allow-private", "--connect-ports", f"1,{o.port},{o.port + 1}-{o.port + 1}")
    assert connect(proxy.client(), o.authority).status == 200
    client = proxy.client()
    client.send(request("CONNECT", other.authority))
    if other.port != o.port + 1:
        refused(proxy, client, "connect_port_denied", method="CONNECT")


@pytest.mark.req("K02")
def test_port_443_is_open_by_default(start, origin, isolated):
    origin(echo, port=443)
    client = start("--allow-private").client()
    assert connect(client, "127.0.0.1:443", early=b"hello").status == 200
    assert client.exactly(5) == b"hello"


@pytest.mark.req("K03", "K06", "S05", "Q03")
def test_connect_to_a_closed_port(proxy):
    client = proxy.client()
    client.send(request("CONNECT", f"127.0.0.1:{unused_port()}") + b"GET http://x/ HTTP/1.1\r\n\r\n")
    refused(proxy, client, "connection_refused", method="CONNECT")


@pytest.mark.req("K03", "S06", "Z03", "K06")
def test_connect_timeout(start):
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "connect=0.5")
    with Silent() as silent:
        client = proxy.client()
        client.send(request("CONNECT", f"127.0.0.1:{silent.port}"))
        client.quiet(0.3)
        refused(proxy, client, "connect_timeout", method="CONNECT")


@pytest.mark.req("K03", "K04", "B18", "H12")
def test_connect_answer(proxy, origin):
    o, client = origin(echo), proxy.client()
    message = connect(client, o.authority)
    assert message.status == 200
    o.wait(lambda o: len(o.peers) == 1)
    assert "Content-Length" not in message and "Transfer-Encoding" not in message
    for data in (b"x", b"\x00\xff\r\n\r\n", os.urandom(200000)):
        client.send(data)
        assert client.exactly(len(data)) == data
    assert o.peers[0].received.startswith(b"x\x00\xff"), "the origin sees the tunnel's octets and nothing else"


@pytest.mark.req("K05")
@pytest.mark.parametrize("size", [1, 100, 30000, 300000])
def test_octets_behind_the_connect_head(proxy, origin, size):
    o, client, data = origin(echo), proxy.client(), os.urandom(size)
    sender = threading.Thread(target=client.send, args=(request("CONNECT", o.authority) + data,))
    sender.start()
    assert client.response("CONNECT").status == 200
    assert client.exactly(size) == data
    sender.join()
    assert o.peers[0].received == data


@pytest.mark.req("K05", "K07")
def test_octets_of_an_origin_that_speaks_first(proxy, origin):
    o, client = origin(lambda peer: peer.send(b"220 hello\r\n")), proxy.client()
    assert connect(client, o.authority).status == 200
    assert client.rest() == b"220 hello\r\n" and client.ended == "eof"


@pytest.mark.req("K06", "P04")
@pytest.mark.parametrize("closed", [True, False])
def test_nothing_behind_a_refused_connect_is_parsed(start, origin, closed):
    o = origin()
    proxy = start("--allow-private", *(["--user", "anna:sesame"] if not closed else []))
    client = proxy.client()
    target = o.authority if closed else "127.0.0.1:443"
    client.send(request("CONNECT", target) + request("GET", o.url + "/smuggled",
                                                     "Proxy-Authorization: Basic YW5uYTpzZXNhbWU="))
    refused(proxy, client, "connect_port_denied" if closed else "login_missing", method="CONNECT")
    assert not o.peers and len(proxy.events(client)) == 1


@pytest.mark.req("K07")
@pytest.mark.parametrize("size", [0, 1, 3000000])
def test_all_octets_before_a_close_arrive(proxy, origin, size):
    data = os.urandom(size)
    o, client = origin(lambda peer: peer.send(data)), proxy.client()
    assert connect(client, o.authority).status == 200
    assert client.rest() == data and client.ended == "eof"


@pytest.mark.req("K07")
def test_all_octets_of_the_client_before_its_close_arrive(proxy, origin):
    data = os.urandom(3000000)
    o, client = origin(lambda peer: peer.rest()), proxy.client()
    assert connect(client, o.authority).status == 200
    client.send(data)
    client.close()
    o.wait(lambda o: o.peers and len(o.peers[0].received) == len(data))
    assert o.peers[0].received == data


@pytest.mark.req("K07")
@pytest.mark.parametrize("side", ["client", "origin"])
def test_reset_in_a_tunnel_is_passed_on(proxy, origin, side):
    gone = []

    def script(peer):
        peer.exactly(1)
        if side == "origin":
            peer.reset()
        else:
            peer.rest()
            gone.append(peer.ended)
    o, client = origin(script), proxy.client()
    connect(client, o.authority)
    client.send(b"x")
    time.sleep(0.05)
    if side == "client":
        client.reset()
        o.wait(lambda _: gone)
    else:
        client.rest()
    assert proxy.event(client)["cause"] in (None, "client_gone", "origin_reset")


@pytest.mark.req("K08")
def test_half_close_by_the_client(proxy, origin):
    def script(peer):
        peer.send(b"<" + peer.rest() + b">")
    o, client = origin(script), proxy.client()
    connect(client, o.authority)
    client.send(b"question")
    client.finish()
    assert client.rest() == b"<question>" and client.ended == "eof"
    event = proxy.event(client)
    assert (event["cause"], event["method"], event["status"], event["bytes_up"] >= 8) == (None, "CONNECT", 200, True)


@pytest.mark.req("K08")
def test_half_close_by_the_origin(proxy, origin):
    def script(peer):
        peer.send(b"hello")
        peer.finish()
        assert peer.rest() == b"more" * 1000
    o, client = origin(script), proxy.client()
    connect(client, o.authority)
    assert client.rest() == b"hello"
    for _ in range(1000):
        client.send(b"more")
    client.finish()
    o.wait(lambda o: o.peers[0].done)


@pytest.mark.req("K09", "K06")
@pytest.mark.parametrize("field", ["Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked",
                                   "Content-Length: x",
                                   "Transfer-Encoding: gzip", "transfer-encoding: CHUNKED"])
def test_connect_with_a_body(proxy, origin, field):
    o, client = origin(echo), proxy.client()
    client.send(request("CONNECT", o.authority, field) + b"hello")
    refused(proxy, client, "bad_length", "bad_coding", "unknown_coding", method="CONNECT")
    assert not o.peers


@pytest.mark.req("K10", "A07")
@pytest.mark.parametrize("method", ["CONNECT", "GET"])
def test_decision_before_dns_and_tcp(start, origin, names, method):
    names.zone["early.example.test"] = ["127.0.0.1"]
    o = origin(echo)
    target = f"early.example.test:{o.port}"
    url = target if method == "CONNECT" else f"http://{target}/"
    proxy = start("--allow-private", "--user", "anna:sesame", "--connect-ports", "any")
    client = proxy.client()
    client.send(request(method, url))
    refused(proxy, client, "login_missing", method=method, closes=method == "CONNECT")
    other = start("--allow-private")
    if method == "CONNECT":
        client = other.client()
        client.send(request(method, url))
        refused(other, client, "connect_port_denied", method=method)
    assert not o.peers and names.asked("early.example.test") == 0


@pytest.mark.req("K10", "R07")
def test_clients_outside_the_networks(start, origin, names):
    names.zone["outside.example.test"] = ["127.0.0.1"]
    o, proxy = origin(), start("--allow-private", "--clients", "127.9.9.0/24")
    client = proxy.client(source="127.8.8.8")
    client.send(request("GET", f"http://outside.example.test:{o.port}/"))
    refused(proxy, client, "policy_denied", closes=None)
    assert not o.peers and not names.queries
    assert proxy.client(source="127.9.9.9").ask("GET", o.url + "/").status == 200


@pytest.mark.req("K12", "Z03")
def test_idle_tunnel(start, origin):
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "tunnel=1.2")
    gone = []
    o = origin(lambda peer: (echo(peer), gone.append(True)))
    client = proxy.client()
    connect(client, o.authority)
    for _ in range(8):  # longer than the timeout, never idle for so long
        time.sleep(0.2)
        client.send(b"x")
        assert client.exactly(1) == b"x"
    client.closed()
    o.wait(lambda _: gone)
    assert proxy.event(client)["cause"] == "tunnel_timeout"


@pytest.mark.req("K12", "Z03")
def test_half_closed_tunnel(start, origin):
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "half_closed=0.5")
    o = origin(lambda peer: (peer.rest(), time.sleep(2)))
    client = proxy.client()
    connect(client, o.authority)
    client.finish()
    client.closed()
    assert proxy.event(client)["cause"] == "tunnel_timeout"


@pytest.mark.req("K12", "Z03")
def test_lifetime_of_a_tunnel(start, origin):
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "tunnel_total=0.7")
    o, client = origin(echo), proxy.client()
    connect(client, o.authority)
    with pytest.raises((Cut, ConnectionError)):
        for _ in range(100):
            client.send(b"x")
            client.exactly(1)
            time.sleep(0.05)
    assert proxy.event(client)["cause"] in ("tunnel_timeout", "total_timeout")


@pytest.mark.req("K03", "T22")
def test_connect_to_ipv6(proxy, origin, ipv6):
    o, client = origin(echo, host="::1"), proxy.client()
    assert connect(client, o.authority, early=b"six").status == 200
    assert client.exactly(3) == b"six"


@pytest.mark.req("K03")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("fields", [(), ("Proxy-Connection: keep-alive", "User-Agent: x"), ("Connection: close",)])
def test_connect_of_old_and_new_clients(proxy, origin, version, fields):
    o, client = origin(echo), proxy.client()
    client.send(request("CONNECT", o.authority, *fields, version=version) + b"hello")
    assert client.response("CONNECT").status == 200
    assert client.exactly(5) == b"hello"


@pytest.mark.req("K07", "Z07", "H10")
def test_much_in_both_directions_at_once(proxy, origin):
    data = os.urandom(8000000)
    o = origin(echo)
    client = proxy.client()
    connect(client, o.authority)
    sender = threading.Thread(target=lambda: (client.send(data), client.finish()))
    sender.start()
    assert client.rest(patience=60) == data
    sender.join()


# ---- Expect and interim responses


@pytest.mark.req("E01", "E02")
def test_expect_goes_through_at_once(proxy, origin):
    def script(peer):
        message = peer.request(body=False)
        assert message.get("Expect") == b"100-continue"
        peer.quiet(0.2)  # no octet of the body before the 100
        peer.send(b"HTTP/1.1 100 Continue\r\nX-From: origin\r\n\r\n")
        message.body = peer.exactly(5)
        peer.send(response(b"done"))
        peer.rest()
    o, client = origin(script), proxy.client()
    client.send(request("POST", o.url + "/", "Expect: 100-continue", "Content-Length: 5"))
    interim = client.response("POST")
    assert interim.status == 100 and interim.get("X-From") == b"origin"
    client.send(b"hello")
    assert client.response("POST").body == b"done"
    assert o.requests[0].body == b"hello"


@pytest.mark.req("E02")
def test_no_100_is_invented(proxy, origin):
    def script(peer):
        peer.request()
        peer.send(response(b"done"))
        peer.rest()
    o, client = origin(script), proxy.client()
    client.send(request("POST", o.url + "/", "Expect: 100-continue", "Content-Length: 5"))
    client.quiet(0.3)
    client.send(b"hello")
    assert client.response("POST").status == 200


@pytest.mark.req("E03", "P02", "P05")
@pytest.mark.parametrize("status", [417, 401, 413, 200])
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_final_response_instead_of_100(proxy, origin, status, framing):
    def script(peer):
        peer.request(body=False)
        peer.send(response(b"final", status=status))
        peer.rest()
    o, client = origin(script), proxy.client()
    client.send(request("POST", o.url + "/", "Expect: 100-continue", framing))
    back = client.response("POST")
    assert (back.status, back.body) == (status, b"final")
    assert b"close" in back.list("Connection")
    client.closed()


@pytest.mark.req("E04")
def test_expect_in_http_1_0_is_ignored(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("POST", o.url + "/", "Expect: 100-continue", body=b"hello", version="1.0"))
    assert client.response("POST").status == 200
    assert o.requests[0].body == b"hello" and "Expect" not in o.requests[0]


@pytest.mark.req("E04", "Q03")
@pytest.mark.parametrize("value", ["something", "100-continue, x", "200-ok", "100-continue;q=1", '"100-continue"', ""])
def test_unknown_expectations(proxy, origin, value):
    o, client = origin(), proxy.client()
    client.send(request("POST", o.url + "/", "Expect: " + value, body=b"hello"))
    refused(proxy, client, "bad_expectation", method="POST", closes=None)
    assert not o.peers


@pytest.mark.req("E01")
@pytest.mark.parametrize("value", ["100-Continue", "100-CONTINUE", " 100-continue "])
def test_expect_in_any_case(proxy, origin, value):
    o, client = origin(), proxy.client()
    assert client.ask("POST", o.url + "/", "Expect: " + value, body=b"hello").status == 200
    assert o.requests[0].body == b"hello"


@pytest.mark.req("E05", "P05", "P11")
@pytest.mark.parametrize("close", [True, False])
def test_final_response_while_the_body_is_sent(proxy, origin, close):
    def script(peer):
        peer.request(body=False)
        peer.exactly(100000)
        peer.send(response(b"too much", *(["Connection: close"] if close else []), status=413))
        if not close:
            peer.rest(30)
    o, client = origin(script), proxy.client()
    client.send(request("PUT", o.url + "/", "Content-Length: 50000000"))
    stop = threading.Event()

    def upload():
        try:
            while not stop.is_set():
                client.sock.sendall(b"x" * 50000)
        except OSError:
            pass
    sender = threading.Thread(target=upload)
    sender.start()
    try:
        back = client.response("PUT")
    finally:
        stop.set()
        sender.join()
    assert (back.status, back.body) == (413, b"too much") and b"close" in back.list("Connection")


@pytest.mark.req("E06", "B18")
@pytest.mark.parametrize("statuses", [[100], [102], [103, 103], [103, 100], [150, 199], [100] * 16])
def test_interim_responses_are_forwarded(proxy, origin, statuses):
    heads = b"".join(b"HTTP/1.1 %d Interim\r\nLink: <x%d>\r\n\r\n" % (s, i) for i, s in enumerate(statuses))
    o, client = origin(answer(heads + response(b"done"))), proxy.client()
    for _ in range(2):
        client.send(request("GET", o.url + "/"))
        for i, status in enumerate(statuses):
            back = client.response()
            assert back.status == status and back.get("Link") == b"<x%d>" % i
            assert "Content-Length" not in back and "Transfer-Encoding" not in back
            assert b"close" not in back.list("Connection")
        assert client.response().body == b"done"


@pytest.mark.req("B01", "B18")
@pytest.mark.parametrize("field", [b"Content-Length: 50\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_framing_fields_of_interim_responses(proxy, origin, field):
    o, client = origin(answer(b"HTTP/1.1 103 Hints\r\n" + field + b"\r\n" + response(b"done"),
                              then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response()
    if back.status == 103:
        assert "Content-Length" not in back and "Transfer-Encoding" not in back
        back = client.response()
        assert back.body == b"done"
    else:
        assert back.status == 502


@pytest.mark.req("E06")
def test_interim_responses_are_not_held_back(proxy, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        peer.origin.go.wait(10)
        peer.send(response())
    o, client = origin(script), proxy.client()
    o.go = threading.Event()
    client.send(request("GET", o.url + "/"))
    assert client.response().status == 103
    o.go.set()
    assert client.response().status == 200


@pytest.mark.req("E07")
def test_no_interim_response_to_http_1_0(proxy, origin):
    o = origin(answer(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + response(b"done")))
    client = proxy.client()
    assert client.ask("GET", o.url + "/", version="1.0").body == b"done"


@pytest.mark.req("E08", "Z10", "S05")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_interim_responses_are_counted(proxy, origin, version):
    def script(peer):
        peer.request()
        for _ in range(100000):
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/", version=version))
    for _ in range(300):
        message = client.response()
        if message.status >= 200:
            break
    assert message.status == 502 and b"http_protocol_error" in message.get("Proxy-Status")
    assert proxy.event(client)["cause"] == "origin_interim"


@pytest.mark.req("E06", "B22", "S05", "S14")
@pytest.mark.parametrize("then", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nA: b",
                                  b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
@pytest.mark.parametrize("pause", [0, 0.05])
def test_interim_response_and_then_nothing_good(proxy, origin, then, pause):
    def script(peer):
        peer.request()
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
        if pause:
            peer.send(interim)
            time.sleep(pause)
            peer.send(then)
        else:
            peer.send(interim + then)
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/"))
    message = client.response()
    if message.status == 103:
        message = client.response()
    assert message.status == 502 and message.complete


# ---- Upgrade

WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
             "Sec-WebSocket-Version: 13")
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
          b"Sec-WebSocket-Accept: x\r\n\r\n")


def switching(reply, then=echo):
    def script(peer):
        peer.request()
        peer.send(reply)
        then(peer)
    return script


@pytest.mark.req("U01", "U02", "V02")
@pytest.mark.parametrize("fields", [WEBSOCKET, ("connection: keep-alive, upgrade", "UPGRADE: WebSocket"),
                                    ("Connection: x", *WEBSOCKET)])
def test_websocket(proxy, origin, fields):
    o, client = origin(switching(SWITCH + b"early")), proxy.client()
    client.send(request("GET", o.url + "/chat", *fields))
    back = client.response()
    assert back.status == 101 and back.list("Upgrade") == [b"websocket"] and back.list("Connection") == [b"upgrade"]
    assert client.exactly(5) == b"early"
    seen = o.requests[0]
    assert seen.list("Upgrade") == [b"websocket"] and b"upgrade" in seen.list("Connection")
    for data in (b"\x81\x05hello", os.urandom(300000)):
        client.send(data)
        assert client.exactly(len(data)) == data
    client.finish()
    assert client.rest() == b""
    event = proxy.event(client)
    assert (event["status"], event["by"], event["cause"]) == (101, "origin", None)


@pytest.mark.req("U02", "K05")
def test_octets_behind_the_upgrade_request(proxy, origin):
    o, client = origin(switching(SWITCH)), proxy.client()
    client.send(request("GET", o.url + "/chat", *WEBSOCKET) + b"early frames")
    assert client.response().status == 101
    assert client.exactly(12) == b"early frames"


@pytest.mark.req("U02", "B17")
@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_upgrade_of_a_request_with_a_body(proxy, origin, framing):
    """The body comes first; only what is behind it belongs to the new protocol."""
    o, client = origin(switching(SWITCH)), proxy.client()
    body = b"hello" if "Length" in framing else b"5\r\nhello\r\n0\r\n\r\n"
    client.send(request("POST", o.url + "/", *WEBSOCKET, framing) + body + b"frames")
    message = client.response("POST")
    if message.status == 101:
        assert o.requests[0].body == b"hello" and client.exactly(6) == b"frames"
    else:
        assert message.status in (400, 501, 502)


@pytest.mark.req("U01", "H03")
@pytest.mark.parametrize("fields", [("Connection: Upgrade", "Upgrade: h2c"),
                                    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
                                    ("Connection: Upgrade", "Upgrade: TLS/1.0"),
                                    ("Connection: Upgrade", "Upgrade: websocket, h2c"),
                                    ("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
                                    ("Upgrade: websocket",),
                                    ("Connection: Upgrade", "Upgrade:"), ("Connection: Upgrade",),
                                    ("Connection: Upgrade", "Upgrade: websocketx")])
def test_other_upgrades_are_stripped(proxy, origin, fields):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", *fields).status == 200
    assert o.requests[0].list("Upgrade") in ([], [b"websocket"]) and "HTTP2-Settings" not in o.requests[0]
    assert ("Upgrade" in o.requests[0]) == (b"upgrade" in o.requests[0].list("Connection"))
    if b"websocket" in o.requests[0].list("Upgrade"):
        assert "Upgrade: websocket, h2c" in fields


@pytest.mark.req("U01")
def test_declined_upgrade(proxy, origin):
    o, client = origin(answer(response(b"no"))), proxy.client()
    assert client.ask("GET", o.url + "/", *WEBSOCKET).body == b"no"
    assert client.ask("GET", o.url + "/2").body == b"no"
    assert "Upgrade" not in o.requests[1]


@pytest.mark.req("U03", "S05", "Q03")
@pytest.mark.parametrize("asked,reply", [((), SWITCH), (WEBSOCKET, SWITCH.replace(b"websocket", b"h2c")),
                                         (("Connection: Upgrade", "Upgrade: h2c"),
                                          SWITCH.replace(b"websocket", b"h2c")),
                                         (WEBSOCKET, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
                                         (WEBSOCKET, SWITCH.replace(b"websocket", b"websocket, h2c"))])
def test_unasked_switch(proxy, origin, asked, reply):
    o, client = origin(switching(reply + b"tunnel", then=lambda peer: peer.rest())), proxy.client()
    client.send(request("GET", o.url + "/", *asked))
    refused(proxy, client, "origin_upgrade", closes=None)


@pytest.mark.req("U03", "E07")
def test_switch_for_http_1_0(proxy, origin):
    o, client = origin(switching(SWITCH, then=lambda peer: peer.rest())), proxy.client()
    client.send(request("GET", o.url + "/", *WEBSOCKET, version="1.0"))
    refused(proxy, client, "origin_upgrade")


@pytest.mark.req("U04")
def test_upgrade_in_http_1_0_is_ignored(proxy, origin):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", *WEBSOCKET, version="1.0").status == 200
    assert "Upgrade" not in o.requests[0]


@pytest.mark.req("K12", "U02", "Z03")
def test_idle_websocket(start, origin):
    proxy = start("--allow-private", "--timeout", "tunnel=0.4", "--timeout", "response=20")
    o, client = origin(switching(SWITCH)), proxy.client()
    client.send(request("GET", o.url + "/", *WEBSOCKET))
    assert client.response().status == 101
    client.closed()
    assert proxy.event(client)["cause"] == "tunnel_timeout"
