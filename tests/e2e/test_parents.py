# SPDX-License-Identifier: MIT
"""Ways to origins by parents that follow a script: HTTP proxies and SOCKS5 servers, some of them odd. Those of real
programs are in test_real_parents.py."""
import base64
import collections
import contextlib
import errno
import random
import threading
import time

import pytest

import secure
from peers import Client, Cut, Silent, answer, chunked, request, response, unused_port
from proxy import OPEN, refused

ORIGIN = "http://origin.test:8080"


def basic(login):
    return b"Basic " + base64.b64encode(login.encode())


def echo(peer):
    while data := peer.some():
        peer.send(data)


def http_parent(reply=b"", connected=b"HTTP/1.1 200 OK\r\n\r\n", challenge=None, then_close=False):
    """A parent that answers as if it had asked the origin, and whose tunnels echo. `challenge`: methods to which it
    says that the login is not known."""
    def script(peer):
        while True:
            message = peer.request()
            if message.method in (challenge or ()):
                peer.send(response(b"who?", "Proxy-Authenticate: Basic realm=x", status=407, reason="Who"))
            elif message.method == "CONNECT":
                peer.send(connected)
                return echo(peer)
            else:
                peer.send(reply or response(message.method.encode() + message.body))
            if then_close:
                return None
    return script


def socks5_parent(script, login=None, reply=0):
    """`told` of the origin's fixture gets whom it was to connect to."""
    def run(peer):
        peer.origin.told = getattr(peer.origin, "told", [])
        offered = peer.exactly(peer.exactly(2)[1])
        if login:
            name, password = login.encode().split(b":")
            assert 2 in offered
            peer.send(b"\5\2")
            assert peer.exactly(peer.exactly(2)[1]) == name
            assert peer.exactly(peer.exactly(1)[0]) == password
            peer.send(b"\1\0")
        else:
            assert offered == b"\0"
            peer.send(b"\5\0")
        assert peer.exactly(3) == b"\5\1\0"
        kind = peer.exactly(1)[0]
        host = peer.exactly({1: 4, 4: 16}[kind] if kind != 3 else peer.exactly(1)[0])
        peer.origin.told.append((kind, host, int.from_bytes(peer.exactly(2), "big")))
        peer.send(b"\5" + bytes([reply]) + b"\0\1\0\0\0\0\0\0")
        if reply == 0:
            script(peer)
    return run


@pytest.fixture
def by(start, origin):
    """by(script, …) starts a parent for each script, and the proxy that has them in this order."""
    def run(*scripts, scheme="http", logins=(), options=()):
        run.parents = [origin(script) if callable(script) else script for script in scripts]
        ways = []
        for i, parent in enumerate(run.parents):
            login = logins[i] + "@" if i < len(logins) and logins[i] else ""
            ways += ["--parent", f"{scheme}://{login}{parent.authority}"]
        return start(*OPEN, *ways, *options)
    return run


class Nobody:
    """Where nothing listens."""
    def __init__(self):
        self.authority = f"127.0.0.1:{unused_port()}"


class NoAnswer(Silent):
    """Where connections do not open."""
    def __init__(self):
        super().__init__()
        self.authority = f"127.0.0.1:{self.port}"


def tunnel(client, authority="origin.test:443"):
    client.send(request("CONNECT", authority))
    message = client.response("CONNECT")
    assert message.status == 200
    return message


def echoes(client, data=b"x" * 3000):
    client.send(data)
    assert client.exactly(len(data)) == data


# ---- What every stack has to do


