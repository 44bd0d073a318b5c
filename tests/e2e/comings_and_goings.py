# SPDX-License-Identifier: MIT
"""Parents that are killed and revived one after another while clients ask for ever. A test looks at what became of the
requests, tests/bench/parents.py at the times too."""
import contextlib
import os
import time

import peers
from parents import Load

SMALL, BIG = b"s" * 200, os.urandom(1 << 20)
CLIENTS = {"kept": 3, "new": 2, "big": 2, "tunnel": 2}
PAUSE_S = 0.005  # of each client between two requests: the machine has others to serve
CHECKS = " check every 1s fall 2 rise 2"


def contents(peer):
    """What every request gets, as long as the one who asks lives."""
    try:
        while True:
            message = peer.request(patience=60)
            peer.send(peers.response(BIG if message.target == b"/big" else SMALL))
            peer.origin.requests.clear()
    except (peers.Cut, peers.Late):
        pass


def echo(peer):
    while data := peer.some(60):
        peer.send(data)


def policy(parents, in_turn=False, checks=False):
    """The policy of a proxy that has them."""
    lines = [f"parent {p.program_name}{i} = {p.url}{CHECKS if checks else ''}" for i, p in enumerate(parents)]
    names = ", ".join(f"{p.program_name}{i}" for i, p in enumerate(parents))
    return "\n".join(lines + [f"route via {names}{' in turn' if in_turn else ''}", "allow to loopback ports any", ""])


class Traffic(Load):
    """GET requests, small and large, and tunnels, of all the clients. What did not go well is in `failed`, if it was a
    response other than 200, or none; and in `cut`, if the response or the tunnel was there and a parent was killed
    before it came to its end: nobody can help that."""

    def __init__(self, front, contents_at, echo_at):
        super().__init__()
        self.front, self.contents_at, self.echo_at = front, contents_at, echo_at
        self.failed, self.cut, self.turmoil = [], [], 0
        for kind, count in CLIENTS.items():
            for i in range(count):
                self.add(f"{kind}{i}", getattr(self, kind)())

    def connect(self):
        """Not remembered by the proxy, of which there are thousands."""
        return peers.Client(self.front)

    def one(self, kind, act):
        """Do it once, and say whether it went well."""
        before = self.turmoil
        time.sleep(PAUSE_S)
        try:
            problem = act()
        except (peers.Cut, ConnectionError) as error:
            if self.turmoil != before:
                self.cut.append((kind, time.monotonic()))
                return False
            problem = repr(error)
        if problem:
            self.failed.append((kind, time.monotonic(), problem))
        return not problem

    @staticmethod
    def get(client, url, body):
        """None, or what was wrong. A response that is cut raises."""
        client.send(peers.request("GET", url))
        try:
            message = client.response()
        except peers.Cut as cut:
            if b"HTTP/1.1 200 " not in client.received:
                return f"no response: {cut}"
            raise
        client.received.clear()
        return None if message.status == 200 and message.body == body else f"{message.status} {message.fields}"

    def getting(self, kind, path, body, kept):
        client = None

        def once():
            nonlocal client
            if client is None:
                client = self.connect()
            well = self.one(kind, lambda: self.get(client, self.contents_at.url + path, body))
            if not well or not kept:
                client.close()
                client = None
        return once

    def kept(self):
        return self.getting("kept", "/small", SMALL, True)

    def new(self):
        return self.getting("new", "/small", SMALL, False)

    def big(self):
        return self.getting("big", "/big", BIG, True)

    def tunnel(self):
        def talk(client):
            client.send(peers.request("CONNECT", self.echo_at.authority))
            message = client.response("CONNECT")
            if message.status != 200:
                return f"{message.status} {message.fields}"
            for _ in range(5):
                data = os.urandom(1000)
                client.send(data)
                if client.exactly(len(data)) != data:
                    return "other octets than were sent"
            return None

        def once():
            with contextlib.closing(self.connect()) as client:
                self.one("tunnel", lambda: talk(client))
        return once


class Times:
    """How long it took until the log told of it, in seconds, and how many requests had failed or were cut by then."""

    def __init__(self):
        self.down, self.up, self.failed_before, self.failed_after, self.cut = [], [], 0, 0, 0


class Play:
    """Three parents, killed and revived under traffic."""

    def __init__(self, front, parents, traffic, in_turn, checks):
        self.front, self.parents, self.traffic, self.times = front, parents, traffic, Times()
        self.all_noticed, self.dead = in_turn or checks, set()

    def is_noticed(self, i):
        """One that is not checked and comes behind others in order is not looked at while those live."""
        return self.all_noticed or all(k in self.dead for k in range(i))

    def wait(self, i, state):
        since = time.monotonic()
        self.front.hop_state(self.parents[i].authority, state)
        took = time.monotonic() - since
        (self.times.down if state == "down" else self.times.up).append(took)

    def account(self):
        """Failures so far, once the latest detection is over."""
        return len(self.traffic.failed)

    def kill(self, i):
        noticed, failed = self.is_noticed(i), self.account()
        self.traffic.turmoil += 1
        self.parents[i].kill()
        self.traffic.turmoil += 1
        self.dead.add(i)
        if noticed:
            self.wait(i, "down")
        self.times.failed_before += self.account() - failed
        self.go_on()

    def go_on(self):
        failed = self.account()
        self.traffic.goes_on()
        self.times.failed_after += self.account() - failed

    def revive(self, i):
        self.parents[i].revive()
        self.dead.discard(i)
        if self.is_noticed(i):
            self.wait(i, "up")
        self.go_on()

    def run(self):
        """At least one lives always."""
        self.go_on()
        self.kill(0)
        self.kill(1)
        assert self.states() == ["down", "down", "up"]
        self.revive(0)
        self.kill(2)
        self.revive(1)
        self.revive(2)
        self.kill(0)
        self.front.hop_state(self.parents[1].authority, "up")
        self.revive(0)
        self.times.cut = len(self.traffic.cut)
        return self.times

    def states(self):
        """As the report has them."""
        hops = self.front.hops()
        return [hops[parent.authority][0] for parent in self.parents]
