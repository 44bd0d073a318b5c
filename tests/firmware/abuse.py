# SPDX-License-Identifier: MIT
"""Firmware with small pools on a bad cable, under attack, while well-behaved clients must be served.

    abuse.py SECONDS [CONNECTIONS [SEED [IMAGE...]]]

For lwIP's raw API and for its sockets, on the board of 64 KB, both at the same time, each in a network of its own.
Frames are lost, doubled and late in front of the driver. Peers reset in every phase, stall, do not read, half close,
send garbage and single octets, leave tunnels and cut transfers, in more connections than there are sessions or PCBs;
SYNs come from nowhere. That lasts SECONDS, and until the proxy has accepted CONNECTIONS by its own count.

Then all peers close, the cable is mended, and nothing is sent. Everything the image can count has to return to what it
was before the first connection: PCBs, segments, pbufs, lwIP's heap, netconns, records, sessions, buffers, malloc.
Only then requests are sent again. All figures come from the running image, those of the stacks' paint too.
"""
import asyncio
import contextlib
import multiprocessing
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
os.environ.setdefault("MINIPROXY_STACK", "lm3s")
os.environ.setdefault("MINIPROXY_SUITE", "abuse")
os.environ.setdefault("MINIPROXY_PATIENCE", "30")

import hostile  # noqa: E402
import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import world  # noqa: E402

IMAGES = ("lm3s-raw", "lm3s-sockets")
ATTACKERS = 6          # slow ones, from two addresses with two sessions each: two of six sessions are left for others
FLOODERS = 40
CLIENTS = 3            # well-behaved
LOST_MOST = 0.12       # of their connections: see Lost
STACK_LEFT = 64        # octets of each stack that must never have been used
ANSWERED_WITHIN = 60.0  # a connection: "total" below, and what a lost frame adds
SERVED_WITHIN = 480.0  # all attempts of a transaction: one in ten gets a session, by chance, among 46 attackers
QUIET = 200.0          # TIME_WAIT takes 120 s, and begins when what lingers has ended
TUNNEL = 30000         # octets there and back
BODIES = (0, 1, 535, 536, 537, 4000, 20000)
TIMEOUTS = [part for name, seconds in (("head", 4), ("idle", 4), ("body", 12), ("dns", 4), ("connect", 15),
                                       ("first_byte", 12), ("response", 12), ("write", 12), ("tunnel", 12),
                                       ("half_closed", 8), ("linger", 2), ("total", 40), ("tunnel_total", 40))
            for part in ("--timeout", f"{name}={seconds}")]


# ---- Attackers, slow