@pytest.mark.req("T03", "H06", "V01", "E01", "C01")
@pytest.mark.parametrize("login", [None, "anna:sesame"])
def test_requests_by_an_http_parent(by, login):
    proxy = by(http_parent(), logins=[login])
    client, (parent,) = proxy.client(), by.parents
    assert client.ask("GET", ORIGIN + "/a?b").body == b"GET"
    assert client.ask("POST", "http://other.test/", body=b"data").body == b"POSTdata"
    client.send(request("POST", ORIGIN, "Transfer-Encoding: chunked") + chunked(b"one", b"two"))
    assert client.response().body == b"POSTonetwo"
    assert client.ask("HEAD", ORIGIN + "/", "Proxy-Authorization: Basic eDp5").status == 200
    assert [(m.method, m.target) for m in parent.requests] == [
        ("GET", b"http://origin.test:8080/a?b"), ("POST", b"http://other.test/"), ("POST", b"http://origin.test:8080"),
        ("HEAD", b"http://origin.test:8080/")]
    assert {m.get("Host") for m in parent.requests} == {b"origin.test:8080", b"other.test"}
    assert {m.get("Via") for m in parent.requests} == {b"1.1 tester"}
    assert {m.get("Proxy-Authorization") for m in parent.requests} == {basic(login) if login else None}
    assert len(parent.peers) == 1, "one connection for all origins"
    assert {r["via"] for r in proxy.events(client, 4)} == {parent.authority}


@pytest.mark.req("K11", "N04")
@pytest.mark.parametrize("name", ["o.test", ".".join(["a" * 49] * 5) + ".b"])
def test_clients_that_speak_socks5_by_an_http_parent(by, name):
    asked = f"\x05\x01\x00\x05\x01\x00\x03{chr(len(name))}{name}\x00\x50".encode("latin-1")
    proxy = by(http_parent(), logins=["anna:sesame"])
    client = proxy.client()
    client.send(asked + b"early")
    assert client.exactly(12) == b"\x05\x00\x05\x00\x00\x01" + bytes(6) and client.exactly(5) == b"early"
    (message,) = by.parents[0].requests
    assert (message.method, message.target) == ("CONNECT", f"{name}:80".encode())
    refuses = by(answer(b"HTTP/1.1 102 Wait\r\n\r\n" + response(status=403)))
    client = refuses.client()
    client.send(asked)
    assert client.exactly(12) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)
    assert refuses.event(client, 403)["cause"] == "parent_refused"


@pytest.mark.req("K11", "K05", "K07", "H06")
@pytest.mark.parametrize("login", [None, "anna:sesame"])
def test_tunnels_by_an_http_parent(by, login):
    proxy = by(http_parent(), logins=[login])
    client, (parent,) = proxy.client(), by.parents
    client.send(request("CONNECT", "origin.test:443") + b"early")
    message = client.response("CONNECT")
    assert message.status == 200 and "Transfer-Encoding" not in message and "Content-Length" not in message
    assert client.exactly(5) == b"early"
    echoes(client, b"y" * 100000)
    client.finish()
    assert client.closed() == "eof"
    (asked,) = parent.requests
    assert asked.target == b"origin.test:443" and asked.get("Host") == b"origin.test:443"
    assert asked.get("Via") == b"1.1 tester" and asked.get("Proxy-Authorization") == (basic(login) if login else None)


@pytest.mark.req("T03", "K11", "H06")
@pytest.mark.parametrize("login", [None, "anna:sesame"])
def test_by_a_socks5_server(by, login):
    def script(peer):
        message = peer.request() if not peer.origin.told[-1][2] == 443 else None
        if message is None:
            return echo(peer)
        peer.send(response(message.method.encode() + message.body))
        return peer.rest()
    proxy = by(socks5_parent(script, login), scheme="socks5", logins=[login])
    (parent,) = by.parents
    assert proxy.client().ask("GET", ORIGIN + "/a").body == b"GET"
    assert proxy.client().ask("POST", "http://127.0.0.1/", body=b"data").body == b"POSTdata"
    client = proxy.client()
    tunnel(client)
    echoes(client)
    assert parent.told == [(3, b"origin.test", 8080), (1, b"\x7f\0\0\1", 80), (3, b"origin.test", 443)]
    assert [m.target for m in parent.requests] == [b"/a", b"/"]
    assert all("Proxy-Authorization" not in m for m in parent.requests)


