# SPDX-License-Identifier: MIT
"""Everything that wears a proxy out, at once and for a long time, while well-behaved clients must be served.

    hostile.py [SECONDS]

Slow clients in every phase, silent ones, endless heads and bodies, garbage, dead and endless origins, a resolver that
never answers, more connections than descriptors, and a second proxy whose few sessions are always full. A well-behaved
client may be told 503 with Retry-After and then tries again; whatever else goes wrong is a loss. At the end nothing may
be left behind.
"""
import asyncio
import contextlib
import functools
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import world  # noqa: E402

DESCRIPTORS = 300     # or connections, of a stack that the program brings with it
ATTACKERS = 120
BURST = 200           # connections at once, every BURST_EVERY seconds
BURST_EVERY = 4.0
SERVED_WITHIN = 30.0  # seconds, tries after 503 included
BODY = bytes(range(256)) * 40

SHORT = [part for name, seconds in (("head", 2), ("idle", 4), ("body", 2), ("dns", 2), ("connect", 2),
                                    ("first_byte", 2), ("response", 2),
                                    ("write", 2), ("tunnel", 3), ("half_closed", 2), ("linger", 1), ("total", 8),
                                    ("tunnel_total", 8))
         for part in ("--timeout", f"{name}={seconds}")]


async def connect(proxy, source):
    """A connection from a loopback address of the caller's choice."""
    return await asyncio.wait_for(asyncio.open_connection(*proxy.at, local_addr=(source, 0),
                                                          limit=1 << 20), 20)


async def close(writer, hard=False):
    if hard:
        with contextlib.suppress(OSError):  # it is closed already
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


# ---- Origins, good and bad