class Abuse(hostile.Attackers):
    """The attacks of hostile.py, and those that are about memory of lwIP."""

    def __init__(self, proxy, origins, names, silent):
        super().__init__(proxy, origins, names, silent)
        for kind in (self.stalled_upload, self.stalled_tunnel, self.no_reader):
            self.kinds += [(kind.__name__, kind)] * 3
        self.syns = 0

    async def stalled_upload(self, _, writer):
        """The origin takes nothing."""
        await self.repeat(writer, peers.request("POST", self.origins.url("mute"), "Content-Length: 9999999"),
                          b"x" * 8192, 0.001)

    async def stalled_tunnel(self, _, writer):
        """Both sides send, nobody reads."""
        writer.write(peers.request("CONNECT", self.origins.authority["endless_body"]))
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self.repeat(writer, b"GET / HTTP/1.1\r\n\r\n", b"x" * 8192, 0.001)

    async def run(self, number):
        rng = random.Random(number)
        while self.running:
            name, attack = rng.choice(self.kinds)
            writer = None
            with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError,
                                     asyncio.LimitOverrunError):
                reader, writer = await hostile.connect(self.proxy, f"127.66.0.{1 + number % 2}")
                self.count[name] = self.count.get(name, 0) + 1
                await asyncio.wait_for(attack(reader, writer), 6)
            if writer is not None:
                await hostile.close(writer, hard=rng.random() < 0.5)
            await asyncio.sleep(rng.random() * 0.1)

    async def half_open(self):
        """SYNs whose answers nobody gets. lwIP keeps each for 20 s, in one of the listener's few places."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            while self.running:
                source = f"127.66.3.{random.randrange(1, 255)}"
                sock.sendto(syn(source, *self.proxy.at), (self.proxy.at[0], 0))
                self.syns += 1
                await asyncio.sleep(10)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def syn(source, host, port):
    addresses = socket.inet_aton(source) + socket.inet_aton(host)
    segment = struct.pack(">HHIIBBHHH", random.randrange(1024, 65536), port, random.getrandbits(32), 0, 0x50, 2, 8192,
                          0, 0)
    total = checksum(addresses + struct.pack(">BBH", 0, 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack(">H", total) + segment[18:]
    return struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + segment


def drop_answers():
    """127.66.3.0/24 stays silent: the kernel would answer by resets."""
    subprocess.run(["ip", "route", "add", "table", "local", "blackhole", "127.66.3.0/24"], check=False)


# ---- Attackers, fast: a process of their own, with bare sockets


class Flood:
    """Short connections, one after the other, which end in every phase and in every way."""

    def __init__(self, at, origins, seed):
        self.at, self.origins, self.seed = at, origins, seed
        self.kinds = [self.at_once, self.head_cut, self.get, self.cut_download, self.cut_upload, self.half_close,
                      self.tiny, self.tunnel_left, self.garbage, self.hangup, self.no_read] + [self.leave] * 11
        self.count, self.wrong, self.not_accepted = {}, [], 0

    async def connect(self, rng, window=0):
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if window:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.bind((f"127.66.2.{rng.randrange(1, 100)}", 0))
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, self.at), 4)
        except BaseException:
            self.not_accepted += 1
            sock.close()
            raise
        return sock

    @staticmethod
    async def send(sock, data):
        await asyncio.get_running_loop().sock_sendall(sock, data)

    @staticmethod
    async def read(sock, most=1 << 20):
        """Up to the end or `most` octets."""
        data = b""
        while len(data) < most and (more := await asyncio.get_running_loop().sock_recv(sock, 65536)):
            data += more
        return data

    async def read_answer(self, sock, whole):
        """What was answered: if it was 200 it begins as it must, and is not longer."""
        data = await self.read(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200") and not whole.startswith(body):
            self.wrong.append(f"{len(body)} octets of another body")

    def good(self):
        return peers.request("GET", self.origins["url"]["good"], "Connection: close")

    async def at_once(self, sock, rng):
        pass

    async def leave(self, sock, rng):
        """At any time between a request and the end of its answer."""
        authority = self.origins["authority"]["echo"]
        await self.send(sock, self.good() if rng.random() < 0.7 else peers.request("CONNECT", authority) + bytes(700))
        await asyncio.sleep(rng.random() ** 3 * 0.05)

    async def head_cut(self, sock, rng):
        data = self.good()
        await self.send(sock, data[:rng.randrange(1, len(data))])
        await asyncio.sleep(rng.random() * 0.02)

    async def get(self, sock, rng):
        await self.send(sock, self.good())
        await self.read_answer(sock, hostile.BODY)

    async def half_close(self, sock, rng):
        await self.send(sock, self.good())
        sock.shutdown(socket.SHUT_WR)
        await self.read_answer(sock, hostile.BODY)

    async def tiny(self, sock, rng):
        data = self.good()
        while data:
            step = rng.randrange(1, 16)
            await self.send(sock, data[:step])
            data = data[step:]
            await asyncio.sleep(0)
        await self.read_answer(sock, hostile.BODY)

    async def cut_download(self, sock, rng):
        await self.send(sock, peers.request("GET", self.origins["url"]["endless_body"]))
        await self.read(sock, rng.randrange(1, 60000))

    async def cut_upload(self, sock, rng):
        await self.send(sock, peers.request("POST", self.origins["url"]["good"], "Content-Length: 99999"))
        await self.send(sock, bytes(rng.randrange(1, 20000)))

    async def tunnel_left(self, sock, rng):
        await self.send(sock, peers.request("CONNECT", self.origins["authority"]["echo"]))
        await self.send(sock, bytes(rng.randrange(0, 4000)))
        await self.read(sock, rng.randrange(1, 2000))

    async def garbage(self, sock, rng):
        await self.send(sock, os.urandom(rng.randrange(1, 600)))
        await self.read(sock)

    async def hangup(self, sock, rng):
        await self.send(sock, peers.request("GET", self.origins["url"]["hangup"]))
        await self.read(sock)

    async def no_read(self, sock, rng):
        await self.send(sock, peers.request("GET", self.origins["url"]["endless_body"]))
        await asyncio.sleep(rng.random() * 0.5)

    async def burst(self, _, rng):
        """More at once than there are PCBs."""
        socks = await asyncio.gather(*(self.connect(rng) for _ in range(20)), return_exceptions=True)
        for sock in socks:
            if isinstance(sock, socket.socket):
                self.end(sock, rng)

    @staticmethod
    def end(sock, rng):
        if rng.random() < 0.6:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    async def one(self, rng):
        kind = self.burst if rng.random() < 0.005 else rng.choice(self.kinds)
        self.count[kind.__name__] = self.count.get(kind.__name__, 0) + 1
        sock = None
        try:
            if kind != self.burst:
                sock = await self.connect(rng, 4096 if kind == self.no_read else 0)
            await asyncio.wait_for(kind(sock, rng), 5)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            if sock is not None:
                self.end(sock, rng)

    async def run(self, stop):
        async def flooder(number):
            rng = random.Random(self.seed * 1000 + number)
            while not stop.is_set():
                await self.one(rng)
        await asyncio.gather(*(flooder(i) for i in range(FLOODERS)))


def flood(at, origins, seed, stop, report):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    attack = Flood(at, origins, seed)
    asyncio.run(attack.run(stop))
    report.send((attack.count, attack.wrong[:10], attack.not_accepted))


# ---- Well-behaved clients


class Broken(Exception):
    pass


class Lost(Exception):
    """The connection was reset before a whole answer came, or nothing came until the client gave up.

    That cannot be excluded on this cable. An answer of which a frame is lost is repeated after 1 to 3 s; meanwhile its
    connection is closed, and the first to go when the PCBs are used up and a newcomer needs one (port/README.md). Nor
    has lwIP always memory for an answer when all its heap is held by peers that do not read. A reset, too, is a frame
    that gets lost, and Linux believes one only if it comes at the very octet; then the client's own timeout is the end.
    A request of which no octet gets in for the time of the head, because the pool is full, ends without an answer, as
    any silent connection does; and the time of a tunnel, or of an answer, may pass while it waits for what was lost:
    then it ends early, and its Content-Length tells so (RFC 9112 section 8).
    But never may a cut answer look complete."""


class Told(Exception):
    """A complete answer of the proxy that it cannot be done now."""


class KeptClosed(Exception):
    """A kept connection may be closed between two requests (RFC 9112 section 9.5): the client asks again."""


async def take(reader, expected, in_tunnel=False):
    """The octets expected, and no others even when the stream is cut."""
    got = b""
    while len(got) < len(expected):
        try:
            more = await reader.read(len(expected) - len(got))
        except OSError:
            raise Lost("reset in a body") from None
        if not more and in_tunnel:
            raise Lost("end of a tunnel")
        if not more:
            raise Lost("end within a body")
        got += more
        if not expected.startswith(got):
            raise Broken("WRONG OCTETS")


async def head_of(reader, kept):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if kept and not error.partial:
            raise KeptClosed from None
        if not error.partial:
            raise Lost("closed before an answer") from None
        raise Broken(f"end after {len(error.partial)} octets of a head") from None
    except OSError:
        raise KeptClosed if kept else Lost("reset before an answer") from None
    status = int(head[9:12])
    if status != 200:
        length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
        try:
            body = await reader.readexactly(int(length[1])) if length else b""
        except ConnectionError:
            raise Lost("reset in a refusal") from None
        # Without a buffer, or in haste, the answer has no body.
        if status not in (503, 504) or length is None or (status == 503 and b"\r\nretry-after:" not in head.lower()):
            raise Broken(f"answer {head!r} {body!r}")
        raise Told(f"{status} {re.sub('[^ -~]+', ' ', body.decode('latin-1')).strip()}".strip())
    return head.lower()


async def requests(reader, writer, origins, rng):
    """Up to three on a connection."""
    for i in range(rng.randrange(1, 4)):
        body = rng.randbytes(rng.choice(BODIES)) if rng.random() < 0.5 else None
        try:
            writer.write(peers.request("GET" if body is None else "POST", origins.url("good"), body=body))
        except OSError:
            raise KeptClosed if i > 0 else Lost("reset before an answer") from None
        head, expected = await head_of(reader, i > 0), hostile.BODY if body is None else body
        if b"\r\ncontent-length: %d\r\n" % len(expected) not in head:
            raise Broken(f"an answer that does not tell where it ends: {head!r}")
        await take(reader, expected)


async def tunnel(reader, writer, origins, rng):
    writer.write(peers.request("CONNECT", origins.authority["echo"]))
    await head_of(reader, False)
    data = rng.randbytes(TUNNEL)
    writer.write(data)
    await take(reader, data, in_tunnel=True)


class Served:
    def __init__(self):
        self.seconds, self.outcomes, self.broken, self.lost, self.late = [], {}, [], [], 0

    def note(self, outcome):
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def report(self):
        times = sorted(self.seconds) or [0]
        print(f"well-behaved clients: {len(self.seconds)} transactions served; seconds until then, all attempts: median "
              f"{times[len(times) // 2]:.2f}, 99 % {times[len(times) * 99 // 100]:.2f}, longest {times[-1]:.2f}")
        for outcome, count in sorted(self.outcomes.items()):
            print(f"  {count:6} connections: {outcome}")


async def attempt(proxy, origins, source, act, served, rng):
    """One connection. True: served."""
    writer = None
    try:
        # Where the queue of the listener is full, SYNs are ignored.
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(*proxy.at, local_addr=(source, 0), limit=1 << 20), 8)
    except (OSError, asyncio.TimeoutError):
        served.note("not accepted within 8 s")
        return False
    port = writer.get_extra_info("sockname")[1]
    try:
        await asyncio.wait_for(act(reader, writer, origins, rng), ANSWERED_WITHIN)
        served.note("served")
        return True
    except Told as told:
        served.note(f"told {told}")
    except KeptClosed:
        served.note("kept connection closed")
    except (Lost, asyncio.TimeoutError) as lost:
        served.lost.append((source, port, time.monotonic(), f"{act.__name__}: {lost}"))
        served.note(f"lost: {lost}" if str(lost) else f"lost: no answer within {ANSWERED_WITHIN:.0f} s")
    except Broken as broken:
        served.broken.append((source, port, time.monotonic(), f"{act.__name__}: {broken}"))
    except (OSError, asyncio.IncompleteReadError) as error:
        served.broken.append((source, port, time.monotonic(), f"{act.__name__}: {error!r}"))
    finally:
        await hostile.close(writer)
    if served.broken and served.broken[-1][1] == port:
        served.note("BROKEN " + re.sub(r"\d+", "N", served.broken[-1][3]))
    return False


async def behave(proxy, origins, number, served, more, seed):
    """One transaction after another, each tried again until it is served."""
    rng = random.Random(seed * 100 + number)
    while more():
        begun, act, done = time.monotonic(), rng.choice((requests, requests, tunnel)), False
        while not done and time.monotonic() - begun < SERVED_WITHIN:
            done = await attempt(proxy, origins, f"127.77.0.{1 + number}", act, served, rng)
            await asyncio.sleep(0.05 if done else 0.3)
        if done:
            served.seconds.append(time.monotonic() - begun)
        else:
            served.late += 1


# ---- The image


def ask(proxy, number, pattern):
    after = len(proxy.lines)
    proxy.process.send_signal(number)
    match = proxy.line(pattern, after=after)
    return match, proxy.lines[after:]


def pools(proxy):
    """What the image says is in use: name -> number, and the whole answer. Pools also as name_most and name_all."""
    match, lines = ask(proxy, signal.SIGUSR2, r"pools: .*")
    numbers = {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)(?![\d/])", match[0])}
    for name, used, most, available in re.findall(r"(\w+)=(\d+)/(\d+)/(\d+)", match[0]):
        numbers.update({name: int(used), name + "_most": int(most), name + "_all": int(available)})
    return numbers, lines


IN_USE = ("UDP_PCB", "TCP_PCB", "TCP_PCB_LISTEN", "TCP_SEG", "SYS_TIMEOUT", "NETBUF", "NETCONN", "TCPIP_MSG_API",
          "TCPIP_MSG_INPKT", "PBUF", "PBUF_POOL", "heap", "records", "lookups", "malloc")


def in_use(proxy):
    """All that must come back to what it was; and the connections that the image knows."""
    numbers, lines = pools(proxy)
    counters = proxy.counters()
    held = {name: numbers[name] for name in IN_USE if name in numbers}
    held.update({name: counters[name] for name in ("active", "buffers")})
    return held, [line for line in lines if line.startswith("connection:")]


def answered(proxy, count=10):
    """Requests by new and by kept connections; "" or what went wrong."""
    origin = peers.Origin()
    try:
        for _ in range(count):
            client = proxy.client()
            for _ in range(2):
                if (status := client.ask("GET", origin.url + "/").status) != 200:
                    return f"status {status}"
            client.close()
    except (AssertionError, OSError) as error:
        return repr(error)
    finally:
        origin.stop()
    return ""


async def calm(proxy, origins, results, image, seed):
    """The bad cable alone: whatever is lost, everything comes through soon. A few losses in a row cost some seconds."""
    served, rng, slowest = Served(), random.Random(seed), 0.0
    for i in range(20):
        begun = time.monotonic()
        await attempt(proxy, origins, "127.77.0.9", tunnel if i % 2 else requests, served, rng)
        if any("client_limit" in outcome for outcome in served.outcomes):
            served.outcomes = {k: n for k, n in served.outcomes.items() if "client_limit" not in k}
            await asyncio.sleep(5)  # two connections are still there because their FIN was lost
            await attempt(proxy, origins, "127.77.0.9", tunnel if i % 2 else requests, served, rng)
        slowest = max(slowest, time.monotonic() - begun)
    results.check(served.outcomes.get("served", 0) + served.outcomes.get("kept connection closed", 0) == 20,
                  f"{image}: with lost frames alone everything is served", "Z08",
                  f"{served.outcomes} {served.broken} {slowest:.1f}")
    print(f"with lost frames alone: slowest transaction {slowest:.1f} s")


async def storm(proxy, names, image, seconds, connections, seed, results):
    """Returns (abuse, served, what the flood reported, seconds it took)."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of origins that were cancelled
    origins, served = await hostile.Origins().start(), Served()
    addresses = {"authority": origins.authority, "url": {name: origins.url(name) for name in origins.authority}}
    stop, (here, there) = multiprocessing.Event(), multiprocessing.Pipe()
    await calm(proxy, origins, results, image, seed)
    begun, accepted = time.monotonic(), 0
    flooding = multiprocessing.Process(target=flood, args=(proxy.at, addresses, seed, stop, there))
    flooding.start()

    async def count():
        nonlocal accepted
        while True:
            accepted = (await asyncio.to_thread(proxy.counters))["accepted"]
            await asyncio.sleep(2)
    with peers.Silent() as silent:
        abuse = Abuse(proxy, origins, names, silent)
        bad = [abuse.run(i) for i in range(ATTACKERS)] + [abuse.half_open(), count()]
        bad = [asyncio.create_task(one) for one in bad]

        def more():
            return time.monotonic() - begun < seconds or accepted < connections
        await asyncio.gather(*(behave(proxy, origins, i, served, more, seed) for i in range(CLIENTS)))
        seconds = time.monotonic() - begun
        stop.set()
        abuse.running = False
        await asyncio.wait(bad, timeout=8)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
    report = await asyncio.to_thread(lambda: here.recv() if here.poll(20) else ({}, ["the flood did not end"], 0))
    flooding.join(5)
    flooding.kill()
    await origins_end(origins)
    return abuse, served, report, seconds


