# SPDX-License-Identifier: MIT
"""How near the rates of a policy's limits come to what is asked for, on loopback with real sockets: one client and fifty,
each for itself and all together, down and up, requests and tunnels.

    limits.py [SECONDS]      SECONDS each, 30 unless told; needs build/miniproxy

The clock of this program and that of the proxy are the same, and what is counted is what has arrived, so that a machine that
is busy shows as less than asked for, never as more.
"""
import os
import selectors
import socket
import sys
import tempfile
import threading
import time

import bench

SETTLE_S = 1.0  # the burst at the beginning, and what fills the buffers of sockets, is not counted
CHUNK = bytes(1 << 16)
CASES = [  # what, clients, octets a second that all of them together get, a line of the policy
    ("one client, down", 1, 1000000, "limit each client down 1 MB/s"),
    ("one client, a slow one", 1, 4000, "limit each client down 4 kB/s"),
    ("50 clients, each for itself, down", 50, 50 * 100000, "limit each client down 100 kB/s"),
    ("50 clients, all together, down", 50, 1000000, "limit all together down 1 MB/s"),
    ("50 clients, all together and each, down", 50, 1000000,
     "limit each client down 100 kB/s\nlimit all together down 1 MB/s"),
    ("50 clients in tunnels, each for itself, down", 50, 50 * 100000, "limit each client down 100 kB/s"),
    ("one client, up", 1, 1000000, "limit each client up 1 MB/s"),
    ("50 clients, all together, up", 50, 1000000, "limit all together up 1 MB/s"),
]


class Origin(threading.Thread):
    """Sends without end to whoever says a head, and reads what comes; counts that."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.received = 0
        self.start()

    def run(self):
        selector = selectors.DefaultSelector()
        self.listener.setblocking(False)
        selector.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, events in selector.select():
                if key.fileobj is self.listener:
                    sock, _ = self.listener.accept()
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ)
                    continue
                try:
                    if events & selectors.EVENT_READ:
                        data = key.fileobj.recv(1 << 16)
                        if not data:
                            raise ConnectionError
                        self.received += len(data)
                        if data.startswith(b"GET"):
                            key.fileobj.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
                            selector.modify(key.fileobj, selectors.EVENT_READ | selectors.EVENT_WRITE)
                    elif events & selectors.EVENT_WRITE:
                        key.fileobj.send(CHUNK)
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()


def client(number, proxy_port, origin_port, up, tunnel):
    """A connection that has asked, from an address of its own."""
    sock = socket.create_connection(("127.0.0.1", proxy_port), source_address=(f"127.0.1.{number + 1}", 0))
    target = f"127.0.0.1:{origin_port}"
    if tunnel:
        sock.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode())
    elif up:
        sock.sendall(f"POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: 99999999999\r\n\r\n".encode())
    else:
        sock.sendall(f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    sock.setblocking(False)
    return sock


def measure(origin, proxy_port, clients, up, tunnel, seconds):
    """Octets a second that arrive: of all, and of the slowest and the fastest client (downloads)."""
    selector, got = selectors.DefaultSelector(), {}
    for number in range(clients):
        sock = client(number, proxy_port, origin.port, up, tunnel)
        got[sock] = 0
        selector.register(sock, selectors.EVENT_WRITE if up else selectors.EVENT_READ)
    begun, before, settled = time.monotonic(), 0, 0.0
    while (now := time.monotonic()) - begun < seconds + SETTLE_S:
        if not settled and now - begun >= SETTLE_S:
            settled, before = now, origin.received
            got = dict.fromkeys(got, 0)
        for key, _ in selector.select(0.01):
            try:
                if up:
                    key.fileobj.send(CHUNK)
                else:
                    got[key.fileobj] += len(key.fileobj.recv(1 << 16))
            except BlockingIOError:
                pass
    took = time.monotonic() - settled
    total = origin.received - before if up else sum(got.values())
    for sock in got:
        sock.close()
    return total / took, min(got.values()) / took, max(got.values()) / took


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    origin = Origin()
    print(f"{'':46} {'asked for':>10} {'got':>10}  {'of it':>7}   slowest and fastest client")
    for what, clients, rate, limits in CASES:
        with tempfile.TemporaryDirectory() as directory:
            policy, port = os.path.join(directory, "p.policy"), bench.free_port()
            with open(policy, "w", encoding="ascii") as f:
                f.write(f"allow to 127.0.0.0/8 ports any\n{limits}\n")
            command = [os.path.join(bench.ROOT, "build", "miniproxy"), "--listen", f"127.0.0.1:{port}", "--policy", policy,
                       "--log", os.path.join(directory, "log")]
            with bench.Running(command, port):
                got, least, most = measure(origin, port, clients, " up" in limits, "tunnels" in what, seconds)
        spread = f"{least:10,.0f} {most:10,.0f}" if " down" in limits else ""
        print(f"{what:46} {rate:10,} {got:10,.0f}  {100 * got / rate:6.2f}%   {spread}", flush=True)


if __name__ == "__main__":
    main()