@pytest.mark.req("H06", "K11", "P08")
@pytest.mark.parametrize("first", ["nobody", "no answer", "ends at once", "ends", "ends in a head"])
def test_the_next_parent_gets_what_the_first_does_not_serve(by, first):
    """With its own login, and the client hears nothing of what the first has said. A request that cannot be repeated
    goes elsewhere while nothing of it was sent."""
    script = {"nobody": Nobody, "no answer": NoAnswer, "ends at once": lambda: lambda peer: None,
              "ends": lambda: lambda peer: peer.request(),
              "ends in a head": lambda: lambda peer: (peer.request(), peer.drip(b"HTTP/1.1 200 OK\r\nX: ", 9))}[first]
    proxy = by(script(), http_parent(), logins=["one:1", "two:2"], options=["--timeout", "hop=1"])
    dead, parent = by.parents
    assert proxy.client().ask("GET", ORIGIN + "/").body == b"GET"
    client = proxy.client()
    tunnel(client)
    echoes(client)
    if first == "ends in a head":
        assert proxy.hop_records(0) == [], "that may be the origin's fault"
        return
    proxy.hop_state(dead.authority, "down")
    assert proxy.client().ask("POST", ORIGIN + "/", body=b"data").body == b"POSTdata"
    assert {m.get("Proxy-Authorization") for m in parent.requests} == {basic("two:2")}
    assert {m.get("Proxy-Authorization") for m in getattr(dead, "requests", [])} <= {basic("one:1")}
    assert {r["via"] for r in proxy.records()} == {parent.authority}


@pytest.mark.req("S07", "G05", "K11")
def test_no_parent_is_left(by, origin):
    proxy = by(Nobody(), Nobody())
    for method, target in (("GET", ORIGIN + "/"), ("POST", ORIGIN + "/"), ("CONNECT", "origin.test:443")):
        client = proxy.client()
        client.send(request(method, target))
        refused(proxy, client, "no_parent", method=method, closes=None)
    for dead in by.parents:
        assert proxy.hop_state(dead.authority, "down")["cause"] == "connection_refused"
    parent = origin(http_parent(), port=int(by.parents[1].authority.split(":")[1]))
    while proxy.client().ask("GET", ORIGIN + "/").status != 200:
        time.sleep(0.1)
    assert len(parent.requests) == 1 and proxy.hop_state(parent.authority, "up")


@pytest.mark.req("G05", "K11")
def test_parents_by_name(start, origin, names):
    """One that has no address is passed over."""
    one, other = origin(http_parent(response(b"one"))), origin(http_parent(response(b"other")))
    proxy = start(*OPEN, "--parent", f"http://one.test:{one.port}", "--parent", f"http://other.test:{other.port}")
    names.zone["other.test"] = ["127.0.0.1"]
    for _ in range(2):
        assert proxy.client().ask("GET", ORIGIN + "/").body == b"other"
    assert proxy.hop_state(f"one.test:{one.port}", "down")["cause"] == "name_not_found"
    assert names.asked("origin.test") == 0, "the parent resolves that"
    assert one.requests == [] and len(other.requests) == 2


@pytest.mark.req("T03", "K11")
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_parent_at_an_ipv6_address(start, origin, ipv6, scheme):
    """For an origin at one."""
    script = http_parent() if scheme == "http" else socks5_parent(http_parent())
    parent = origin(script, host="::1")
    proxy = start(*OPEN, "--parent", f"{scheme}://{parent.authority}")
    client = proxy.client()
    assert client.ask("GET", "http://[2606:2800:220:1::1]:8080/").body == b"GET"
    assert proxy.event(client)["via"] == parent.authority
    if scheme == "http":
        assert parent.requests[0].target == b"http://[2606:2800:220:1::1]:8080/"
    else:
        assert parent.told == [(4, bytes.fromhex("26062800022000010000000000000001"), 8080)]


