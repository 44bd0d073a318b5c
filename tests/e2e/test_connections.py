# SPDX-License-Identifier: MIT
"""Persistence, pipelining, reuse and tear-down of connections."""
import threading
import time

import pytest

import world
from peers import Cut, answer, chunked, request, response
from proxy import refused


@pytest.mark.req("P01", "P08")
def test_many_requests_on_one_connection(proxy, origin):
    o, client = origin(), proxy.client()
    for i in range(50):
        assert client.ask("GET", f"{o.url}/{i}").status == 200
    assert [r.target for r in o.requests] == [b"/%d" % i for i in range(50)]
    assert len(o.peers) == 1, "the connection to the origin is kept too"


@pytest.mark.req("P01", "B01", "B16")
def test_all_kinds_of_exchanges_on_one_connection(proxy, origin):
    coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"def")
    bare = b"HTTP/1.1 204 None\r\n\r\n"
    o = origin(answer(response(b"one"), coded, bare, response(b"h"), response(b"x" * 100000), coded))
    client = proxy.client()
    assert client.ask("GET", o.url + "/").body == b"one"
    assert client.ask("POST", o.url + "/", body=b"p" * 70000).body == b"abcdef"
    assert client.ask("DELETE", o.url + "/").status == 204
    assert client.ask("GET", o.url + "/").body == b"h"
    client.send(request("PUT", o.url + "/", "Transfer-Encoding: chunked") + chunked(b"q" * 1000, b"r"))
    assert len(client.response("PUT").body) == 100000
    assert client.ask("GET", o.url + "/").body == b"abcdef"


@pytest.mark.req("P02", "P04")
@pytest.mark.parametrize("field", ["Connection: close", "connection: CLOSE", "Connection: x, close",
                                   "Connection: close, keep-alive"])
def test_client_asks_to_close(proxy, origin, field):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/", field) + request("GET", o.url + "/never"))
    back = client.response()
    assert back.body == b"ok" and b"close" in back.list("Connection")
    client.closed()
    time.sleep(0.05)
    assert [r.target for r in o.requests] == [b"/"]


@pytest.mark.req("P02")
@pytest.mark.parametrize("field", ["Proxy-Connection: close", "Proxy-Connection: keep-alive", "Connection: keep-alive",
                                   "X: close"])
def test_what_is_no_wish_to_close(proxy, origin, field):
    """Only Connection decides; whatever the proxy makes of the rest, it says what it does."""
    o, client = origin(), proxy.client()
    back = client.ask("GET", o.url + "/", field)
    if b"close" in back.list("Connection"):
        client.closed()
    else:
        assert client.ask("GET", o.url + "/2").status == 200


@pytest.mark.req("P03", "P02", "B19")
@pytest.mark.parametrize("fields", [(), ("Connection: keep-alive",), ("Proxy-Connection: keep-alive",),
                                    ("Keep-Alive: 300", "Connection: Keep-Alive")])
def test_no_persistence_with_http_1_0(proxy, origin, fields):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/", *fields, version="1.0") + request("GET", o.url + "/never"))
    back = client.response()
    assert back.body == b"ok" and b"keep-alive" not in back.list("Connection") and b"close" in back.list("Connection")
    client.closed()
    assert len(o.requests) == 1


@pytest.mark.req("P04", "P08")
@pytest.mark.parametrize("answered", [response(b"ok", "Connection: close"), response(version="1.0"),
                                      response(b"ok", "Connection: x, Close"),
                                      response(b"ok", "Connection: keep-alive", version="1.0")])
def test_origin_that_will_close_is_not_asked_again(proxy, origin, answered):
    o, client = origin(answer(answered)), proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    assert client.ask("GET", o.url + "/").status == 200
    assert len(o.peers) == 2 or b"keep-alive" in answered


@pytest.mark.req("P05", "P02")
def test_response_before_the_end_of_the_request_body(proxy, origin):
    """Either the rest of the body is read, or the connection closes; it is never taken for a request."""
    def script(peer):
        peer.request(body=False)
        peer.send(response())
        peer.rest()
    o, client = origin(script), proxy.client()
    body = request("GET", o.url + "/smuggled")
    client.send(request("POST", o.url + "/", f"Content-Length: {len(body) * 2}") + body)
    back = client.response("POST")
    client.send(body)
    if b"close" in back.list("Connection"):
        client.closed()
    time.sleep(0.05)
    assert [r.target for r in o.requests] == [b"/"]
    assert len(proxy.events(client)) == 1


@pytest.mark.req("P06", "B17")
def test_pipelining(proxy, origin):
    def script(peer):
        while True:
            message = peer.request()
            peer.send(response(message.target + message.body))
    o, client = origin(script), proxy.client()
    data, expected = b"", []
    for i in range(30):
        kind = i % 3
        if kind == 0:
            data += request("GET", f"{o.url}/{i}")
        elif kind == 1:
            data += request("POST", f"{o.url}/{i}", body=b"b" * i)
        else:
            data += request("PUT", f"{o.url}/{i}", "Transfer-Encoding: chunked") + chunked(b"b" * i)
        expected.append(b"/%d" % i + (b"b" * i if kind else b""))
    client.send(data)
    assert [client.response().body for _ in range(30)] == expected


