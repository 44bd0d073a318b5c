# SPDX-License-Identifier: MIT
"""Clients that speak SOCKS5 with the proxy: RFC 1928, RFC 1929."""
import ipaddress
import os
import socket
import struct
import threading

import pytest

import world
from peers import Silent, answer, response, unused_port
from proxy import CAUSES, OPEN
from test_login import hashed
from test_real_peers import Files, need, run

DONE = b"\x05\x00\x00\x01" + bytes(6)


def methods(*offered):
    return bytes([5, len(offered), *offered])


def login(name, password):
    return bytes([1, len(name)]) + name.encode() + bytes([len(password)]) + password.encode()


def target(host, port, command=1):
    """A request; numeric hosts as numbers."""
    try:
        address = ipaddress.ip_address(host)
        where = bytes([1 if address.version == 4 else 4]) + address.packed
    except ValueError:
        where = bytes([3, len(host)]) + host.encode("latin-1")
    return bytes([5, command, 0]) + where + struct.pack(">H", port)


def connect(client, host, port):
    client.send(methods(0))
    assert client.exactly(2) == b"\x05\x00"
    client.send(target(host, port))
    assert client.exactly(10) == DONE


def failed(proxy, client, code, *causes):
    """The answer to a request, and its record in the log, that of a CONNECT."""
    told = client.exactly(10)
    assert told == bytes([5, code, 0, 1]) + bytes(6), str(proxy.event(client))
    client.closed()
    return logged(proxy, client, *causes)


def logged(proxy, client, *causes):
    event = proxy.event(client)
    assert event["cause"] in causes and event["socks"] is True and event["by"] == "proxy"
    assert event["status"] == CAUSES[event["cause"]].status
    return event


def echo(peer):
    while data := peer.some(30):
        peer.send(data)


@pytest.mark.req("N01", "N02", "K04")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_tunnels(proxy, origin, host, request):
    if ":" in host:
        request.getfixturevalue("ipv6")
    o, client, data = origin(echo, host="::1" if ":" in host else "127.0.0.1"), proxy.client(), os.urandom(300000)
    connect(client, host, o.port)
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    assert client.exactly(len(data)) == data
    sender.join()
    client.finish()
    client.closed()
    event = proxy.event(client)
    there = f"[{host}]:{o.port}" if ":" in host else f"{host}:{o.port}"
    assert (event["method"], event["target"], event["status"], event["socks"]) == ("CONNECT", there, 200, True)
    assert event["cause"] is None and event["bytes_down"] == len(data) + 12


@pytest.mark.req("N05")
def test_one_octet_at_a_time(proxy, origin):
    o, client = origin(echo), proxy.client()
    client.drip(methods(0) + target("127.0.0.1", o.port) + b"hello", pause=0.002)
    assert client.exactly(17) == b"\x05\x00" + DONE + b"hello"


@pytest.mark.req("N05", "K05")
@pytest.mark.parametrize("size", [1, 1000, 34000, 300000])
def test_everything_at_once(proxy, origin, size):
    """Who knows what will be answered need not wait for it."""
    o, client, data = origin(echo), proxy.client(), os.urandom(size)
    sender = threading.Thread(target=client.send, args=(methods(0) + target("localhost", o.port) + data,))
    sender.start()
    assert client.exactly(12) == b"\x05\x00" + DONE
    assert client.exactly(size) == data
    sender.join()
    assert o.peers[0].received == data


@pytest.mark.req("N01")
@pytest.mark.parametrize("offered", [(), (1,), (1, 3, 255), (2,)])
def test_no_acceptable_method(proxy, offered):
    client = proxy.client()
    client.send(methods(*offered) + target("127.0.0.1", 1))
    assert client.exactly(2) == b"\x05\xff"
    client.closed()
    logged(proxy, client, "scheme_unsupported")