async def origins_end(origins):
    """Their connections too: a peer that is there and does not read may be waited for."""
    for server in origins.servers:
        server.close()
    mine = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in mine:
        task.cancel()
    await asyncio.gather(*mine, return_exceptions=True)


# ---- The run


def settle(proxy, results, image, idle):
    """Nothing is sent. All that was in use comes back, then everything is answered."""
    begun, held, lines = time.monotonic(), None, []
    proxy.process.send_signal(signal.SIGWINCH)
    back = {}
    while held != idle and time.monotonic() - begun < QUIET:
        time.sleep(1)
        held, lines = in_use(proxy)
        for name in held:
            if held[name] != idle[name]:
                back.pop(name, None)
            else:
                back.setdefault(name, time.monotonic() - begun)
    print("back at its idle value, seconds:", ", ".join(f"{name} {back[name]:.0f}" if name in back else f"{name} NEVER"
                                                        for name in held))
    left = {name: (held[name], idle[name]) for name in held if held[name] != idle[name]}
    results.check(not left, f"{image}: when all is quiet everything is back", "Z08,Z06,Z03",
                  f"(is, was): {left}\n" + "\n".join(lines))
    problem = answered(proxy)
    results.check(not problem, f"{image}: afterwards everything is answered", "Z08,Z03", problem)