class Origins:
    """One server for each behaviour; `url` and `authority` by its name."""

    async def start(self):
        self.authority, self.servers = {}, []
        for name in ("good", "echo", "mute", "slow_head", "slow_body", "endless_head", "endless_body", "interim",
                     "garbage", "hangup"):
            server = await asyncio.start_server(getattr(self, name), "127.0.0.1", 0, limit=1 << 20)
            self.servers.append(server)
            self.authority[name] = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        return self

    def url(self, name):
        return f"http://{self.authority[name]}/"

    @staticmethod
    async def good(reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                body = await reader.readexactly(length[0]) if length else BODY
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    @staticmethod
    async def echo(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    @staticmethod
    async def repeat(reader, writer, first, data, pause):
        """Send data for ever, until the proxy has had enough."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while not reader.at_eof():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def mute(self, reader, writer):
        await self.repeat(reader, writer, b"", b"", 0.5)

    async def slow_head(self, reader, writer):
        await self.repeat(reader, writer, b"HTTP/1.1 200 OK\r\nA: ", b"x", 0.3)

    async def slow_body(self, reader, writer):
        await self.repeat(reader, writer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.3)

    async def endless_head(self, reader, writer):
        await self.repeat(reader, writer, b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100, 0.001)

    async def endless_body(self, reader, writer):
        await self.repeat(reader, writer, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536,
                          0.001)

    async def interim(self, reader, writer):
        await self.repeat(reader, writer, b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.01)

    async def garbage(self, reader, writer):
        await self.repeat(reader, writer, b"", os.urandom(100), 0.1)

    async def hangup(self, reader, writer):
        await asyncio.sleep(random.random())
        await close(writer, hard=random.random() < 0.5)


# ---- Attackers


class Attackers:
    """Each method is one attack on one connection; it ends when the proxy ends it, or a little later."""

    def __init__(self, proxy, origins, names, silent):
        self.proxy, self.origins, self.silent, self.count, self.running = proxy, origins, silent, {}, True
        kinds = [self.silence, self.slow_head, self.slow_body, self.slow_chunks, self.no_reader, self.idle,
                 self.garbage, self.endless_head,
                 self.endless_target, self.endless_chunks, self.endless_trailers, self.endless_blank_lines,
                 self.tunnel, self.half_closed,
                 self.dead_address, self.vanish, self.pipeline, *([self.dead_name] if names else [])]
        self.kinds = [(kind.__name__, kind) for kind in kinds]
        for name in ("mute", "slow_head", "slow_body", "endless_head", "interim", "garbage", "hangup"):
            self.kinds.append(("origin_" + name, functools.partial(self.bad_origin, name)))

    async def run(self, number):
        """One attacker after another from one of a few addresses."""
        rng = random.Random(number)
        while self.running:
            name, attack = rng.choice(self.kinds)
            self.count[name] = self.count.get(name, 0) + 1
            writer = None
            try:
                reader, writer = await connect(self.proxy, f"127.66.0.{1 + number % 6}")
                await asyncio.wait_for(attack(reader, writer), 12)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass
            if writer is not None:
                await close(writer, hard=rng.random() < 0.3)
            await asyncio.sleep(rng.random() * 0.3)

    async def burst(self):
        """All descriptors at once."""
        while self.running:
            await asyncio.sleep(BURST_EVERY)
            results = await asyncio.gather(*(connect(self.proxy, f"127.66.1.{1 + i % 50}") for i in range(BURST)),
                                           return_exceptions=True)
            await asyncio.sleep(1)
            for result in results:
                if isinstance(result, tuple):
                    await close(result[1], hard=True)

    @staticmethod
    async def repeat(writer, first, data, pause):
        writer.write(first)
        while not writer.is_closing():
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause)

    def post(self, *fields):
        return peers.request("POST", self.origins.url("good"), *fields)

    async def silence(self, reader, _):
        await reader.read()

    async def slow_head(self, _, writer):
        await self.repeat(writer, b"GET http://x/ HTTP/1.1\r\nA: ", b"x", 0.2)

    async def slow_body(self, _, writer):
        await self.repeat(writer, self.post("Content-Length: 100000"), b"x", 0.5)

    async def slow_chunks(self, reader, writer):
        writer.write(self.post("Transfer-Encoding: chunked") + b"5\r\nhel")
        await reader.read()

    async def no_reader(self, reader, writer):
        reader._limit = 1  # asyncio stops reading from the socket
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(peers.request("GET", self.origins.url("endless_body")))
        await asyncio.sleep(5)

    async def idle(self, reader, writer):
        writer.write(peers.request("GET", self.origins.url("good")))
        await reader.read()

    async def garbage(self, _, writer):
        await self.repeat(writer, b"", os.urandom(random.randrange(1, 2000)), 0.05)

    async def endless_head(self, _, writer):
        await self.repeat(writer, b"GET http://x/ HTTP/1.1\r\n", b"A: b\r\n" * 50, 0.002)

    async def endless_target(self, _, writer):
        await self.repeat(writer, b"GET http://x/", b"x" * 5000, 0.002)

    async def endless_chunks(self, _, writer):
        await self.repeat(writer, self.post("Transfer-Encoding: chunked"), b"1;" + b"e" * 50 + b"\r\nx\r\n", 0.005)

    async def endless_trailers(self, _, writer):
        await self.repeat(writer, self.post("Transfer-Encoding: chunked") + b"0\r\n", b"A: b\r\n" * 50, 0.005)

    async def endless_blank_lines(self, _, writer):
        await self.repeat(writer, b"", b"\r\n" * 100, 0.005)

    async def tunnel(self, reader, writer):
        writer.write(peers.request("CONNECT", self.origins.authority["echo"]) + os.urandom(1000))
        await reader.read()

    async def half_closed(self, reader, writer):
        writer.write(peers.request("CONNECT", self.origins.authority["mute"]))
        writer.write_eof()
        await reader.read()

    async def dead_address(self, reader, writer):
        writer.write(peers.request("GET", f"http://{self.silent.host}:{self.silent.port}/"))
        await reader.read()

    async def dead_name(self, reader, writer):
        writer.write(peers.request("GET", f"http://silent{random.randrange(1000)}.example.test/"))
        await reader.read()

    async def vanish(self, _, writer):
        data = self.post("Content-Length: 50") + b"x" * 50
        writer.write(data[:random.randrange(len(data))])
        await asyncio.sleep(random.random() * 0.1)
        await close(writer, hard=True)

    async def pipeline(self, reader, writer):
        writer.write(peers.request("GET", self.origins.url("good")) * 200)
        writer.write_eof()
        await asyncio.sleep(1)
        await reader.read()

    async def bad_origin(self, name, reader, writer):
        writer.write(peers.request("GET", self.origins.url(name)))
        await reader.read()


# ---- Well-behaved clients


class Served:
    def __init__(self):
        self.seconds, self.told_to_wait, self.lost = [], 0, []

    def report(self, name):
        times = sorted(self.seconds) or [0]
        print(f"{name}: {len(self.seconds)} served, {self.told_to_wait} times told to wait, {len(self.lost)} lost; "
              f"seconds: median {times[len(times) // 2]:.3f}, 99 % {times[len(times) * 99 // 100]:.3f}, "
              f"longest {times[-1]:.3f}")


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head[9:12]), head.lower()


async def plain(reader, writer, origins, number):
    """Some requests on one connection. Returns a status that is not 200, or None."""
    for i in range(1 + number % 3):
        body = os.urandom(5000) if i % 2 else None
        writer.write(peers.request("POST" if body else "GET", origins.url("good"), body=body))
        try:
            status, head = await read_head(reader)
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError) as error:
            if i > 0 and not getattr(error, "partial", b""):
                return None  # a kept connection may be closed between two requests; the next one is new
            raise
        if status != 200:
            return status, head
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if await reader.readexactly(length) != (body or BODY):
            return 0, b"wrong body"
    return None


async def tunnel(reader, writer, origins, _):
    writer.write(peers.request("CONNECT", origins.authority["echo"]))
    status, head = await read_head(reader)
    if status != 200:
        return status, head
    data = os.urandom(30000)
    writer.write(data)
    return None if await reader.readexactly(len(data)) == data else (0, b"wrong octets")


async def behave(proxy, origins, number, served, running):
    """One transaction after another; each has SERVED_WITHIN seconds."""
    while running():
        begun, writer, problem, done = time.monotonic(), None, "too late", False
        while not done and time.monotonic() - begun < SERVED_WITHIN:
            try:
                reader, writer = await connect(proxy, f"127.77.0.{1 + number}")
                left = SERVED_WITHIN - (time.monotonic() - begun)
                failure = await asyncio.wait_for((tunnel if number % 3 == 0 else plain)(reader, writer, origins,
                                                                                        number), left)
                done = failure is None
                if failure and failure[0] == 503 and b"retry-after:" in failure[1]:
                    served.told_to_wait += 1
                    await asyncio.sleep(0.2)
                elif failure:
                    problem = failure
                    break
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                problem = f"{error!r} in a {'tunnel' if number % 3 == 0 else 'plain request'}, " \
                          f"{time.monotonic() - begun:.1f} s, {'connected' if writer else 'not connected'}"
                break
            finally:
                if writer is not None:
                    await close(writer)
        if done:
            served.seconds.append(time.monotonic() - begun)
        else:
            served.lost.append(problem)
        await asyncio.sleep(0.05)


# ---- The run


async def attack(big, few, names, seconds):
    origins, good, good_few = await Origins().start(), Served(), Served()
    until = time.monotonic() + seconds
    with peers.Silent() as silent:
        attackers, small = Attackers(big, origins, names, silent), Attackers(few, origins, names, silent)
        bad = [attackers.run(i) for i in range(ATTACKERS)] + [attackers.burst()] + [small.run(6 * i) for i in range(8)]
        bad = [asyncio.create_task(one) for one in bad]
        await asyncio.gather(*(behave(big, origins, i, good, lambda: time.monotonic() < until) for i in range(9)),
                             *(behave(few, origins, 20 + i, good_few,
                                      lambda: time.monotonic() < until) for i in range(2)))
        attackers.running = small.running = False
        await asyncio.wait(bad, timeout=20)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
    print("attacks:", ", ".join(f"{n} {name}" for name, n in sorted(attackers.count.items())))
    good.report("well-behaved clients")
    good_few.report("well-behaved clients of few sessions")
    return good, good_few


class Results:
    def __init__(self):
        self.suite, self.lines, self.failed = os.environ.get("MINIPROXY_SUITE", "hostile-soak"), [], False

    def check(self, ok, name, rules, detail=""):
        print(("pass: " if ok else "FAIL: ") + name + ("" if ok else f"\n{detail}"))
        self.failed = self.failed or not ok
        self.lines.append(f"{'pass' if ok else 'fail'}\t{self.suite}\t{name}\t{rules}\n")

    def skip(self, why):
        self.lines.append(f"skip\t{self.suite}\t{why}\t-\n")
        self.write()
        return 0

    def write(self):
        directory = os.path.join(proxies.ROOT, "build", "results")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, self.suite + ".tsv"), "w", encoding="utf-8") as f:
            f.writelines(self.lines)


def settle(proxy, results, what, descriptors):
    """After the attack: nothing is held, everything still works, and the program ends."""
    try:
        proxy.wait_idle(20)
        held = 0
    except AssertionError as error:
        held = str(error)
    results.check(held == 0, f"{what}: no session is left", "Z08,Z03,Z02", held)
    open_now = len(os.listdir(f"/proc/{proxy.process.pid}/fd"))
    results.check(open_now <= descriptors + 12, f"{what}: no descriptor is left", "Z08",
                  f"{open_now} open, {descriptors} at the start")
    try:
        proxy.stop()
        problem = ""
    except AssertionError as error:
        problem = str(error)
    results.check(not problem, f"{what}: ends in order", "Z08", problem)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    world.enter()
    if world.STACK and not world.cables:
        return Results().skip(world.why_no_cables)
    names = world.Names() if world.isolated else None
    if names:
        names.zone.update({f"silent{i}.example.test": "silent" for i in range(1000)})
    else:
        print("NO NAME SERVER: the dead resolver is left out")
    results = Results()
    with tempfile.TemporaryDirectory() as directory:
        big = proxies.Proxy(directory, *proxies.OPEN, *SHORT, "--per-client", "15", descriptors=DESCRIPTORS)
        few = proxies.Proxy(directory, "--allow-private", "--connect-ports", "any", "--name", "few", *SHORT,
                            "--per-client", "2",
                            binary=proxies.SMALL)
        descriptors = [len(os.listdir(f"/proc/{p.process.pid}/fd")) for p in (big, few)]
        before = big.memory_kb()
        good, good_few = asyncio.run(attack(big, few, names, seconds))
        for served, what in ((good, "full of attackers"), (good_few, "few sessions")):
            results.check(len(served.seconds) > seconds / 2 and not served.lost,
                          f"{what}: well-behaved clients are served", "Z02,Z04,Z05,Z08,D01",
                          f"{len(served.seconds)} served, lost: {served.lost[:5]}")
        counters = big.counters() if big.process.poll() is None else {}
        print("counters:", counters)
        # lwIP does not tell of clients for whom it has no connection: it leaves their SYN to be repeated.
        paused = counters.get("accept_paused", 0) > 0 or bool(world.STACK)
        tried = paused and counters.get("cause.head_timeout",
                                                                      0) > 0 and counters.get("cause.client_limit",
                                                                                              0) > 0
        results.check(tried, "full of attackers: descriptors ran out, deadlines passed, caps were met", "Z08",
                      str(counters))
        grown = big.memory_kb() - before if counters else 0
        results.check(grown < 60000, "full of attackers: memory is bounded", "Z06,Z07", f"{grown} KB more")
        settle(big, results, "full of attackers", descriptors[0])
        settle(few, results, "few sessions", descriptors[1])
    results.write()
    return 1 if results.failed else 0


if __name__ == "__main__":
    threading.excepthook = lambda _: None  # readers of a killed process
    sys.exit(main())
