# SPDX-License-Identifier: MIT
"""Full pools, missing descriptors, back-pressure. Most of it on the build with four sessions and five buffers."""
import contextlib
import os
import socket
import threading
import time

import pytest

import world
from peers import PATIENCE, Cut, Late, Origin, answer, chunked, request, response
from proxy import refused

HELD = ("--allow-private", "--connect-ports", "any")


def hold(proxy, origin, count, source=None):
    """So many sessions with a tunnel."""
    clients = []
    for i in range(count):
        client = proxy.client(source=source or f"127.0.1.{i + 1}")
        client.send(request("CONNECT", origin.authority))
        assert client.response("CONNECT").status == 200
        clients.append(client)
    return clients


def wait_served(proxy, origin):
    """Soon somebody new is served again."""
    deadline, status = time.monotonic() + PATIENCE, None
    while status != 200:
        assert time.monotonic() < deadline, f"still {status}, {proxy.counters()}"
        client = proxy.client()
        status = client.ask("GET", origin.url + "/").status
        client.close()
        time.sleep(0.02)


@pytest.mark.req("Z04", "Z05", "S07", "S14")
def test_full_pool_says_so(small, origin):
    o, proxy = origin(lambda peer: peer.rest(60)), small(*HELD)
    held = hold(proxy, o, 4)
    for _ in range(5):
        client = proxy.client()
        client.send(request("GET", o.url + "/"))
        message = refused(proxy, client, "sessions_full")
        assert int(message.get("Retry-After")) > 0
    held[0].close()
    wait_served(proxy, origin())
    for client in held[1:]:
        client.send(b"still alive")


@pytest.mark.req("Z05", "S12")
def test_full_pool_answers_head_and_connect(small, origin):
    o, proxy = origin(lambda peer: peer.rest(60)), small(*HELD)
    hold(proxy, o, 4)
    for method in ("HEAD", "CONNECT", "POST"):
        client = proxy.client()
        client.send(request(method, o.authority if method == "CONNECT" else o.url + "/"))
        refused(proxy, client, "sessions_full", method=method)


@pytest.mark.req("Z05", "Z03", "S14")
def test_reserved_session_is_not_held_by_silence(small, origin):
    """Who occupies it without a request is soon gone, and the next one gets an answer."""
    o, proxy = origin(lambda peer: peer.rest(60)), small(*HELD, "--timeout", "refuse=0.4")
    hold(proxy, o, 4)
    silent = [proxy.client() for _ in range(3)]
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "sessions_full")
    for other in silent:
        other.rest()


@pytest.mark.req("Z05", "P10")
def test_idle_connections_make_room(small, origin):
    """The one that is idle for longest goes first; working ones stay."""
    o, tunnel = origin(), origin(lambda peer: peer.rest(60))
    proxy = small(*HELD)
    working = hold(proxy, tunnel, 1)
    idle = []
    for _ in range(3):
        idle.append(proxy.client())
        assert idle[-1].ask("GET", o.url + "/").status == 200
        time.sleep(0.02)
    newcomer = proxy.client()
    assert newcomer.ask("GET", o.url + "/").status == 200
    assert idle[0].closed() == "eof"
    assert idle[1].ask("GET", o.url + "/").status == 200
    another = proxy.client()
    assert another.ask("GET", o.url + "/").status == 200
    assert idle[2].closed() == "eof", "the second one has been used since"
    working[0].send(b"x")
    assert proxy.counters()["evicted"] == 2


@pytest.mark.req("Z05", "P10")
def test_many_polite_clients_share_few_sessions(small, origin):
    o, proxy = origin(), small(*HELD)
    for _ in range(60):
        assert proxy.client().ask("GET", o.url + "/").status == 200