@pytest.mark.req("G01")
def test_requests_that_went_nowhere_name_no_parent(by):
    """Also where the client's connection has one to a parent that an earlier request left."""
    proxy = by(http_parent())
    client, (parent,) = proxy.client(), by.parents
    assert client.ask("GET", ORIGIN + "/1").status == 200
    assert client.ask("GET", ORIGIN + "/2").status == 200
    assert client.ask("OPTIONS", "*", host="proxy.example").status == 200
    assert client.ask("GET", ORIGIN + "/3").status == 200
    client.send(request("GET", ORIGIN + "/4")[:-2])
    client.reset()
    records = proxy.events(client, 5)
    assert [r.get("via") for r in records] == [parent.authority, parent.authority, None, parent.authority, None]
    assert [r["address"] for r in records] == [parent.authority, parent.authority, None, parent.authority, None]
    assert [r["reused"] for r in records] == [False, True, False, False, False]


@pytest.mark.req("P08", "K11")
def test_a_tunnel_behind_requests_on_one_connection(by):
    """By a new connection to the parent."""
    proxy = by(http_parent())
    client, (parent,) = proxy.client(), by.parents
    assert client.ask("GET", ORIGIN + "/1").body == b"GET"
    client.send(request("GET", ORIGIN + "/2") + request("CONNECT", "origin.test:443") + b"early")
    assert client.response().body == b"GET"
    assert client.response("CONNECT").status == 200
    assert client.exactly(5) == b"early"
    echoes(client)
    assert [m.connection for m in parent.requests] == [0, 0, 1]


@pytest.mark.req("Z08", "P08")
def test_the_next_parent_with_few_buffers(small, origin):
    """More clients than there are sessions, each of whose requests is sent twice."""
    broken, parent = origin(lambda peer: peer.request()), origin(http_parent())
    proxy = small(*OPEN, "--parent", f"http://{broken.authority}", "--parent", f"http://{parent.authority}")
    for round_ in range(5):
        clients = [proxy.client() for _ in range(4)]
        for client in clients:
            client.send(request("GET", f"{ORIGIN}/{round_}"))
        for client in clients:
            assert client.response().body == b"GET"
            client.close()
        proxy.wait_idle()
    assert len(parent.requests) == 20 and proxy.hop_state(broken.authority, "down")


@pytest.mark.req("P06", "P08")
def test_pipelined_requests_by_parents(by):
    """The first ends each connection, with an answer to one request in two."""
    def every_other(peer):
        peer.request()
        peer.send(response(b"first"))
        peer.request()
    proxy = by(every_other, http_parent(response(b"second")))
    client = proxy.client()
    client.send(b"".join(request("GET", f"{ORIGIN}/{i}") for i in range(20)))
    bodies = [client.response().body for _ in range(20)]
    assert set(bodies) <= {b"first", b"second"} and b"first" in bodies
    assert len(proxy.events(client, 20)) == 20


