# SPDX-License-Identifier: MIT
"""Further doors in: behind a balancer that speaks the PROXY protocol; connections that a packet filter diverts. And the
address of the client that origins are told."""
import os
import socket
import struct
import subprocess
import time

import pytest

import world
from peers import PATIENCE, Origin, Wire, read_response, request, unused_port
from proxy import BINARY, OPEN, refused
from test_real_peers import Files, need, run

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(client, port, more=b"", command=0x21):
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    body = socket.inet_pton(family, client) * 2 + struct.pack(">HH", port, 443) + more
    return V2 + bytes([command, 0x21 if ":" in client else 0x11]) + struct.pack(">H", len(body)) + body


# ---- what origins are told

@pytest.mark.req("G03", "V03")
@pytest.mark.parametrize("options,name", [((), None), (("--forwarded", "x-forwarded-for"), "X-Forwarded-For"),
                                          (("--forwarded=forwarded",), "Forwarded")])
def test_forwarded(start, origin, options, name):
    o, proxy = origin(), start(*OPEN, *options)
    client = proxy.client()
    brings = ("X-Forwarded-For: 203.0.113.7, 203.0.113.8", "Forwarded: for=203.0.113.9;proto=http")
    assert client.ask("GET", o.url + "/", *brings).status == 200
    sent, address = o.requests[0], client.address[0]
    for field, brought in (brought.split(": ") for brought in brings):
        own = f'for="[{address}]"' if ":" in address else f"for={address}"
        own = (own if name == "Forwarded" else address).encode()
        assert sent.all(field) == [brought.encode()] + [own] * (field == name)


@pytest.mark.req("G03")
@pytest.mark.parametrize("field", ["", "via", "X-Forwarded"])
def test_forwarded_needs_a_field(field):
    done = subprocess.run([BINARY, "--listen", "127.0.0.1:0", "--forwarded", field], capture_output=True,
                          timeout=PATIENCE)
    assert done.returncode == 2 and b"--forwarded" in done.stderr


# ---- behind a balancer

@pytest.fixture
def balanced(start):
    """A proxy with a listener for balancers beside the other one, and connections to that."""
    port = unused_port()
    proxy = start(*OPEN, "--proxy-protocol", f"127.0.0.1:{port}", "--clients", "0.0.0.0/0,::/0", "--per-client", "3",
                  "--timeout", "head=3")
    return proxy, lambda: proxy.client(port=port)


def record_of(proxy, client):
    """Of the client that the balancer told."""
    deadline = time.monotonic() + PATIENCE
    while not (found := [r for r in proxy.records() if r["client"] == client]):
        assert time.monotonic() < deadline, proxy.records()
        time.sleep(0.01)
    return found[-1]


@pytest.mark.req("F01", "F03")
@pytest.mark.parametrize("header,client,port", [
    (V1, "192.0.2.1", 56324),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "2001:db8::1", 1),
    (v2("192.0.2.2", 1234), "192.0.2.2", 1234),
    (v2("2001:db8::2", 1234, b"\x04\x00\x01\x00" * 50), "2001:db8::2", 1234),
])
def test_balanced_clients(balanced, origin, header, client, port):
    o, (proxy, connect) = origin(), balanced
    for step in (1, 7, 1000):
        wire = connect()
        wire.drip(header + request("GET", o.url + "/"), step=step)
        assert wire.response().status == 200
        record = record_of(proxy, client)
        assert (record["client_port"], record["status"]) == (port, 200)
        wire.close()


@pytest.mark.req("F01", "F03")
@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2 + b"\x20\x00\x00\x00", v2("192.0.2.3", 1, command=0x20),
                                    V2 + b"\x21\x00\x00\x00"])
def test_balancers_that_speak_for_themselves(balanced, origin, header):
    o, (proxy, connect) = origin(), balanced
    wire = connect()
    wire.send(header + request("GET", o.url + "/"))
    assert wire.response().status == 200
    assert proxy.event(wire)["status"] == 200


@pytest.mark.req("F02")
@pytest.mark.parametrize("begin", [b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", b"\x05\x01\x00",
                                   b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n", b"PROXY TCP4 x y 1 2\r\n",
                                   b"PROXY " + b"x" * 200, V2 + b"\x21\x11\xff\xff",
                                   V2 + b"\x11\x11\x00\x0c" + bytes(12), V2 + b"\x21\x11\x00\x03abc", os.urandom(4000)])
def test_what_is_no_header(balanced, begin):
    proxy, connect = balanced
    wire = connect()
    wire.send(begin)
    wire.closed()
    event = proxy.event(wire)
    assert (event["cause"], event["status"], event["method"]) == ("bad_request_line", 0, None)


