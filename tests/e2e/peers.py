# SPDX-License-Identifier: MIT
"""Peers made of raw sockets: a client that sends exact bytes and an origin that follows a script.

Both read strictly. What is not well-formed HTTP/1.1 raises Malformed, what ends too early raises Cut, what does not
come raises Late; all of them fail the test.
"""
import itertools
import os
import re
import socket
import struct
import threading
import time

import world

PATIENCE = float(os.environ.get("MINIPROXY_PATIENCE",
                                "20"))  # seconds within which a thing that must happen has to happen
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"


class Malformed(AssertionError):
    pass


class Late(AssertionError):
    pass


class Cut(AssertionError):
    """The stream ended inside a message; `got` is what came."""

    def __init__(self, text, got):
        super().__init__(f"{text}; got {got[-200:]!r}")
        self.got = got


class Wire:
    """One end of a connection, read through a buffer."""
    ends_by_notify = False  # it is TLS, and the other side is held to end it as it must

    def __init__(self, sock):
        self.sock = sock
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.received = bytearray()
        self.ended = None  # "eof" or "reset"

    def send(self, data):
        """However long it takes, as long as it goes on."""
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(PATIENCE)  # another thread may read, with a time-out of its own
            rest = rest[self.sock.send(rest):]

    def drip(self, data, step=1, pause=0.0):
        for at in range(0, len(data), step):
            self.send(data[at:at + step])
            time.sleep(pause)

    def _more(self, deadline):
        """Read once. False at the end of the stream."""
        if self.ended:
            return False
        self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.sock.recv(262144)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            return False
        except socket.timeout:
            raise Late(f"nothing more came; the buffer holds {bytes(self.buffer[-200:])!r}") from None
        if not data:
            assert not self.ends_by_notify or not self.sock.ragged, "the end came without close_notify"
            self.ended = "eof"
            return False
        self.buffer += data
        self.received += data
        return True

    def take(self, count=None):
        """Octets that have come already, all of them or the first `count`."""
        data = bytes(self.buffer[:count])
        del self.buffer[:len(data)]
        return data

    def until(self, mark, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while mark not in self.buffer:
            if not self._more(deadline):
                raise Cut(f"stream ended ({self.ended}) before {mark!r}", bytes(self.buffer))
        return self.take(self.buffer.index(mark) + len(mark))

    def exactly(self, count, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while len(self.buffer) < count:
            if not self._more(deadline):
                raise Cut(f"stream ended ({self.ended}) {count - len(self.buffer)} octets early", bytes(self.buffer))
        return self.take(count)

    def some(self, patience=PATIENCE):
        """What comes next, b"" at the end of the stream."""
        if not self.buffer:
            self._more(time.monotonic() + patience)
        return self.take()

    def rest(self, patience=PATIENCE):
        """Everything up to the end of the stream, which must come."""
        deadline = time.monotonic() + patience
        while self._more(deadline):
            pass
        return self.take()

    def quiet(self, seconds):
        """Nothing arrives, not even an end, for so long."""
        assert not self.buffer, f"unexpected {bytes(self.buffer[:200])!r}"
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(4096)
        except (socket.timeout, BlockingIOError):
            return
        self.buffer += data
        self.received += data
        raise AssertionError(f"unexpected {data[:200]!r}")

    def finish(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.sock.close()


class Message:
    """A request or a response as it was received."""

    def __init__(self, start, fields):
        self.start, self.fields = start, fields
        self.body, self.trailers, self.chunks = b"", [], []
        self.framing = None  # "none", "length", "chunked", "close"
        self.complete = False

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower().encode()]

    def get(self, name):
        """The value of a field that must not be repeated, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def list(self, name):
        """Elements of a list field, lower case."""
        return [item.strip().lower() for value in self.all(name) for item in value.split(b",") if item.strip()]

    def __contains__(self, name):
        return bool(self.all(name))


def parse_fields(lines):
    fields = []
    for line in lines:
        match = re.fullmatch(rb"(" + TOKEN + rb"):[ \t]*(.*?)[ \t]*", line, re.DOTALL)
        if not match or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line):
            raise Malformed(f"field line {line!r}")
        fields.append((match[1], match[2]))
    return fields


def parse_head(raw):
    assert raw.endswith(b"\r\n\r\n")
    lines = raw[:-4].split(b"\r\n")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise Malformed(f"line ends in head {raw!r}")
    return Message(lines[0], parse_fields(lines[1:]))


def framing_of(message):
    """("chunked", 0), ("length", n) or (None, 0), strictly."""
    lengths, codings = message.all("Content-Length"), message.all("Transfer-Encoding")
    if lengths and codings:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if codings:
        if codings != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding {codings}")
        return "chunked", 0
    if lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"\d+", lengths[0]):
            raise Malformed(f"Content-Length {lengths}")
        return "length", int(lengths[0])
    return None, 0


def read_chunked(wire, message, patience=PATIENCE):
    try:
        while True:
            line = wire.until(b"\r\n", patience)
            match = re.fullmatch(rb"([0-9A-Fa-f]+)(;[^\r\n]*)?\r\n", line)
            if not match:
                raise Malformed(f"chunk line {line!r}")
            size = int(match[1], 16)
            if size == 0:
                break
            data = wire.exactly(size, patience)
            message.chunks.append(data)
            end = wire.exactly(2, patience)
            if end != b"\r\n":
                raise Malformed(f"chunk ends in {end!r}")
        lines = []
        while (line := wire.until(b"\r\n", patience)) != b"\r\n":
            lines.append(line[:-2])
        message.trailers = parse_fields(lines)
        message.complete = True
    finally:
        message.body = b"".join(message.chunks)


def read_response(wire, method="GET", patience=PATIENCE, whole=True):
    """One response. whole=False: it may be cut, then complete is False and body is what came."""
    message = parse_head(wire.until(b"\r\n\r\n", patience))
    match = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)", message.start)
    if not match:
        raise Malformed(f"status line {message.start!r}")
    message.status, message.reason = int(match[1]), match[2]
    bodyless = message.status < 200 or message.status in (204, 304) or method == "HEAD"
    if method == "CONNECT" and message.status // 100 == 2:
        bodyless = True
    kind, length = framing_of(message)
    message.framing = "none" if bodyless else kind or "close"
    if bodyless:
        message.complete = True
        return message
    try:
        if kind == "chunked":
            read_chunked(wire, message, patience)
        elif kind == "length":
            message.body = wire.exactly(length, patience)
        else:
            message.body = wire.rest(patience)
            if wire.ended != "eof":
                raise Cut("reset inside a body that ends with the connection", message.body)
        message.complete = True
    except Cut as cut:
        if whole:
            raise
        message.body = message.body or cut.got
    return message


def read_request(wire, patience=PATIENCE, body=True):
    """One request, with body: of exactly the length that its head says."""
    message = parse_head(wire.until(b"\r\n\r\n", patience))
    match = re.fullmatch(rb"(" + TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.1", message.start)
    if not match:
        raise Malformed(f"request line {message.start!r}")
    message.method, message.target = match[1].decode(), match[2]
    kind, length = framing_of(message)
    message.framing = kind or "none"
    if body and kind == "chunked":
        read_chunked(wire, message, patience)
    elif body and kind == "length":
        message.body = wire.exactly(length, patience)
    return message


def request(method, url, *fields, body=None, version="1.1", host=None):
    """A request for the proxy. Host is derived from the URL unless `host` says otherwise (False: none)."""
    lines = [f"{method} {url} HTTP/{version}".encode("latin-1")]
    if host is None:
        host = re.sub(r"^[a-z]+://", "", url, flags=re.I).split("/")[0].split("?")[0]
    if host is not False:
        lines.append(b"Host: " + host.encode("latin-1"))
    lines += [f.encode("latin-1") if isinstance(f, str) else f for f in fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(*chunks, trailers=b"", extension=b""):
    return b"".join(b"%x%s\r\n%s\r\n" % (len(c), extension, c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"


def response(body=b"ok", *fields, status=200, reason="OK", version="1.1"):
    lines = [f"HTTP/{version} {status} {reason}".encode("latin-1"), b"Content-Length: %d" % len(body)]
    lines += [f.encode("latin-1") if isinstance(f, str) else f for f in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Client(Wire):
    """A client of the proxy. Each has a loopback address of its own, by which its log events are found."""
    numbers = itertools.count(1)

    def __init__(self, proxy, source=None, receive_buffer=None, patience=PATIENCE, port=None):
        if source is None and proxy.host == "127.0.0.1":
            n = next(Client.numbers) + (os.getpid() % 200) * 256
            source = f"127.{1 + (n >> 16) % 200}.{(n >> 8) & 255}.{n & 255}"
        self.source = source
        sock = socket.socket(socket.AF_INET6 if ":" in proxy.host else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            sock.bind((source, 0))
        sock.settimeout(patience)
        sock.connect((proxy.at[0], port or proxy.at[1]))
        super().__init__(sock)
        self.address = proxy.seen(sock.getsockname())
        self.proxy = proxy
        if port is None:
            sock.settimeout(patience)
            self.sock = proxy.wrap(sock)
            self.ends_by_notify = proxy.over_tls

    def response(self, method="GET", patience=PATIENCE, whole=True):
        return read_response(self, method, patience, whole)

    def ask(self, method, url, *fields, **kind):
        self.send(request(method, url, *fields, **kind))
        return self.response(method)

    def closed(self):
        """The proxy closes without another byte."""
        left = self.rest()
        assert left == b"", f"unexpected {left[:200]!r}"
        return self.ended


class Peer(Wire):
    """The origin's end of one connection."""

    def __init__(self, sock, origin, index):
        super().__init__(sock)
        self.origin, self.index, self.done = origin, index, False

    def request(self, body=True, patience=PATIENCE):
        message = read_request(self, patience, body)
        message.connection = self.index
        self.origin.requests.append(message)
        return message


def answer(*responses, then_close=False):
    """A script: each connection gets the responses in turn, the last one again and again."""
    def script(peer):
        for at in itertools.count():
            peer.request()
            peer.send(responses[min(at, len(responses) - 1)])
            if then_close and at + 1 == len(responses):
                return
    return script


class Origin:
    """A server whose connections each run `script(peer)` in a thread. `requests` is what came, in order. Leaving the
    context raises what a script raised; a peer that goes away or stays silent between requests is no error."""

    def __init__(self, script=None, host="127.0.0.1", port=0, receive_buffer=None):
        self.script = script or answer(response())
        self.peers, self.requests, self.errors, self.threads = [], [], [], []
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1) if ":" in host else None
        self.sock.bind((world.server_address(host), port))
        self.sock.listen(512)
        self.host, self.port = host, self.sock.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"http://{self.authority}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            peer = Peer(sock, self, len(self.peers))
            self.peers.append(peer)
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, peer):
        try:
            self.script(peer)
        except (Cut, Late) as late:
            if peer.buffer and peer.ended != "reset":
                self.errors.append(late)
        except (ConnectionError, ValueError):
            pass  # the proxy went away while we wrote
        except OSError as error:
            if peer.sock.fileno() >= 0:
                self.errors.append(error)
        except BaseException as error:  # for the test's thread
            self.errors.append(error)
        finally:
            peer.done = True
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            peer.close()

    def wait(self, what, patience=PATIENCE):
        """Wait until what(self) is true."""
        deadline = time.monotonic() + patience
        while not what(self):
            if self.errors:
                raise self.errors[0]
            if time.monotonic() > deadline:
                raise Late(f"origin has seen {len(self.peers)} connections, {len(self.requests)} requests")
            time.sleep(0.005)

    def __enter__(self):
        return self

    def stop(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.thread.join(1)
        for peer in self.peers:
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(2)

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None and self.errors:
            raise self.errors[0]


class Silent:
    """An address whose connections never get established: its queue is full."""

    def __init__(self, host="127.0.0.1", port=0):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1) if ":" in host else None
        self.sock.bind((world.server_address(host), port))
        self.sock.listen(0)
        self.host, self.port = host, self.sock.getsockname()[1]
        self.fill = []
        for _ in range(3):
            sock = socket.socket(self.sock.family)
            sock.setblocking(False)
            sock.connect_ex(self.sock.getsockname())
            self.fill.append(sock)
        time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in self.fill:
            sock.close()
        self.sock.close()


def unused_port(host="127.0.0.1"):
    """A port on which nothing listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]