@pytest.mark.req("Z04", "P13")
def test_cap_for_one_client(small, origin):
    o = origin(lambda peer: peer.rest(60))
    proxy = small(*HELD, "--per-client", "2")
    hold(proxy, o, 2, source="127.0.0.7")
    late = proxy.client(source="127.0.0.7")
    late.send(request("GET", o.url + "/"))
    refused(proxy, late, "client_limit")
    ordinary = origin()
    assert proxy.client(source="127.0.0.8").ask("GET", ordinary.url + "/").status == 200


@pytest.mark.req("Z05", "Z02", "S03")
def test_silent_connections_do_not_keep_others_out(small, origin):
    """Four connections that never ask are gone after the head timeout, or evicted before."""
    o, proxy = origin(), small(*HELD, "--timeout", "head=0.6", "--timeout", "refuse=0.3")
    silent = [proxy.client() for _ in range(5)]
    deadline = time.monotonic() + PATIENCE
    while True:
        client = proxy.client()
        try:
            if client.ask("GET", o.url + "/").status == 200:
                break
        except (Cut, ConnectionError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for client in silent:
        client.rest()


@pytest.mark.req("Z01", "T13", "T14")
def test_small_target_limit(small, origin):
    o, proxy = origin(), small(*HELD)
    passed = None
    for size in range(200, 1200, 25):
        client = proxy.client()
        message = client.ask("GET", o.url + "/" + "x" * size, host="h")
        if message.status == 200:
            assert passed is None or passed == size - 25, "a longer target passed after a shorter one was refused"
            assert o.requests[-1].target == b"/" + b"x" * size
            passed = size
        else:
            assert message.status in (414, 431)
        client.close()
    assert 400 < passed < 1000
    for size in (2000, 100000):
        client = proxy.client()
        client.send(request("GET", o.url + "/" + "x" * size, host="h"))
        refused(proxy, client, "target_too_long")


@pytest.mark.req("Z01", "S04", "M19")
def test_small_head_limit(small, origin):
    o, proxy = origin(), small(*HELD)
    for size in range(300, 1200, 7):
        client = proxy.client()
        message = client.ask("GET", o.url + "/", "X: " + "x" * size)
        if message.status == 200:
            assert o.requests[-1].get("X") == b"x" * size
        else:
            assert message.status == 431 and size > 400
        client.close()
    client = proxy.client()
    client.send(request("GET", o.url + "/", "X: " + "x" * 100000))
    refused(proxy, client, "head_too_large")


@pytest.mark.req("Z01", "M19", "S05")
def test_small_response_head_limit(small, origin):
    proxy, passed = small(*HELD), 0
    for size in range(300, 1300, 19):
        o, client = Origin(answer(response(b"ok", "X: " + "x" * size))), proxy.client()
        message = client.ask("GET", o.url + "/")
        if message.status == 200:
            assert message.get("X") == b"x" * size
            passed = size
        else:
            assert message.status == 502 and b"http_response_header_section_size" in message.get("Proxy-Status")
        o.stop()
    assert 400 < passed < 1200


@pytest.mark.req("Z01", "T17")
def test_small_method_limit(small, origin):
    o, proxy = origin(), small(*HELD)
    assert proxy.client().ask("M" * 24, o.url + "/").status == 200
    client = proxy.client()
    client.send(request("M" * 25, o.url + "/"))
    refused(proxy, client, "method_too_long")


@pytest.mark.req("Z01", "C09", "C05")
def test_small_trailer_and_extension_limits(small, origin):
    o, proxy = origin(), small(*HELD)
    client = proxy.client()
    body = chunked(b"a", extension=b";" + b"x" * 100, trailers=b"A: " + b"t" * 300 + b"\r\n")
    client.send(request("POST", o.url + "/", "Transfer-Encoding: chunked") + body)
    assert client.response("POST").status == 200
    for body, token in ((chunked(*[b"a"] * 100, extension=b";" + b"x" * 100), "bad_chunk"),
                        (chunked(b"a", trailers=b"A: b\r\n" * 5000), "trailer_too_large")):
        client, cut = proxy.client(), Origin(lambda peer: peer.rest())
        client.send(request("POST", cut.url + "/", "Transfer-Encoding: chunked") + body)
        refused(proxy, client, token, method="POST")
        cut.stop()


@pytest.mark.req("Z01", "C01", "H10")
@pytest.mark.parametrize("size", [1, 500, 855, 856, 857, 1000, 1023, 1024, 1025, 4000, 300000])
@pytest.mark.parametrize("coded", [False, True])
def test_bodies_through_small_buffers(small, origin, size, coded):
    data = os.urandom(size)
    pieces = [data[i:i + 333] for i in range(0, size, 333)]
    back = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces) if coded else response(data)
    o, client = origin(answer(back)), small(*HELD).client()
    for _ in range(2):
        if coded:
            client.send(request("POST", o.url + "/", "Transfer-Encoding: chunked") + chunked(*pieces))
            assert client.response("POST").body == data
        else:
            assert client.ask("POST", o.url + "/", body=data).body == data
    assert [r.body for r in o.requests] == [data, data]