@pytest.mark.req("F02")
@pytest.mark.parametrize("begin", [b"", V1[:20], V1])
def test_headers_in_time(balanced, begin):
    proxy, connect = balanced
    wire = connect()
    wire.send(begin)
    assert wire.closed() == "eof"
    assert not proxy.records()


@pytest.mark.req("F01")
@pytest.mark.parametrize("header", [V1, v2("192.0.2.2", 1)])
def test_no_header_elsewhere(balanced, header):
    proxy, _ = balanced
    client = proxy.client()
    client.send(header)
    refused(proxy, client, "bad_request_line")


@pytest.mark.req("F03")
def test_limit_of_each_client_behind_a_balancer(balanced, origin):
    o, (proxy, connect) = origin(lambda peer: peer.rest(60)), balanced
    for n in (1, 2):
        held = [connect() for _ in range(3)]
        for wire in held:
            wire.send(v2(f"192.0.2.{n}", 7) + request("CONNECT", o.authority))
            assert wire.response("CONNECT").status == 200
    wire = connect()
    wire.send(v2("192.0.2.1", 7))
    assert wire.response().status == 503
    assert record_of(proxy, "192.0.2.1")["cause"] == "client_limit"


@pytest.mark.req("F03")
def test_clients_option_is_about_those_that_are_told(start, origin):
    o, port = origin(), unused_port()
    proxy = start(*OPEN, "--clients", "192.0.2.0/24", "--proxy-protocol", f"127.0.0.1:{port}")
    for client, status in (("192.0.2.9", 200), ("192.0.3.9", 403)):
        wire = proxy.client(port=port)
        wire.send(v2(client, 7) + request("GET", o.url + "/"))
        assert wire.response().status == status


@pytest.mark.req("F01", "F03")
@pytest.mark.parametrize("way", ["send-proxy", "send-proxy-v2"])
def test_haproxy(balanced, origin, tmp_path, way):
    """The program that the protocol comes from."""
    need("haproxy")
    o, (proxy, connect) = origin(), balanced
    wire = connect()
    there = wire.sock.getpeername()
    wire.close()
    at = unused_port()
    (tmp_path / "haproxy.cfg").write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen miniproxy
    bind 127.0.0.1:{at}
    server one {there[0]}:{there[1]} {way}
""")
    haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", at), source_address=("127.77.7.7", 0))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and haproxy.poll() is None, haproxy.stderr.read()
                time.sleep(0.02)
        with sock:
            sock.sendall(request("GET", o.url + "/"))
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
            assert record_of(proxy, "127.77.7.7")["client_port"] == sock.getsockname()[1]
    finally:
        haproxy.terminate()
        haproxy.wait()


# ---- interception

@pytest.fixture
def divert(isolated):
    """divert(host, port, to): this machine's connections to a place go to another port instead, by nftables."""
    need("nft")

    def run(host, port, to):
        kind = "ip6" if ":" in host else "ip"
        rules = (f"add table {kind} doors\nadd chain {kind} doors out {{ type nat hook output priority -100; }}\n"
                 f"add rule {kind} doors out {kind} daddr {host} tcp dport {port} redirect to :{to}\n")
        done = subprocess.run(["nft", "-f", "-"], input=rules.encode(), capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"NO PACKET FILTER: this system lets the tests divert nothing: {done.stderr.decode()}")

    yield run
    for kind in ("ip", "ip6"):
        subprocess.run(["nft", "delete", "table", kind, "doors"], capture_output=True)


@pytest.fixture
def intercepting(start, divert):
    """A proxy to which connections to host:port are diverted."""
    def run(host, port, *options):
        at = unused_port()
        proxy = start(*options, "--intercept", f"[::1]:{at}" if ":" in host else f"127.0.0.1:{at}")
        divert(host, port, at)
        return proxy
    return run


class Unaware(Wire):
    """A client that knows of no proxy."""

    def __init__(self, host, port, source="127.0.0.1"):
        super().__init__(socket.create_connection((host, port), timeout=PATIENCE,
                                                  source_address=("::1" if ":" in host else source, 0)))
        self.address = self.sock.getsockname()

    def ask(self, *lines, version="1.1", path="/x"):
        self.send("\r\n".join((f"GET {path} HTTP/{version}", *lines, "", "")).encode())
        return read_response(self)


@pytest.mark.req("I01", "I02")
def test_diverted_requests(intercepting, origin, names):
    """The proxy goes where Host says, by its own resolver, at the port that was meant."""
    o = origin()
    proxy = intercepting(world.PUBLIC, o.port, "--allow-private")
    names.zone["here.example.test"] = ["127.0.0.1"]
    client = Unaware(world.PUBLIC, o.port)
    for n, host in enumerate((f"here.example.test:{o.port}", "HERE.example.test", "here.example.test.:1", "127.0.0.1")):
        assert client.ask("A: b", f"Host: {host}", "C: d").status == 200
        event = proxy.events(client, n + 1)[-1]
        name = host.split(":")[0]
        assert (event["target"], event["address"]) == (f"http://{name}:{o.port}/x", f"127.0.0.1:{o.port}")
        assert o.requests[-1].start == b"GET /x HTTP/1.1" and o.requests[-1].get("Host") == f"{name}:{o.port}".encode()
    assert proxy.counters()["reused"] == 1  # the second