@pytest.mark.req("N02", "N04")
@pytest.mark.parametrize("what,code,cause", [
    (target("127.0.0.1", 443, command=2), 7, "scheme_unsupported"),
    (target("0.0.0.0", 0, command=3), 7, "scheme_unsupported"),
    (b"\x05\x01\x00\x05abcdefgh", 8, "bad_target"),
    (b"\x05\x01\x01" + target("127.0.0.1", 443)[3:], 1, "bad_request_line"),
    (b"GET / HTTP/1.1\r\n\r\n", 1, "bad_request_line"),
    (target("127.1", 443), 8, "bad_target"),
    (target("", 443), 8, "bad_target"),
    (target("a" * 64 + ".example", 443), 8, "bad_target"),
    (target("a." * 127 + "a", 443), 8, "bad_target"),
    (target("localhost", 0), 8, "bad_target"),
    (target("user:sesame@localhost", 443), 8, "bad_target"),
    (target("local\x00host", 443), 1, "bad_request_line"),
    (target("local\r\nhost", 443), 1, "bad_request_line"),
    (target("l\xf6calhost", 443), 1, "bad_request_line"),
])
def test_broken_requests(proxy, what, code, cause):
    client = proxy.client()
    client.send(methods(0) + what)
    assert client.exactly(2) == b"\x05\x00"
    event = failed(proxy, client, code, cause)
    assert "sesame" not in str(event)


@pytest.mark.req("N04")
def test_connection_refused(proxy):
    client = proxy.client()
    client.send(methods(0) + target("127.0.0.1", unused_port()))
    assert client.exactly(2) == b"\x05\x00"
    failed(proxy, client, 5, "connection_refused")


@pytest.mark.req("N04")
def test_connection_times_out(start):
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "connect=0.5")
    with Silent() as silent:
        client = proxy.client()
        client.send(methods(0) + target("127.0.0.1", silent.port))
        assert client.exactly(2) == b"\x05\x00"
        failed(proxy, client, 6, "connect_timeout")


@pytest.mark.req("N04")
def test_missing_names(proxy, names):
    client = proxy.client()
    client.send(methods(0) + target("missing.example.test", 443))
    assert client.exactly(2) == b"\x05\x00"
    failed(proxy, client, 4, "name_not_found", "dns_failed")


@pytest.mark.req("N03", "N04")
def test_policy(start, origin, names):
    """Nothing is open here that is shut elsewhere."""
    o, proxy = origin(echo), start("--connect-ports", f"{unused_port()}")
    names.zone["inside.example.test"] = ["127.0.0.1"]
    for host, port, causes in (("127.0.0.1", o.port, ("connect_port_denied", "address_denied", "policy_denied")),
                               ("localhost", o.port, ("connect_port_denied",))):
        client = proxy.client()
        client.send(methods(0) + target(host, port))
        assert client.exactly(2) == b"\x05\x00"
        failed(proxy, client, 2, *causes)
    proxy = start("--connect-ports", "any")
    client = proxy.client()
    client.send(methods(0) + target("inside.example.test", o.port))
    assert client.exactly(2) == b"\x05\x00"
    failed(proxy, client, 2, "address_denied")
    assert not o.peers


@pytest.mark.req("N03", "N01")
@pytest.mark.parametrize("rounds", ["0", "1000"])
def test_logins(start, origin, tmp_path, rounds):
    o, users = origin(echo), tmp_path / "users"
    users.write_bytes(hashed("anna", "sesame", "--rounds", rounds) + hashed("bert", "p" * 200, "--rounds", "0"))
    proxy = start(*OPEN, "--users", str(users))
    for name, password in (("anna", "sesame"), ("bert", "p" * 200), ("anna", "sesame")):
        client = proxy.client()
        client.send(methods(0, 2))
        assert client.exactly(2) == b"\x05\x02"
        client.drip(login(name, password))
        assert client.exactly(2) == b"\x01\x00"
        client.send(target("127.0.0.1", o.port) + b"hello")
        assert client.exactly(15) == DONE + b"hello"
        client.finish()
        client.closed()
        assert proxy.event(client)["user"] == name
    for name, password in (("anna", "Sesame"), ("anna", ""), ("", ""), ("nobody", "sesame"), ("x" * 255, "y" * 255),
                           ("anna:sesame", "")):
        client = proxy.client()
        client.send(methods(2) + login(name, password) + target("127.0.0.1", o.port))
        assert client.exactly(4) == b"\x05\x02\x01\x01"
        client.closed()
        assert logged(proxy, client, "login_failed")["user"] is None
    assert len(o.peers) == 3