def push(wire, stop):
    """Send chunks for ever to a peer that takes nothing."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    try:
        while not stop.is_set():
            wire.sock.sendall(chunk)
    except OSError:
        pass


def push_both_ways(proxy, authority, stop):
    """A request and a response that do not end, nor does anybody read them. In chunks: where octets can pass without
    being looked at, a port may keep them out of the core's buffers."""
    client = proxy.client(receive_buffer=4096)
    client.sock.settimeout(None)
    client.sock.sendall(request("POST", f"http://{authority}/", "Transfer-Encoding: chunked"))
    thread = threading.Thread(target=push, args=(client, stop))
    thread.start()
    return thread


@pytest.mark.req("Z08", "Z03", "S07")
def test_buffers_full(small, origin):
    """Two exchanges that are stuck in both directions hold four buffers of five: a request waits, then is told so."""
    def script(peer):
        peer.sock.settimeout(None)
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        push(peer, stop)
    stop, o, ordinary = threading.Event(), origin(script, receive_buffer=4096), origin()
    proxy = small(*HELD, "--timeout", "buffer=0.5", "--timeout", "write=240")
    threads = [push_both_ways(proxy, o.authority, stop) for _ in range(2)]
    stuck, deadline, message = list(proxy.clients), time.monotonic() + 3 * PATIENCE, None
    try:
        # until all four have come to rest: who lost a segment to a small board sends it again after up to 25 seconds
        while message is None or message.status == 200:
            assert time.monotonic() < deadline, proxy.counters()
            if proxy.counters()["buffers"] < 4:
                time.sleep(0.05)
                continue
            client = proxy.client()
            client.send(request("GET", ordinary.url + "/"))
            message = client.response()
        # there is no memory for more than these words
        assert (message.status, message.body, message.get("Cache-Control")) == (503, b"", b"no-store")
        assert int(message.get("Retry-After")) > 0 and b"close" in message.list("Connection")
        client.closed()
        assert proxy.event(client)["cause"] == "buffers_full"
        assert proxy.counters()["buffer_waits"] > 0
    finally:
        stop.set()
        for one in stuck:
            with contextlib.suppress(OSError):
                one.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
    for one in stuck:
        one.reset()
    wait_served(proxy, ordinary)


@pytest.mark.req("Z08", "Z07")
def test_contended_buffers_lose_nothing(small, origin):
    data = os.urandom(200000)
    o, proxy, wrong = origin(answer(response(data))), small(*HELD), []

    def run():
        try:
            client = proxy.client()
            for _ in range(5):
                if client.ask("POST", o.url + "/", body=data).body != data:
                    wrong.append("body")
        except BaseException as error:
            wrong.append(error)
    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and [r.body == data for r in o.requests] == [True] * 20


# ---- The ordinary build


