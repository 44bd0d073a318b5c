# SPDX-License-Identifier: MIT
"""Throughput of the proxy in firmware, side by side with what lwIP does on the same image without it.

    firmware.py IMAGE...

One image has all of it: the proxy, a bare echo and a bare relay (tests/bench/firmware/bare.c). In each, every octet
crosses the network chip twice. The cases take turns, in several rounds; what counts are the ratios within a round, of
which the median and the range are printed: of the time, and of the emulator's processor time, which depends less on what
else the machine does. Absolute figures mean little.
"""
import os
import socket
import statistics
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
for place in ("e2e", "firmware"):
    sys.path.insert(0, os.path.join(ROOT, "tests", place))

import world  # noqa: E402
from board import Board  # noqa: E402

ROUNDS, OCTETS = 7, 12_000_000
CHUNK = bytes(range(256)) * 256
AUTH = "Proxy-Authorization: Basic b3BlcmF0b3I6c3dvcmRmaXNo\r\n"
HOST = "10.0.2.2"


class Source(threading.Thread):
    """A server on loopback. "GET" is answered with a body of OCTETS, "PUT" after its body; any other first octet means:
    send as many raw ones."""

    def __init__(self):
        super().__init__(daemon=True)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.start()

    def run(self):
        while True:
            threading.Thread(target=self.serve, args=(self.sock.accept()[0],), daemon=True).start()

    @staticmethod
    def serve(sock):
        with sock:
            data = sock.recv(65536)
            if data[:1] in (b"G", b"P"):
                while b"\r\n\r\n" not in data:
                    data += sock.recv(65536)
            if data[:1] == b"P":
                left = OCTETS - (len(data) - data.index(b"\r\n\r\n") - 4)
                while left > 0 and (part := sock.recv(min(left, 262144))):
                    left -= len(part)
                sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                return
            if data[:1] == b"G":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OCTETS)
            send(sock)


def send(sock):
    left = OCTETS
    while left > 0:
        part = min(left, len(CHUNK))
        sock.sendall(CHUNK[:part])
        left -= part


def take(sock, count):
    """Receive count octets of the pattern, and check them."""
    at = 0
    while at < count:
        part = sock.recv(min(262144, count - at))
        assert part, f"ended after {at} of {count} octets"
        offset = at % 65536
        assert part[:64] == (CHUNK + CHUNK)[offset:offset + 64][:len(part)], f"wrong octets at {at}"
        at += len(part)


def head(sock):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += sock.recv(1)
    assert data.startswith(b"HTTP/1.1 2"), data
    return data


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def echo(board, source):
    with connect(board.ports[7]) as sock:
        threading.Thread(target=send, args=(sock,), daemon=True).start()
        take(sock, OCTETS)


def relay(board, source):
    with connect(board.ports[8]) as sock:
        sock.sendall(struct.pack(">H", source.port) + b"x")
        take(sock, OCTETS)


def tunnel(board, source):
    with connect(board.port) as sock:
        sock.sendall(f"CONNECT {HOST}:{source.port} HTTP/1.1\r\nHost: {HOST}\r\n{AUTH}\r\n".encode())
        head(sock)
        sock.sendall(b"x")
        take(sock, OCTETS)


def download(board, source):
    with connect(board.port) as sock:
        sock.sendall(f"GET http://{HOST}:{source.port}/ HTTP/1.1\r\nHost: {HOST}\r\n{AUTH}\r\n".encode())
        head(sock)
        take(sock, OCTETS)


def upload(board, source):
    with connect(board.port) as sock:
        sock.sendall(f"PUT http://{HOST}:{source.port}/ HTTP/1.1\r\nHost: {HOST}\r\n{AUTH}"
                     f"Content-Length: {OCTETS}\r\n\r\n".encode())
        send(sock)
        head(sock)


CASES = (echo, relay, tunnel, download, upload)


def processor_s(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name, source):
    took, spent = {case: [] for case in CASES}, {case: [] for case in CASES}
    with Board(name, more_ports=(7, 8)) as board:
        board.ready()
        for number in range(ROUNDS):
            for case in CASES if number % 2 == 0 else reversed(CASES):
                start, start_cpu = time.monotonic(), processor_s(board.process)
                case(board, source)
                took[case].append(time.monotonic() - start)
                spent[case].append(processor_s(board.process) - start_cpu)
    print(f"\n{name}: {ROUNDS} rounds of {OCTETS / 1e6:.0f} MB each")
    print(f"{'':10} {'MB/s':>5}   time: echo / it       relay / it            processor: echo / it  relay / it")
    for case in CASES:
        line = f"{case.__name__:10} {OCTETS / 1e6 / statistics.median(took[case]):5.1f}"
        for measured in (took, spent):
            for base in (echo, relay):
                ratios = [b / c for b, c in zip(measured[base], measured[case])]
                line += f"   {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line)


def main():
    world.enter()
    source = Source()
    for name in sys.argv[1:]:
        measure(name, source)


if __name__ == "__main__":
    main()