@pytest.mark.req("N03", "N04")
def test_who_offers_no_login(start, origin):
    o, proxy = origin(echo), start(*OPEN, "--user", "anna:sesame")
    client = proxy.client()
    client.send(methods(0) + target("127.0.0.1", o.port))
    assert client.exactly(2) == b"\x05\x00"
    failed(proxy, client, 2, "login_missing")
    client = proxy.client()
    client.send(methods(1))
    assert client.exactly(2) == b"\x05\xff"
    client.closed()
    logged(proxy, client, "login_missing")
    assert not o.peers


@pytest.mark.req("N03")
def test_failed_logins_are_throttled(start):
    proxy = start(*OPEN, "--user", "anna:sesame", "--timeout", "throttle=60")
    source = f"127.66.66.{world.os.getpid() % 200 + 1}" if proxy.host == "127.0.0.1" else None
    for password in ["wrong"] * 5 + ["sesame"]:
        client = proxy.client(source)
        client.send(methods(2) + login("anna", password))
        assert client.exactly(4) == b"\x05\x02\x01\x01"
        client.closed()
    logged(proxy, client, "login_throttled")


@pytest.mark.req("N05", "Z03")
@pytest.mark.parametrize("begin,answered", [(b"\x05", b"\x05\xff"), (methods(2, 0)[:3], b"\x05\xff"),
                                            (methods(0) + b"\x05\x01\x00", b"\x05\x00\x05\x01\x00\x01" + bytes(6))])
def test_heads_that_do_not_arrive(start, begin, answered):
    proxy = start(*OPEN, "--timeout", "head=0.5")
    client = proxy.client()
    client.send(begin)
    assert client.rest() == answered
    logged(proxy, client, "head_timeout")


@pytest.mark.req("N04")
def test_full_house(small, origin):
    o, proxy = origin(echo), small(*OPEN)
    held = [proxy.client() for _ in range(4)]
    for client in held:
        connect(client, "127.0.0.1", o.port)
    client = proxy.client()
    client.send(methods(0) + target("127.0.0.1", o.port))
    assert client.exactly(2) == b"\x05\x00"
    failed(proxy, client, 1, "sessions_full")


@pytest.mark.req("N01")
def test_http_goes_on_beside_it(proxy, origin):
    o, client = origin(answer(response())), proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    assert "socks" not in proxy.event(client)
    client.send(methods(0))
    assert client.response().status == 400
    assert "socks" not in proxy.events(client, 2)[1]


@pytest.mark.req("N02", "N03")
@pytest.mark.parametrize("option", ["--socks5", "--socks5-hostname"])
def test_curl(start, tmp_path, option):
    need("curl")
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    files, proxy, out = Files(tmp_path), start(*OPEN, "--user", "anna:sesame"), tmp_path / "out"
    url, (host, port) = files.url.replace("127.0.0.1", "localhost") + "/file", proxy.at
    there = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    run("curl", "-sSf4", option, there, "--proxy-user", "anna:sesame", "-o", str(out), url)
    assert out.read_bytes() == (tmp_path / "file").read_bytes()
    done = run("curl", "-sS4", option, there, "--proxy-user", "anna:wrong", url, ok=False)
    assert done.returncode == 97 and b"rejected by the SOCKS5 server" in done.stderr, done
    done = run("curl", "-sS4", option, there, url, ok=False)
    assert done.returncode == 97, done
    files.shutdown()
