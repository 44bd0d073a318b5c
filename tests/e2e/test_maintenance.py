# SPDX-License-Identifier: MIT
"""Maintenance, by SIGUSR2 and by a policy: new requests are answered by 503, what runs goes on."""
import signal
import socket

import pytest

from peers import request, response
from proxy import OPEN
from test_policy import HERE, policy, reload  # noqa: F401
from test_tunnels import connect, echo

WORDS = "Back at 14:00 <soon> & well."


def toggle(proxy, line):
    after = len(proxy.lines)
    proxy.process.send_signal(signal.SIGUSR2)
    proxy.line(line, after=after)


def begin(proxy):
    toggle(proxy, "maintenance begins: new requests are answered by 503")
    wait_for(proxy, b"maintenance\n")


def end(proxy):
    toggle(proxy, "maintenance is over$")
    wait_for(proxy, b"ok\n")


def health(proxy):
    client = proxy.client()
    client.send(request("GET", "/health", "Connection: close", host="proxy.example"))
    return client.response()


def wait_for(proxy, condition):
    """The signal is told to the workers, which sleep: soon."""
    for _ in range(200):
        message = health(proxy)
        if message.body == condition:
            assert message.status == (200 if condition == b"ok\n" else 503)
            return
    raise AssertionError(f"/health never said {condition}")


def closed_for_now(proxy, client, words, method="GET"):
    message = client.response(method)
    assert message.status == 503 and int(message.get("Retry-After")) > 0
    assert words.encode() in message.body and b"maintenance" in message.body
    event = proxy.event(client, 503)
    assert (event["cause"], event["by"]) == ("maintenance", "proxy")
    return message


def slow(peer):
    """Half of a response, and the other half when somebody says so."""
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
    while not peer.origin.may_end:
        peer.sock.settimeout(0.05)
        try:
            peer.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
    peer.send(b"half")


@pytest.mark.req("S02")
def test_what_runs_goes_on(start, origin):
    proxy = start(*OPEN, "--maintenance", WORDS)
    tunnel_end, o, half = origin(echo), origin(), origin(slow)
    half.may_end = False
    tunnel, kept, waiting = proxy.client(), proxy.client(), proxy.client()
    assert connect(tunnel, tunnel_end.authority).status == 200
    assert kept.ask("GET", o.url + "/before").status == 200
    waiting.send(request("GET", half.url + "/"))
    waiting.until(b"half")
    begin(proxy)
    for method, target in ("GET", o.url + "/"), ("POST", o.url + "/"), ("CONNECT", tunnel_end.authority):
        client = proxy.client()
        client.send(request(method, target, host=tunnel_end.authority if method == "CONNECT" else None))
        closed_for_now(proxy, client, WORDS, method)
    kept.send(request("GET", o.url + "/meanwhile"))
    closed_for_now(proxy, kept, WORDS)
    tunnel.send(b"still here")
    assert tunnel.exactly(10) == b"still here"
    half.may_end = True
    assert waiting.exactly(4) == b"half"
    assert [r.target for r in o.requests] == [b"/before"]
    end(proxy)
    assert proxy.client().ask("GET", o.url + "/after").status == 200
    tunnel.send(b"and now")
    assert tunnel.exactly(7) == b"and now"


def test_the_usual_words(start, origin):
    proxy, o = start(*OPEN), origin()
    for _ in range(2):
        begin(proxy)
        client = proxy.client()
        client.send(request("GET", o.url + "/"))
        closed_for_now(proxy, client, "This proxy is under maintenance. Please try again later.")
        end(proxy)
        assert proxy.client().ask("GET", o.url + "/").status == 200


def test_a_policy_orders_maintenance(start, origin, policy):  # noqa: F811
    text = HERE + "allow from loopback methods pages\n"
    proxy, o = start("--policy", policy(text)), origin()
    assert proxy.client().ask("GET", o.url + "/").status == 200
    policy(f'maintenance "{WORDS}"\n' + text)
    reload(proxy, "reloaded")
    wait_for(proxy, b"maintenance\n")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    closed_for_now(proxy, client, WORDS)
    policy(text)
    reload(proxy, "reloaded")
    wait_for(proxy, b"ok\n")
    assert proxy.client().ask("GET", o.url + "/").status == 200


def test_the_policy_and_the_signal(start, origin, policy):  # noqa: F811
    """Both must be over; the signal's words come first."""
    path = policy(f'maintenance "{WORDS}"\n' + HERE + "allow from loopback methods pages\n")
    proxy, o = start("--policy", path, "--maintenance", "by signal"), origin()
    proxy.line(r"  maintenance: all but pages is answered by 503")
    begin(proxy)
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    closed_for_now(proxy, client, "by signal")
    toggle(proxy, "maintenance is over as far as SIGUSR2 goes, but the policy orders it too")
    for _ in range(200):
        client = proxy.client()
        client.send(request("GET", o.url + "/"))
        if WORDS.encode() in closed_for_now(proxy, client, "").body:
            break
    else:
        raise AssertionError("the policy's words never came")


def test_all_workers_take_it(start, origin):
    proxy, o = start(*OPEN, "--workers", "3"), origin()
    begin(proxy)
    for state, status in ("begun", 503), ("over", 200):
        if state == "over":
            end(proxy)
        for _ in range(20):  # until the slowest has woken up
            answers = [proxy.client().ask("GET", o.url + "/").status for _ in range(12)]
            if answers == [status] * 12:
                break
        else:
            raise AssertionError(f"maintenance {state}: {answers}")


def test_draining_ends_in_maintenance_too(start):
    proxy = start(*OPEN)
    begin(proxy)
    proxy.terminate()
    assert proxy.wait() == 0