def assert_little_memory(proxy, before_kb):
    """For one session. All the memory of a board is its own; how much the core has taken of it, it tells itself."""
    assert proxy.counters()["buffers"] <= 2
    assert world.is_board or proxy.memory_kb() - before_kb < 20000


@pytest.mark.req("K07", "Z07")
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_the_end_behind_a_small_window(start, origin, method):
    """A client that does not read for a while: somewhere its window ends within the last segment, which its stack then
    takes in two, and the connection's end comes behind both."""
    sizes, wrong = range(3000, 5000, 200) if world.is_board else range(2000, 6400, 100), {}
    proxy = start("--allow-private", "--connect-ports", "1-65535")

    def run(size):
        try:
            client, data = proxy.client(receive_buffer=4096), os.urandom(size)
            script = (lambda peer: peer.send(data)) if method == "CONNECT" else answer(response(data, "Connection: close"))
            o = origin(script)
            if method == "CONNECT":
                client.send(request("CONNECT", o.authority, host=o.authority))
                assert client.response("CONNECT").status == 200
            else:
                client.send(request("GET", o.url + "/", version="1.0"))
            time.sleep(3.5)  # a stack has a look at such a window after a second or two
            got = client.rest() if method == "CONNECT" else client.response().body
            assert got == data, f"{len(got)} of {size} octets"
            client.close()
        except BaseException as error:
            wrong[size] = error
    at_once = 2 if world.sessions < 10 else len(sizes)
    for first in range(0, len(sizes), at_once):
        threads = [threading.Thread(target=run, args=(size,)) for size in sizes[first:first + at_once]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.req("Z07", "Z06")
def test_back_pressure_to_the_origin(start, origin):
    """The origin may write only as much as the client reads, and the proxy does not grow."""
    sent = []

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d000000\r\n\r\n" % world.megabytes)
        peer.sock.settimeout(60)
        for _ in range(world.megabytes):
            peer.sock.sendall(b"x" * 1000000)
            sent.append(1)
    o, proxy = origin(script), start("--allow-private")
    before = proxy.memory_kb()
    client = proxy.client(receive_buffer=65536)
    client.send(request("GET", o.url + "/"))
    client.until(b"\r\n\r\n")
    time.sleep(0.5)
    stalled = len(sent)
    time.sleep(0.5)
    assert len(sent) == stalled < world.megabytes / 2, "the origin was not held back"
    assert_little_memory(proxy, before)
    left = world.megabytes * 1000000 - len(client.buffer)
    client.sock.settimeout(30)
    while left:
        data = client.sock.recv(1 << 20)
        assert data
        left -= len(data)


@pytest.mark.req("Z07", "Z06")
@pytest.mark.parametrize("method", ["PUT", "CONNECT"])
def test_back_pressure_to_the_client(start, origin, method):
    go = threading.Event()

    def script(peer):
        if method == "PUT":
            peer.request(body=False)
        go.wait(20)
        peer.send(response())
        peer.sock.settimeout(20)
        while peer.sock.recv(1 << 20):
            pass
    o, proxy = origin(script, receive_buffer=65536), start(*HELD)
    before = proxy.memory_kb()
    client = proxy.client()
    if method == "PUT":
        client.send(request("PUT", o.url + "/", "Content-Length: 400000000"))
    else:
        client.send(request("CONNECT", o.authority))
        assert client.response("CONNECT").status == 200
    sent = 0
    client.sock.settimeout(0.5)
    try:
        while sent < 300000000:
            sent += client.sock.send(b"x" * 1000000)
    except TimeoutError:
        pass
    assert sent < 100000000, "the client was not held back"
    assert_little_memory(proxy, before)
    go.set()
    client.close()
    o.wait(lambda o: o.peers[0].done)  # it reads what is on the way


@pytest.mark.req("Z07", "Z08")
def test_a_stalled_peer_costs_no_processor_time(start, origin):
    o = origin(lambda peer: (peer.request(), peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 400000000\r\n\r\n"),
                             peer.send(b"x" * 30000000)))
    proxy = start("--allow-private")
    client = proxy.client(receive_buffer=4096)
    client.send(request("GET", o.url + "/"))
    idle = [proxy.client() for _ in range(min(20, world.sessions - 1))]
    time.sleep(0.5)
    before = proxy.cpu_seconds()
    time.sleep(1)
    assert proxy.cpu_seconds() - before < 0.3, "busy loop"
    assert proxy.counters()["active"] == 1 + len(idle)


@pytest.mark.req("Z08", "S07", "S14")
def test_out_of_descriptors(start, origin):
    """More clients than descriptors: nobody is answered wrongly, nothing spins, and afterwards all is well."""
    o, proxy = origin(lambda peer: peer.rest(60)), start(*HELD, descriptors=min(30, 2 * world.sessions))
    ordinary = origin()
    clients, answers = [], []
    for _ in range(30):
        patience = 0.2 if len(answers) > 6 else 5
        try:
            client = proxy.client(patience=patience)
            clients.append(client)
            client.send(request("CONNECT", o.authority))
            answers.append(client.response("CONNECT", patience=patience).status)
        except (Late, TimeoutError):
            answers.append(None)  # waits in the listener's queue, or for an answer to its SYN
    assert set(answers) <= {200, 503, None} and answers.count(200) >= 5 and len(answers) > answers.count(200)
    before = proxy.cpu_seconds()
    time.sleep(1)
    assert proxy.cpu_seconds() - before < 0.4, "busy loop without descriptors"
    for client in clients:
        client.close()
    wait_served(proxy, ordinary)  # connections that waited in the listener's queue come and go first
    for _ in range(5):
        assert proxy.client().ask("GET", ordinary.url + "/").status == 200


@pytest.mark.req("Z08", "S07", "Q03")
def test_no_descriptor_for_the_origin(start, origin):
    """Accepted, but nothing is left for the way on: 503."""
    o, proxy = origin(), start(*HELD, descriptors=min(30, 2 * world.sessions - 2))
    filler, causes = [], set()
    for _ in range(40):
        with contextlib.suppress(TimeoutError):  # a stack without memory for more does not answer
            client = proxy.client(patience=0.2 if len(filler) > 10 else PATIENCE)
            filler.append(client)
            client.send(b"GET ")
            time.sleep(0.01)
    for client in filler:
        try:
            client.send(request("GET", o.url + "/")[4:])
            message = client.response(patience=0.4)
            if message.status != 200:
                assert message.status == 503 and "Retry-After" in message
                causes.add(proxy.event(client)["cause"])
        except Late:
            pass
        except (Cut, ConnectionError):  # told so before it had asked
            assert len(filler) > world.sessions
        client.close()
    assert causes <= {"no_resources", "sessions_full"}
    wait_served(proxy, o)
    proxy.wait_idle()


@pytest.mark.req("Z08", "Z04")
def test_many_downloads_at_once(proxy, origin):
    count = min(200, world.transfers)
    data = os.urandom(min(300000, world.megabytes * 1000000 // count))
    o, wrong = origin(answer(response(data))), []

    def run():
        try:
            client = proxy.client()
            client.send(request("GET", o.url + "/"))
            if client.response(patience=60).body != data:
                wrong.append("body")
        except BaseException as error:
            wrong.append(error)
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(o.requests) == count


@pytest.mark.req("Z08", "P10")
def test_many_idle_connections(proxy, origin):
    """As many as there are sessions, or a thousand: any of them may ask at any time."""
    o, count = origin(), min(1000, world.sessions)
    clients = [proxy.client() for _ in range(count)]
    for client in clients[::max(1, count // 20)]:
        assert client.ask("GET", o.url + "/").status == 200
    for client in clients:
        client.close()