@pytest.mark.req("U01", "U02")
def test_an_upgrade_by_a_parent(by):
    def script(peer):
        message = peer.request()
        assert message.target == b"http://origin.test:8080/chat" and message.list("Upgrade") == [b"websocket"]
        peer.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        echo(peer)
    client = by(script).client()
    client.send(request("GET", ORIGIN + "/chat", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"))
    assert client.response().status == 101
    assert client.exactly(5) == b"hello"
    echoes(client)


@pytest.mark.req("S14", "K07")
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_clients_that_leave_while_a_parent_takes_its_time(by, scheme):
    """start() looks whether anything is left over."""
    proxy = by(lambda peer: peer.rest(60), scheme=scheme, options=["--timeout", "first_byte=1", "--timeout", "hop=1"])
    for leave in ("close", "reset", "finish"):
        for method, target in (("GET", ORIGIN + "/"), ("CONNECT", "origin.test:443")):
            client = proxy.client()
            client.send(request(method, target))
            by.parents[0].wait(lambda p: p.peers and p.peers[-1].received or time.sleep(0.01))
            getattr(client, leave)()
            client.close()
    proxy.wait_idle()


@pytest.mark.req("K11", "S05", "S06")
@pytest.mark.parametrize("reply, status", [(1, 502), (2, 403), (3, 502), (4, 502), (5, 502), (6, 504), (7, 502),
                                           (8, 502), (9, 502), (255, 502)])
def test_what_a_socks5_server_says_instead(by, reply, status):
    """It works, the origin does not (RFC 1928 section 6)."""
    proxy = by(socks5_parent(echo, reply=reply), scheme="socks5")
    for method, target in (("GET", ORIGIN + "/"), ("CONNECT", "origin.test:443"), ("GET", ORIGIN + "/")):
        client = proxy.client()
        client.send(request(method, target))
        assert client.response(method).status == status
    assert proxy.hop_records(0) == []


@pytest.mark.req("K11", "K05")
def test_a_socks5_server_that_speaks_in_crumbs(by):
    """The address that it tells is a name, and what comes behind it is the tunnel's."""
    def script(peer):
        assert peer.exactly(3) == b"\5\1\0"
        peer.drip(b"\5\0", 1, 0.01)
        peer.exactly(7 + len("origin.test"))
        peer.drip(b"\5\0\0\3\4name\x01\xbbfirst words", 1, 0.005)
        echo(peer)
    client = by(script, scheme="socks5").client()
    client.send(request("CONNECT", "origin.test:443") + b"early")
    assert client.response("CONNECT").status == 200
    assert client.exactly(16) == b"first wordsearly"
    echoes(client)


# ---- Parents that are odd


@pytest.mark.req("P08", "P09")
def test_a_parent_that_closes_between_requests(by):
    """With a response that does not say so."""
    proxy = by(http_parent(then_close=True))
    client, (parent,) = proxy.client(), by.parents
    for i in range(5):
        assert client.ask("GET", f"{ORIGIN}/{i}").body == b"GET"
        parent.wait(lambda p, n=i: p.peers[n].done)
    assert [m.target.rsplit(b"/")[-1] for m in parent.requests] == [b"0", b"1", b"2", b"3", b"4"]
    assert client.ask("POST", ORIGIN + "/", body=b"data").body == b"POSTdata"
    assert proxy.hop_records(0) == []


@pytest.mark.req("H07", "K11")
def test_a_parent_that_asks_who_it_is_for_tunnels_alone(by):
    proxy = by(http_parent(challenge=["CONNECT"]), logins=["anna:sesame"])
    assert proxy.client().ask("GET", ORIGIN + "/").body == b"GET"
    client = proxy.client()
    client.send(request("CONNECT", "origin.test:443"))
    assert "Proxy-Authenticate" not in refused(proxy, client, "parent_login", method="CONNECT", closes=None)
    assert proxy.client().ask("GET", ORIGIN + "/").body == b"GET"
    assert proxy.hop_records(0) == [], "one that works is not down"


@pytest.mark.req("K04", "K11", "K05")
@pytest.mark.parametrize("head", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 204 Fine\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
def test_a_tunnel_begins_behind_the_head_of_any_2xx(by, head):
    """Whatever that says of a body (RFC 9110 section 9.3.6)."""
    proxy = by(http_parent(connected=head + b"first words"))
    client = proxy.client()
    message = tunnel(client)
    assert not {name.lower() for name, _ in message.fields} & {b"content-length", b"transfer-encoding", b"link"}
    assert client.exactly(11) == b"first words"
    echoes(client)


@pytest.mark.req("K11", "K03", "S05")
@pytest.mark.parametrize("head", [b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", b"HTTP/1.1 500 No\r\n\r\nno",
                                  b"HTTP/1.1 302 There\r\nLocation: http://evil.test/\r\n\r\n"])
def test_a_tunnel_that_a_parent_refuses(by, head):
    """Nothing that the parent says is told in the name of the origin."""
    proxy = by(http_parent(connected=head))
    client = proxy.client()
    client.send(request("CONNECT", "origin.test:443") + b"early")
    message = client.response("CONNECT")
    assert message.status == (403 if b"403" in head else 502)
    assert "Location" not in message and message.body.startswith(b"The next proxy refused")
    client.closed()
    assert proxy.event(client)["cause"] == "parent_refused"


@pytest.mark.req("M13", "K11")
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_a_head_in_crumbs(by, method):
    def script(peer):
        peer.request()
        peer.drip(b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n", 1, 0.001)
        peer.drip(b"Content-Length: 6\r\n\r\ncrumbs" if method == "GET" else b"\r\ncrumbs", 1, 0.001)
        peer.rest()
    proxy = by(script)
    client = proxy.client()
    client.send(request(method, ORIGIN + "/" if method == "GET" else "origin.test:443"))
    message = client.response(method)
    if method == "GET":
        assert message.status == 103 and message.get("Link") == b"</a>"
        message = client.response(method)
        assert message.body == b"crumbs"
    else:
        assert client.exactly(6) == b"crumbs"
    assert message.status == 200


@pytest.mark.req("E03", "E05")
def test_interim_responses_of_a_parent(by):
    def script(peer):
        message = peer.request(body=False)
        assert message.list("Expect") == [b"100-continue"]
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.exactly(4) == b"data"
        peer.send(response(b"thanks"))
        peer.rest()
    client = by(script).client()
    client.send(request("POST", ORIGIN + "/", "Expect: 100-continue", "Content-Length: 4"))
    assert client.response().status == 100
    client.send(b"data")
    assert client.response().body == b"thanks"


@pytest.mark.req("B14", "S05")
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_response_that_breaks_off(by, framing):
    """The client sees that. It is not asked for again elsewhere: a part of it has gone to the client."""
    def script(peer):
        peer.request()
        peer.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n1000\r\n".encode() + b"x" * 4000)
        peer.quiet(0.2)
        peer.reset()
    proxy = by(script, http_parent())
    client = proxy.client()
    client.send(request("GET", ORIGIN + "/"))
    message = client.response(whole=False)
    assert message.status == 200 and not message.complete and message.body.count(b"x") <= 4000
    assert proxy.event(client)["cause"] == "origin_reset"
    assert by.parents[1].requests == [] and proxy.hop_records(0) == []


@pytest.mark.req("S05")
@pytest.mark.parametrize("scheme, words", [
    ("http", b"\0\1\2\3"), ("http", b"SSH-2.0-x\r\n"), ("http", b"\5\0"), ("socks5", b"HTTP/1.1 400 Bad\r\n\r\n"),
    ("socks5", b"\5\1"), ("socks5", b"\5\0\4\0\0\1\0\0\0\0\0\0"), ("socks5", b"\5\0\5\0\0\2\0\0\0\0\0\0")])
def test_parents_that_speak_something_else(by, scheme, words):
    def script(peer):
        peer.some()
        peer.send(words)
        peer.rest()
    proxy = by(script, scheme=scheme)
    for method, target in (("POST", ORIGIN + "/"), ("CONNECT", "origin.test:443")):
        client = proxy.client()
        client.send(request(method, target))
        if scheme == "socks5":
            refused(proxy, client, "no_parent", method=method, closes=None)
        else:
            assert client.response(method).status == 502
        client.close()


def moody(seed, bad):
    """A parent of either kind that does what it likes with each connection, and is not there for some of them."""
    rng = random.Random(seed)

    def reply(peer, message):
        body = rng.choice([b"", b"short", b"long" * 5000])
        pieces = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x", body)
        whole = rng.choice([response(body), pieces, b"HTTP/1.1 103 Hints\r\n\r\n" + response(body),
                            response(b"who?", status=407) if rng.random() < 0.3 else pieces,
                            response(b"no", "Connection: close", status=503), b"junk\r\n\r\n"])
        if message.method == "CONNECT" and rng.random() < 0.6:
            whole = b"HTTP/1.1 200 OK\r\n\r\n" + body
        sent = rng.choice([len(whole), len(whole), rng.randrange(len(whole) + 1)])
        peer.drip(whole[:sent], rng.choice([7, 300, 100000]))
        return rng.choice(["", "", "", "end", "reset"] if sent == len(whole) else ["", "end", "end", "end", "reset"])

    def script(peer):
        mood = rng.random()
        if mood < bad / 2:
            return peer.reset()
        first = peer.exactly(1)
        if first == b"\5":  # SOCKS5
            peer.some()
            peer.send(rng.choice([b"\5\0", b"\5\0", b"\5\0", b"\5\xff", b"\5", b"HT"]))
            if not peer.some():
                return None
            peer.drip(rng.choice([b"\5\0\0\1\0\0\0\0\0\0"] * 3 + [b"\5\5\0\1", b"\5\0\0\3\1x\0\0", b"\5\0\0"]), 3)
        else:
            peer.buffer[:0] = first
        if mood < bad:
            return peer.some()
        try:
            while not (end := reply(peer, peer.request())):
                pass
            return peer.reset() if end == "reset" else None
        except (AssertionError, OSError):  # a tunnel to no server of HTTP, or nobody is there any more
            return None
    return script


@pytest.mark.req("R01", "Z08", "K11")
@pytest.mark.parametrize("seed", range(2))
def test_parents_that_do_what_they_like(small, origin, seed):
    """Whoever asks gets a well-formed answer or an end, and nothing is left over."""
    parents = [origin(moody(100 * seed + i, 0.5 / (i + 1))) for i in range(6)]
    ways = [word for i, p in enumerate(parents)
            for word in ("--parent", f"{'socks5' if i % 3 == 2 else 'http'}://{p.authority}")]
    timeouts = [word for name in ("hop", "connect", "first_byte", "response", "tunnel", "buffer")
                for word in ("--timeout", f"{name}=1")]
    proxy = small(*OPEN, *ways, *timeouts)
    problems = []

    def ask(rng):
        with contextlib.closing(Client(proxy)) as client:
            method = rng.choice(["GET", "GET", "HEAD", "POST", "CONNECT"])
            body = rng.randbytes(rng.choice([0, 10, 9000])) if method == "POST" else None
            client.send(request(method, "origin.test:443" if method == "CONNECT" else ORIGIN + "/", body=body))
            if rng.random() < 0.1:
                return
            while (message := client.response(method, whole=False)).status < 200:
                pass
            if message.status == 503:  # some of them are tried again soon
                time.sleep(0.1)
            elif method == "CONNECT" and message.status == 200:
                client.send(request("GET", "/"))
                client.finish()
                client.rest()

    def ask_often(number):
        rng = random.Random(number)
        for _ in range(40):
            try:
                ask(rng)
            except (Cut, ConnectionError):
                pass
            except Exception as error:  # pylint: disable=broad-except
                if getattr(error, "errno", None) != errno.ENOTCONN:  # the end of what has been reset
                    problems.append(error)

    threads = [threading.Thread(target=ask_often, args=(1000 * seed + i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    proxy.wait_idle()
    causes = collections.Counter(r["cause"] for r in proxy.records())
    assert causes[None] > 0 and len(causes) > 4, causes


# ---- Loops


@pytest.mark.req("H08", "H09", "V04")
def test_the_proxy_as_its_own_parent(start):
    port = unused_port()
    proxy = start(*OPEN, "--parent", f"http://127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    for _ in range(2):
        client = proxy.client()
        client.send(request("GET", ORIGIN + "/"))
        refused(proxy, client, "no_parent", closes=None)
    assert proxy.hop_state(f"127.0.0.1:{port}", "down")["cause"] == "loop"
    assert len(proxy.records()) == 2


@pytest.mark.req("H08", "V04")
def test_two_proxies_that_are_parents_of_each_other(start):
    ports = unused_port(), unused_port()
    scheme, trust = ("https", ["--ca", secure.own()[1]]) if secure.OVER_TLS else ("http", [])
    one, other = (start("--allow-private", "--name", f"node{i}", "--parent", f"{scheme}://127.0.0.1:{ports[1 - i]}",
                        *trust, listen=f"127.0.0.1:{ports[i]}") for i in range(2))
    client = one.client()
    message = client.ask("GET", ORIGIN + "/")
    assert message.status == 502 and b"proxy_loop_detected" in b",".join(message.all("Proxy-Status"))
    client = one.client()
    client.send(request("CONNECT", "origin.test:443"))
    assert client.response("CONNECT").status == 502
    while [r["cause"] for r in one.records()].count("loop") < 2:
        time.sleep(0.01)
    assert other.hop_records(0) == one.hop_records(0) == []