@pytest.mark.req("P06", "P07")
def test_pipelining_to_several_origins(proxy, origin):
    origins = [origin(answer(response(b"%d" % i))) for i in range(3)]
    client = proxy.client()
    client.send(b"".join(request("GET", origins[i % 3].url + "/") for i in range(12)))
    assert [client.response().body for i in range(12)] == [b"%d" % (i % 3) for i in range(12)]


@pytest.mark.req("P06", "S01")
def test_bad_request_in_a_pipeline(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/1") + request("GET", o.url + "/2", "bad field") + request("GET", o.url + "/3"))
    assert client.response().status == 200
    refused(proxy, client, "bad_field")
    assert [r.target for r in o.requests] == [b"/1"]


@pytest.mark.req("P06", "P12")
def test_pipelining_then_half_close(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(b"".join(request("GET", f"{o.url}/{i}") for i in range(10)))
    client.finish()
    assert [client.response().status for _ in range(10)] == [200] * 10
    client.closed()


@pytest.mark.req("P06")
def test_connect_at_the_end_of_a_pipeline(proxy, origin):
    o, echo = origin(), origin(lambda peer: peer.send(peer.exactly(5)))
    client = proxy.client()
    client.send(request("GET", o.url + "/") + request("CONNECT", echo.authority) + b"hello")
    assert client.response().status == 200
    assert client.response("CONNECT").status == 200
    assert client.exactly(5) == b"hello"


@pytest.mark.req("P07")
def test_every_request_is_decided_anew(start, origin):
    o = origin()
    proxy = start("--allow-private=127.0.0.1/32")
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    client.send(request("GET", f"http://127.0.0.2:{o.port}/"))
    refused(proxy, client, "address_denied", closes=None)
    if client.ended is None:
        assert client.ask("GET", o.url + "/").status == 200


@pytest.mark.req("P08")
def test_origin_connection_belongs_to_one_origin(proxy, origin):
    """Same address, other name or port: another connection, and the right one each time."""
    one, two = origin(answer(response(b"one"))), origin(answer(response(b"two")))
    client = proxy.client()
    for o, body in ((one, b"one"), (two, b"two"), (one, b"one")):
        assert client.ask("GET", o.url + "/").body == body
    assert client.ask("GET", f"http://localhost:{one.port}/").body == b"one"
    assert [r.get("Host") for r in one.requests] == [one.authority.encode()] * 2 + [f"localhost:{one.port}".encode()]
    assert one.requests[-1].connection != one.requests[-2].connection


@pytest.mark.req("P08")
def test_origin_connection_belongs_to_one_client(proxy, origin):
    o = origin()
    for _ in range(3):
        assert proxy.client().ask("GET", o.url + "/").status == 200
    assert len(o.peers) == 3


@pytest.mark.req("P08")
def test_event_tells_reuse(proxy, origin):
    o, client = origin(), proxy.client()
    client.ask("GET", o.url + "/")
    client.ask("GET", o.url + "/")
    assert [e["reused"] for e in proxy.events(client, 2)] == [False, True]


@pytest.mark.req("P09", "P08", "B20")
@pytest.mark.parametrize("late", [b"x", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_data_on_an_idle_origin_connection(proxy, origin, late):
    closed = []

    def script(peer):
        peer.request()
        peer.send(response(b"%d" % peer.index))
        if peer.index == 0:
            time.sleep(0.05)
            peer.send(late)
            peer.rest()
            closed.append(True)
            return
        peer.request()
    o, client = origin(script), proxy.client()
    assert client.ask("GET", o.url + "/").body == b"0"
    o.wait(lambda _: closed)  # the proxy closes without being asked
    assert client.ask("POST", o.url + "/", body=b"x").body == b"1"


@pytest.mark.req("P10", "Z03")
def test_idle_connection_is_closed(start, origin):
    o, proxy = origin(), start("--allow-private", "--timeout", "idle=0.5")
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    client.quiet(0.3)
    assert client.closed() == "eof"
    assert len(proxy.events(client)) == 1


@pytest.mark.req("P10", "Z02", "S03")
def test_a_begun_second_head_has_the_head_deadline(start, origin):
    o, proxy = origin(), start("--allow-private", "--timeout", "idle=20", "--timeout", "head=0.5")
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    client.quiet(0.8)
    client.send(b"GET ")
    refused(proxy, client, "head_timeout")


@pytest.mark.req("P11", "A11", "S14", "S01")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_refusal_of_a_large_upload_is_readable(start, framing):
    """All of the body is sent before the client reads: no reset may destroy the answer."""
    proxy = start("--allow-private", "--user", "anna:sesame")
    client, size = proxy.client(), 700000
    if framing == "length":
        client.send(request("POST", "http://127.0.0.1:1/", f"Content-Length: {size}") + b"x" * size)
    else:
        client.send(request("POST", "http://127.0.0.1:1/",
                            "Transfer-Encoding: chunked") + chunked(*[b"x" * 7000] * 100))
    time.sleep(0.1)
    refused(proxy, client, "login_missing", method="POST", closes=None)


@pytest.mark.req("P11", "Z03")
def test_lingering_ends(start):
    proxy = start("--allow-private", "--timeout", "linger=0.5")
    client = proxy.client()
    client.send(b"bad\r\n\r\n")
    assert client.response().status == 400
    begun, ended = time.monotonic(), None
    while ended is None and time.monotonic() < begun + 5:
        try:
            client.send(b"x")
        except OSError:
            ended = True
        time.sleep(0.02)
    assert ended
    proxy.wait_idle()


@pytest.mark.req("P12")
@pytest.mark.parametrize("wait", [0, 0.3])
def test_half_closed_client_gets_its_response(proxy, origin, wait):
    def script(peer):
        message = peer.request()
        time.sleep(wait)
        peer.send(response(b"x" * 300000 + message.body))
        peer.rest()
    o, client = origin(script), proxy.client()
    client.send(request("POST", o.url + "/", body=b"end"))
    client.finish()
    assert client.response("POST").body == b"x" * 300000 + b"end"
    client.closed()


@pytest.mark.req("P13", "Z04", "S07")
def test_connections_of_one_client_are_capped(start, origin):
    o, proxy = origin(), start("--allow-private", "--per-client", "3")
    clients = [proxy.client(source="127.0.0.1") for _ in range(3)]
    for client in clients:
        assert client.ask("GET", o.url + "/").status == 200
    late = proxy.client(source="127.0.0.1")
    late.send(request("GET", o.url + "/"))
    message = late.response()
    assert message.status == 503 and "Retry-After" in message or message.status == 200
    if message.status == 503:
        assert proxy.event(late)["cause"] == "client_limit"
    assert proxy.client(source="127.0.0.2").ask("GET", o.url + "/").status == 200
    for client in clients:
        client.close()
    time.sleep(0.1)
    assert proxy.client(source="127.0.0.1").ask("GET", o.url + "/").status == 200


@pytest.mark.req("P13", "Z04")
def test_busy_connections_of_one_client_are_capped(start, origin):
    """While all of its connections are at work, one more gets 503; another client does not."""
    o = origin(lambda peer: peer.rest(20))
    proxy = start("--allow-private", "--connect-ports", "any", "--per-client", "3")
    clients = [proxy.client(source="127.0.0.1") for _ in range(3)]
    for client in clients:
        client.send(request("CONNECT", o.authority))
        assert client.response("CONNECT").status == 200
    late = proxy.client(source="127.0.0.1")
    late.send(request("GET", o.url + "/"))
    refused(proxy, late, "client_limit")
    other = proxy.client(source="127.0.0.2")
    other.send(request("CONNECT", o.authority))
    assert other.response("CONNECT").status == 200


@pytest.mark.req("S14", "P11")
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["head", "body", "waiting", "response"])
def test_client_that_goes_away(start, origin, how, when):
    """Its session ends, the origin's connection too."""
    gone = []

    def script(peer):
        try:
            peer.request()
            if when == "response":
                for _ in range(10000):
                    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 10000)
            peer.rest(20)
        except Cut:
            pass
        finally:
            gone.append(True)
    o, proxy = origin(script), start("--allow-private", "--timeout", "first_byte=3")
    client = proxy.client()
    data = request("POST", o.url + "/", body=b"x" * 1000)
    client.send({"head": data[:20], "body": data[:-500]}.get(when, data))
    if when != "head":
        o.wait(lambda o: o.peers)
    time.sleep(0.1)
    client.reset() if how == "reset" else client.close()
    proxy.wait_idle()
    if when != "head":
        o.wait(lambda _: gone)


@pytest.mark.req("P01", "D05")
def test_concurrent_clients(proxy, origin):
    def script(peer):
        while True:
            message = peer.request()
            peer.send(response(message.target * 1000))
    o, wrong = origin(script), []

    def run(n):
        try:
            client = proxy.client()
            for i in range(20):
                path = f"/{n}/{i}"
                if client.ask("GET", o.url + path).body != path.encode() * 1000:
                    wrong.append(path)
        except BaseException as error:
            wrong.append(error)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(min(40, world.sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(o.requests) == 20 * len(threads)


@pytest.mark.req("P01")
def test_ipv6_listener(start, origin, ipv6):
    o, proxy = origin(), start("--allow-private", listen="[::1]:0")
    assert proxy.client().ask("GET", o.url + "/").status == 200


@pytest.mark.req("P01", "P07")
def test_workers(start, origin):
    o, proxy = origin(), start("--allow-private", "--workers", "3")
    clients = [proxy.client() for _ in range(30)]
    for client in clients:
        assert client.ask("GET", o.url + "/").status == 200
    assert proxy.counters()["requests"] == 30
