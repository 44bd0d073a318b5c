# SPDX-License-Identifier: MIT
"""Damaged messages from both sides against the command built with sanitizers.

    damage.py [SECONDS [SEED]]

Clients and origins start from valid messages and damage them: octets changed, cut out, repeated, mixed; sent in odd
pieces, stalled, half-closed, reset. Meanwhile sound requests must be served, and nothing malformed may reach an origin.
"""
import asyncio
import collections
import os
import random
import re
import signal
import struct
import socket
import subprocess
import sys
import time

from targets import ROOT, Results

BINARY = os.path.join(ROOT, "build", "asan", "miniproxy")
CLIENTS = 24
NAME = b"hostile"
SHORT = ("head", "tunnel", "body", "first_byte", "response", "linger")
TIMEOUTS = [word for name in SHORT for word in ("--timeout", name + "=2")]
BODY = bytes(range(256)) * 8

REQUESTS = [
    b"GET http://%h/a?b=c HTTP/1.1\r\nHost: %h\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
    b"GET http://%h/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD http://%h/ HTTP/1.1\r\nHost: %h\r\nConnection: close, X-A\r\nX-A: 1\r\n\r\n",
    b"POST http://%h/p HTTP/1.1\r\nHost: %h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world",
    b"POST http://%h/p HTTP/1.1\r\nHost: %h\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5;e=\"x\"\r\nhello\r\n"
    b"10\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n",
    b"PUT http://%h/u HTTP/1.1\r\nHost: %h\r\nContent-Length: 0\r\n\r\nGET http://%h/n HTTP/1.1\r\nHost: %h\r\n\r\n",
    b"OPTIONS http://%h HTTP/1.1\r\nHost: %h\r\nMax-Forwards: 1\r\nVia: 1.0 a, 1.1 b (c)\r\n\r\n",
    b"CONNECT %h HTTP/1.1\r\nHost: %h\r\n\r\nearly octets",
    b"GET http://%h/ws HTTP/1.1\r\nHost: %h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"\x05\x02\x00\x02\x05\x01\x00\x03\x09127.0.0.1\x00\x50hello",
    b"GET http://%h/ HTTP/1.1\r\nHost: %h\r\nProxy-Authorization: Basic YTpi\r\nTE: trailers\r\nCookie: a=b\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframes",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40000,
]
PIECES = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b"\0", b"\xff", b"%00", b"#", b"@", b"//",
          b"0x5", b"-1", b"+5", b"18446744073709551616", b"ffffffffffffffff", b"Content-Length: 7\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n",
          b"Host: other\r\n", b"HTTP/1.1", b"HTTP/2.0", b" HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n",
          b"Proxy-Authorization: Basic =\r\n", b"A" * 40000]


def damage(rng, message):
    m = bytearray(message)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at, end = sorted((rng.randrange(len(m) + 1), rng.randrange(len(m) + 1)))
        kind = rng.randrange(5)
        if kind == 0 and at < len(m):
            m[at] = rng.randrange(256)
        elif kind == 1:
            m[at:at] = rng.choice(PIECES)
        elif kind == 2:
            del m[at:min(end, at + rng.randrange(1, 40))]
        elif kind == 3:
            m[at:at] = m[at:min(end, at + 200)]
        else:
            m = m[:at] + rng.choice(REQUESTS + RESPONSES)[rng.randrange(60):]
    return bytes(m)


def give_up(rng, writer):
    """Close, or reset."""
    try:
        if rng.random() < 0.3:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    except OSError:
        pass  # the peer was faster


async def send_in_pieces(rng, writer, data):
    while data:
        n = rng.choice((1, 2, 7, 100, 4096, len(data)))
        writer.write(data[:n])
        await writer.drain()
        data = data[n:] if len(data) > n else b""
        await asyncio.sleep(rng.choice((0, 0, 0, 0, 0.001, 0.02)) if len(data) < 300 else 0)