def judge(proxy, image, seconds, connections, storm_result, results):
    abuse, served, (count, wrong, not_accepted), took = storm_result
    counters = proxy.counters()
    print(f"{counters['accepted']} connections accepted in {took:.0f} s ({counters['accepted'] / took:.0f} a second), "
          f"{counters['active_peak']} at once; {not_accepted} not accepted in time, {abuse.syns} SYNs from nowhere")
    print("fast:", ", ".join(f"{n} {name}" for name, n in sorted(count.items())))
    print("slow:", ", ".join(f"{n} {name}" for name, n in sorted(abuse.count.items())))
    served.report()
    for source, port, at, what in served.broken[:20]:
        print(f"    {source}:{port} at {at:.3f}: {what}")
    print("counters:", counters)
    numbers, lines = pools(proxy)
    print(lines[-1])
    results.check(not wrong and not any("WRONG" in what for *_, what in served.broken),
                  f"{image}: no client gets octets of another message", "Z08", str(wrong))
    tried = sum(served.outcomes.values())
    results.check(not served.broken and len(served.lost) <= max(10, LOST_MOST * tried),
                  f"{image}: a well-behaved client gets its exact body, or is told why not",
                  "Z02,Z04,Z05,Z08", f"{len(served.broken)} broken, {len(served.lost)} lost of {tried} connections")
    results.check(len(served.seconds) >= seconds / 20 and not served.late,
                  f"{image}: well-behaved clients are served within {SERVED_WITHIN:.0f} s", "Z08,D01",
                  f"{len(served.seconds)} served, {served.late} not in time")
    full = [name for name in ("TCP_PCB", "PBUF_POOL") if numbers[name + "_most"] == numbers[name + "_all"]]
    results.check(len(full) == 2 and counters["cause.sessions_full"] > 0,
                  f"{image}: sessions, PCBs and pbufs were used up", "Z08", str(full))
    results.check(all(numbers[name] > 0 for name in ("lost_in", "lost_out", "twice", "late")),
                  f"{image}: frames were lost, doubled and late", "Z08")
    results.check(counters["accepted"] >= max(connections, 10 * seconds),
                  f"{image}: enough connections", "Z08", str(counters["accepted"]))


