# SPDX-License-Identifier: MIT
"""The policy is swapped a thousand times under load: no request is lost, and what runs keeps the policy it began with."""
import os
import signal
import threading

import pytest

from parents import Load
from peers import answer, request, response

SWAPS = 1000
FIRST = """\
allow to loopback paths "/long"
allow to loopback ports any
"""
SECOND = """\
deny  to loopback paths "/long"
deny  hosts nowhere.example
net   here = loopback
allow to here ports any
"""
BROKEN = "allow to loopback prots any\n"


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".new", path)


def echo(peer):
    while data := peer.some(60):
        peer.send(data)


def asks(client, url, body):
    def once():
        message = client.ask("GET", url)
        assert message.status == 200 and message.body == body, (message.status, message.body)
    return once


def asks_and_leaves(proxy, url, body):
    def once():
        client = proxy.client()
        try:
            message = client.ask("GET", url)
            assert message.status == 200 and message.body == body, (message.status, message.body)
        finally:
            client.close()
            proxy.clients.remove(client)
    return once


def talks(client):
    def once():
        data = os.urandom(100)
        client.send(data)
        assert client.exactly(len(data)) == data
    return once


@pytest.mark.req("G06", "P07")
def test_thousand_swaps_under_load(start, origin, tmp_path):
    body, go_on = os.urandom(2000), threading.Event()
    path = str(tmp_path / "swap.policy")

    def long_answer(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100000)
        go_on.wait(80)
        peer.send(b"y" * 100000)

    o, tunnels, long = origin(answer(response(body))), origin(echo), origin(long_answer)
    write(path, FIRST)
    proxy = start("--policy", path)
    old = proxy.client()
    old.send(request("GET", long.url + "/long"))
    old.until(b"\r\n\r\n")
    load = Load()
    try:
        for i in range(4):
            load.add(f"kept{i}", asks(proxy.client(), o.url + "/", body))
        load.add("new", asks_and_leaves(proxy, o.url + "/", body))
        for i in range(2):
            client = proxy.client()
            client.send(request("CONNECT", tunnels.authority))
            assert client.response("CONNECT").status == 200
            load.add(f"tunnel{i}", talks(client))
        for i in range(SWAPS):
            after = len(proxy.lines)
            if i % 100 == 50:
                write(path, BROKEN)
                proxy.process.send_signal(signal.SIGHUP)
                proxy.line(r"swap\.policy:1:19: expected", after=after)
                proxy.line("old policy stays in force", after=after)
                after = len(proxy.lines)
            write(path, SECOND if i % 2 == 0 else FIRST)
            proxy.process.send_signal(signal.SIGHUP)
            proxy.line("reloaded", after=after)
            assert not load.errors, load.errors
    finally:
        load.end()
    assert not load.errors, load.errors
    go_on.set()
    assert old.exactly(200000) == b"x" * 100000 + b"y" * 100000  # begun under the first policy of all
    assert len(load.counts) == 7 and min(load.counts.values()) >= 100, load.counts
    asked = [r for r in proxy.records() if r["target"] == o.url + "/"]
    assert {r["status"] for r in asked} == {200}
    assert {r["rule"] for r in asked} == {1, 2}, "both policies decided"
    served = sum(count for name, count in load.counts.items() if not name.startswith("tunnel"))
    assert served <= len(asked) <= served + 5
    write(path, SECOND)
    after = len(proxy.lines)
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line("reloaded", after=after)
    assert proxy.client().ask("GET", long.url + "/long").status == 403