class Hostile:
    def __init__(self, rng):
        self.rng, self.process = rng, None
        self.bad_requests, self.bad_replies, self.unserved = [], [], []
        self.recent = collections.deque(maxlen=4 * CLIENTS)  # of use when the proxy has crashed
        self.counts = {"damaged": 0, "sound": 0, "replies": 0, "at origins": 0}

    async def hostile_origin(self, reader, writer):
        """Inspects what comes as a strict recipient would, answers with anything."""
        try:
            for _ in range(self.rng.randrange(1, 4)):
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
                self.counts["at origins"] += 1
                if not await self.inspect(head, reader):
                    self.bad_requests.append(head)
                    break
                answer = damage(self.rng, self.rng.choice(RESPONSES))
                self.recent.append(("origin", head, answer))
                await send_in_pieces(self.rng, writer, answer)
                if b" 101 " in answer:
                    break  # what follows may be a tunnel's content
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        give_up(self.rng, writer)

    async def inspect(self, head, reader):
        """One strict request head, written by the proxy, and its body."""
        lines = head[:-4].split(b"\r\n")
        fields = [tuple(line.partition(b":")[::2]) for line in lines[1:]]
        names = [name.lower() for name, _ in fields]
        ok = re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (?:/[!-~\x80-\xff]*|\*) HTTP/1\.1", lines[0])
        ok = ok and all(re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*", line) for line in lines[1:])
        ok = ok and names.count(b"host") == 1 and any(n.lower() == b"via" and b" " + NAME in v for n, v in fields)
        ok = ok and not {b"proxy-authorization", b"keep-alive", b"proxy-connection"} & set(names)
        lengths = [value.strip() for name, value in fields if name.lower() == b"content-length"]
        codings = [value.strip() for name, value in fields if name.lower() == b"transfer-encoding"]
        if not ok or len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
            return False
        if lengths:
            if not lengths[0].isdigit():
                return False
            await asyncio.wait_for(reader.readexactly(min(int(lengths[0]), 1 << 20)), 3)
        while codings:
            size = await asyncio.wait_for(reader.readuntil(b"\r\n"), 3)
            if not re.fullmatch(rb"[0-9a-f]{1,8}\r\n", size):
                return False
            if int(size, 16) == 0:
                while await asyncio.wait_for(reader.readuntil(b"\r\n"), 3) != b"\r\n":
                    pass
                break
            data = await asyncio.wait_for(reader.readexactly(int(size, 16) + 2), 3)
            if not data.endswith(b"\r\n"):
                return False
        return True

    async def blind_origin(self, reader, writer):
        """The far end of a tunnel."""
        try:
            while await asyncio.wait_for(reader.read(4096), 3):
                await send_in_pieces(self.rng, writer, damage(self.rng, self.rng.choice(RESPONSES)))
        except (OSError, asyncio.TimeoutError):
            pass
        give_up(self.rng, writer)

    async def sound_origin(self, reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    async def hostile_client(self, proxy_port, origin_port, tunnel_port, until):
        while time.monotonic() < until and self.process.poll() is None:
            message = self.rng.choice(REQUESTS)
            port = tunnel_port if message.startswith(b"CONNECT") else origin_port
            message = damage(self.rng, message.replace(b"%h", b"127.0.0.1:%d" % port))
            self.counts["damaged"] += 1
            self.recent.append(("client", message))
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
                await send_in_pieces(self.rng, writer, message)
                if self.rng.random() < 0.3 and writer.can_write_eof():
                    writer.write_eof()
                if self.rng.random() < 0.8:
                    first = await asyncio.wait_for(reader.read(65536), self.rng.choice((0.05, 0.5, 3)))
                    self.counts["replies"] += bool(first)
                    # the first octet says which protocol the client speaks
                    speaks = b"\x05" if message.startswith(b"\x05") else b"HTTP/1.1 "
                    if first and not speaks.startswith(first[:len(speaks)]):
                        self.bad_replies.append(message + b" -> " + first[:60])
                give_up(self.rng, writer)
            except (OSError, asyncio.TimeoutError):
                writer.close()

    async def sound_client(self, proxy_port, origin_port, until):
        request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % origin_port
        while time.monotonic() < until and self.process.poll() is None:
            self.counts["sound"] += 1
            answer = b""
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
                writer.write(request)
                answer = await asyncio.wait_for(reader.read(-1), 10)
                writer.close()
            except (OSError, asyncio.TimeoutError) as error:
                answer += repr(error).encode()
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"\r\n\r\n" + BODY):
                self.unserved.append(answer[:300])
            await asyncio.sleep(0.1)

    async def run(self, seconds, log):
        servers = [await asyncio.start_server(one, "127.0.0.1", 0)
                   for one in (self.sound_origin, self.hostile_origin, self.blind_origin)]
        sound_port, hostile_port, tunnel_port = (s.sockets[0].getsockname()[1] for s in servers)
        self.process, port = start(log, tunnel_port)
        until = time.monotonic() + seconds
        await asyncio.gather(self.sound_client(port, sound_port, until),
                             *(self.hostile_client(port, hostile_port, tunnel_port, until) for _ in range(CLIENTS)))
        for server in servers:
            server.close()


def start(log, tunnel_port):
    """CONNECT leads to one port only, so that what arrives at the others is never the content of a tunnel."""
    environment = dict(os.environ, ASAN_OPTIONS="handle_abort=1")
    with open(log + ".stderr", "wb") as stderr:
        process = subprocess.Popen([BINARY, "--listen", "127.0.0.1:0", "--allow-private", "--log", log, "--drain", "5",
                                    "--connect-ports", str(tunnel_port), "--name", NAME.decode()] + TIMEOUTS,
                                   env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    for _ in range(200):
        with open(log + ".stderr", encoding="utf-8", errors="replace") as f:
            banner = re.search(r"http://127\.0\.0\.1:(\d+)", f.read())
        if banner:
            return process, int(banner.group(1))
        time.sleep(0.05)
    process.kill()
    sys.exit("the proxy did not start")


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"seed {seed}, {seconds:g} s")
    results = Results("damage")
    log = os.path.join(ROOT, "build", "log", "damage-access.log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    hostile = Hostile(random.Random(seed))
    try:
        asyncio.run(hostile.run(seconds, log))
    finally:
        process = hostile.process
        alive = process.poll() is None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            status = "killed: did not end"
    print(hostile.counts)
    if not alive:
        for item in hostile.recent:
            print(*(part if isinstance(part, str) else repr(part[:1500]) for part in item))
    with open(log + ".stderr", encoding="utf-8", errors="replace") as f:
        said = f.read()
    results.check(alive, "the proxy survives damaged messages", "-", said[-3000:])
    results.check(status == 0, "it ends in order afterwards", "-", f"status {status}\n{said[-3000:]}")
    quiet = "Sanitizer" not in said and "runtime error" not in said
    results.check(quiet, "the sanitizers have nothing to say", "-", said[-3000:])
    results.check(not hostile.unserved, "sound requests are served meanwhile", "Z08", repr(hostile.unserved[:3]))
    results.check(not hostile.bad_replies, "what a client gets is HTTP/1.1, or SOCKS5 if it speaks that", "M15,M17", repr(hostile.bad_replies[:3]))
    results.check(not hostile.bad_requests, "nothing malformed reaches an origin", "B02,H06,M04,M07",
                  repr(hostile.bad_requests[:3]))
    enough = min(hostile.counts.values()) >= seconds and hostile.counts["damaged"] >= 5 * seconds
    results.check(enough, "enough of each was tried", "-", repr(hostile.counts))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