def stacks(proxy, results, image):
    numbers, _ = pools(proxy)
    left = {name: numbers[name] for name in ("stack", "worker", "lwip") if name in numbers}
    print("stacks, octets never used:", left)
    results.check(min(left.values()) >= STACK_LEFT, f"{image}: the paint of every stack is intact", "Z06", str(left))


def end(proxy, results, image):
    try:
        proxy.stop()
        problem = ""
    except AssertionError as error:
        problem = str(error)
    results.check(not problem, f"{image}: it ends in order", "Z08", problem)


def drive(proxy, image, names, seconds, connections, seed, results):
    idle = in_use(proxy)[0]
    print("idle:", idle)
    storm_result = asyncio.run(storm(proxy, names, image, seconds, connections, seed, results))
    if proxy.process.poll() is not None:
        results.check(False, f"{image}: survives", "Z08", proxy.stderr()[-3000:])
        return
    judge(proxy, image, seconds, connections, storm_result, results)
    settle(proxy, results, image, idle)
    stacks(proxy, results, image)
    end(proxy, results, image)


def run_image(image, seconds, connections, seed, results):
    print(f"\n{image}, seed {seed}")
    world.enter()
    if not world.cables:
        print("ABUSE NOT RUN:", world.why_no_cables)
        results.lines.append(f"skip\t{results.suite}\t{image}: {world.why_no_cables}\t-\n")
        return
    drop_answers()
    names = world.Names()
    names.zone.update({f"silent{i}.example.test": "silent" for i in range(1000)})
    os.environ["MINIPROXY_LINK"] = f"lost=10,twice=10,late=20,seed={seed}"
    with tempfile.TemporaryDirectory() as directory:
        proxy = proxies.Proxy(directory, *proxies.OPEN, *TIMEOUTS, "--per-client", "2",
                              binary=os.path.join(ROOT, "build", "firmware-test", "bin", image))
        try:
            drive(proxy, image, names, seconds, connections, seed, results)
        except Exception as error:
            results.check(False, f"{image}: the run comes to its end", "Z08", repr(error))
        finally:
            proxy.kill()


def main():
    arguments = sys.argv[1:] + ["60", "0", "1"][len(sys.argv) - 1:]
    images = arguments[3:] or IMAGES
    if len(images) == 1:
        results = hostile.Results()
        run_image(images[0], float(arguments[0]), int(arguments[1]), int(arguments[2]), results)
        sys.stdout.flush()
        results.write()
        return 1 if results.failed else 0
    runs = []
    for image in images:
        environment = dict(os.environ, MINIPROXY_SUITE=f"{os.environ['MINIPROXY_SUITE']}-{image}")
        runs.append(subprocess.Popen([sys.executable, __file__, *arguments[:3], image], env=environment))
    failed = [run.wait() for run in runs]
    whole = hostile.Results()
    for image in images:
        part = os.path.join(ROOT, "build", "results", f"{whole.suite}-{image}.tsv")
        with open(part, encoding="utf-8") as f:
            whole.lines += [line.replace(f"{whole.suite}-{image}", whole.suite) for line in f]
        os.unlink(part)
    whole.write()
    return 1 if any(failed) else 0


if __name__ == "__main__":
    threading.excepthook = lambda _: None  # readers of a killed process
    sys.exit(main())