@pytest.mark.req("I02")
def test_diverted_requests_without_a_host(intercepting, isolated):
    """By HTTP/1.0 an address was meant, and nothing else."""
    o = Origin(host=world.PUBLIC)
    with o:
        proxy = intercepting(world.PUBLIC, o.port, "--connect-ports", "any")
        client = Unaware(world.PUBLIC, o.port)
        message = client.ask(version="1.0")
        # the proxy's own connections are diverted here, too: it recognises itself
        assert message.status == 502 and b"(loop)" in message.body
        assert proxy.event(client, 502)["target"] == f"http://{world.PUBLIC}:{o.port}/x"
        client = Unaware(world.PUBLIC, o.port)
        assert client.ask().status == 400
        assert proxy.event(client)["cause"] == "bad_host"


@pytest.mark.req("I02", "I01")
def test_diverted_ipv6(intercepting, origin, names, ipv6):
    o = origin(host="::1")
    proxy = intercepting(world.PUBLIC6, o.port, "--allow-private")
    client = Unaware(world.PUBLIC6, o.port)
    assert client.ask("Host: [::1]").status == 200
    assert proxy.event(client)["target"] == f"http://[::1]:{o.port}/x"
    client = Unaware(world.PUBLIC6, o.port)
    assert client.ask(version="1.0").status == 502
    assert proxy.event(client, 502)["target"] == f"http://[{world.PUBLIC6}]:{o.port}/x"


@pytest.mark.req("I01", "I03")
def test_diverted_hosts_that_lie_open_nothing(intercepting, origin, names):
    """What is decided about is what is connected, wherever the client seemed to go."""
    o = origin()
    proxy = intercepting(world.PUBLIC, o.port)
    names.zone["inside.example.test"] = ["127.0.0.1"]
    for host in ("inside.example.test", "127.0.0.1", "localhost"):
        client = Unaware(world.PUBLIC, o.port)
        assert client.ask(f"Host: {host}").status == 403
        assert proxy.event(client)["cause"] in ("address_denied", "policy_denied")
    assert not o.peers


@pytest.mark.req("I03")
def test_diverted_loops(intercepting, names):
    """A name whose address is diverted leads back here."""
    proxy = intercepting(world.PUBLIC, 80)
    names.zone["there.example.test"] = [world.PUBLIC]
    client = Unaware(world.PUBLIC, 80)
    message = client.ask("Host: there.example.test")
    assert message.status == 502 and b"(loop)" in message.body
    assert proxy.event(client, 502)["target"] == "http://there.example.test/x"


@pytest.mark.req("I03")
def test_diverted_clients_are_not_asked_to_log_in(intercepting, origin, names):
    o = origin()
    proxy = intercepting(world.PUBLIC, o.port, "--allow-private", "--user", "anna:sesame")
    client = Unaware(world.PUBLIC, o.port)
    message = client.ask("Host: 127.0.0.1")
    assert message.status == 403 and "Proxy-Authenticate" not in message
    assert proxy.event(client)["cause"] == "policy_denied"
    assert not o.peers


@pytest.mark.req("I03")
def test_who_was_not_diverted(start, origin):
    """At the same port, but on purpose: that is no origin."""
    o, port = origin(), unused_port()
    proxy = start(*OPEN, "--intercept", f"127.0.0.1:{port}")
    client = proxy.client(port=port)
    assert client.ask("GET", o.url + "/").status == 200  # a request to a proxy is one
    client.send(b"GET /x HTTP/1.1\r\nHost: " + o.authority.encode() + b"\r\n\r\n")
    assert client.response().status in (400, 502)
    assert len(o.requests) == 1


@pytest.mark.req("I01")
def test_diverted_curl(intercepting, names, tmp_path):
    need("curl")
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    files = Files(tmp_path)
    port = files.server_address[1]
    proxy = intercepting(world.PUBLIC, port, "--allow-private")
    names.zone["files.example.test"] = ["127.0.0.1"]
    run("curl", "-sSf", "--interface", "127.0.0.1", "--resolve", f"files.example.test:{port}:{world.PUBLIC}", "-o",
        str(tmp_path / "out"), f"http://files.example.test:{port}/file")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "file").read_bytes()
    proxy.wait_idle()  # the line is written when the transaction has ended, which curl need not wait for
    assert [r["target"] for r in proxy.records()] == [f"http://files.example.test:{port}/file"]
    files.shutdown()
