# SPDX-License-Identifier: MIT
"""What TLS between client and proxy costs: instructions of a handshake, counted by callgrind; and processor time, side by
side in one run: miniproxy without TLS, miniproxy with TLS, and stunnel in front of a miniproxy without TLS (the sum of
both), and memory of connections that idle. On loopback; the certificate is an elliptic one.

    tls.py          needs build/miniproxy, build/tls/miniproxy, valgrind and stunnel4
"""
import glob
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading

import bench

HANDSHAKES = 10
IDLE = 200
CONNECTIONS = 400
OCTETS = 256 << 20
CHUNK = bytes(1 << 16)


class Origin(threading.Thread):
    """Says hello to every GET, and sends OCTETS for /big."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    @staticmethod
    def serve(sock):
        with sock:
            head = b""
            while b"\r\n\r\n" not in head:
                head += (more := sock.recv(4096))
                if not more:
                    return
            size = OCTETS if b" /big" in head else 5
            try:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size)
                for _ in range(size // len(CHUNK)):
                    sock.sendall(CHUNK)
                sock.sendall(bytes(size % len(CHUNK)))
            except OSError:
                pass


def certificate(directory):
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


def fetch(port, context, url):
    """One connection, one GET. Octets that came."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        sock = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % url.encode())
        got = 0
        while more := sock.recv(1 << 16):
            got += len(more)
        return got


def work(kind, context, port, origin):
    """What is measured. Units of it that were done."""
    if kind == "bulk":
        if fetch(port, context, f"http://127.0.0.1:{origin.port}/big") < OCTETS:
            sys.exit("a body was cut")
        return OCTETS / 1e9
    for _ in range(CONNECTIONS):
        if fetch(port, context, f"http://127.0.0.1:{origin.port}/") < 5:
            sys.exit("no answer")
    return CONNECTIONS / 1000


def contexts(cert):
    for name, version in (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", ssl.TLSVersion.TLSv1_3)):
        context = ssl.create_default_context(cafile=cert)
        context.minimum_version = context.maximum_version = version
        yield name, context


def secure_proxy(directory, tls, cert, key):
    return [os.path.join(bench.ROOT, "build", "tls", "miniproxy"), *bench.miniproxy(directory, bench.free_port())[1:],
            "--tls-listen", f"127.0.0.1:{tls}", "--tls-cert", cert, "--tls-key", key]


def shake(port, context, session=None):
    """One connection that ends after its first answer, behind which TLS 1.3 has sent its ticket. The session."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        sock = context.wrap_socket(plain, server_hostname="localhost", session=session)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while sock.recv(1 << 16):
            pass
        if session and not sock.session_reused:
            sys.exit("a session was not resumed")
        return sock.session


def instructions(directory, cert, key, context, full, resumed):
    """Of the proxy, in so many handshakes."""
    port, out = bench.free_port(), os.path.join(directory, "callgrind")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}.%p",
               "--toggle-collect=mbedtls_ssl_handshake_step", *secure_proxy(directory, port, cert, key)]
    with bench.Running(command, port):
        for _ in range(full):
            session = shake(port, context)
        for _ in range(resumed):
            session = shake(port, context, session)
    counted = 0
    for path in glob.glob(out + ".*"):
        with open(path, encoding="utf-8") as f:
            counted += sum(int(n) for n in re.findall(r"^(?:totals|summary): (\d+)$", f.read(), re.M)[:1])
        os.remove(path)
    return counted


def print_instructions(directory, cert, key):
    if shutil.which("valgrind") is None:
        print("instructions of a handshake: valgrind is not installed")
        return
    print(f"{'instructions of a handshake, mean of ' + str(HANDSHAKES):40}{'full':>12}{'resumed':>12}")
    for version, context in contexts(cert):
        one = instructions(directory, cert, key, context, 1, 0)
        full = (instructions(directory, cert, key, context, 1 + HANDSHAKES, 0) - one) / HANDSHAKES
        resumed = (instructions(directory, cert, key, context, 1, HANDSHAKES) - one) / HANDSHAKES
        print(f"{version:40}{full:12,.0f}{resumed:12,.0f}", flush=True)


class Setup:
    """The three, running: .ports and .pids by name."""

    def __init__(self, directory, cert, key):
        plain, tls, front = (bench.free_port() for _ in range(3))
        self.ports = {"plain": plain, "TLS": tls, "stunnel": front}
        command = bench.miniproxy(directory, plain)
        with_tls = secure_proxy(directory, tls, cert, key)
        path = os.path.join(directory, "stunnel.conf")
        with open(path, "w", encoding="ascii") as f:
            f.write(f"foreground = yes\npid =\ndebug = 3\n[proxy]\naccept = 127.0.0.1:{front}\nconnect = 127.0.0.1:{plain}\n"
                    f"cert = {cert}\nkey = {key}\n")
        self.running = [bench.Running(command, plain), bench.Running(with_tls, tls)]
        if shutil.which("stunnel"):
            self.running.append(bench.Running(["stunnel", path], front))
        else:
            del self.ports["stunnel"]

    def __enter__(self):
        pids = [one.__enter__() for one in self.running]
        self.pids = {"plain": pids[:1], "TLS": pids[1:2], "stunnel": pids[:1] + pids[2:]}
        return self

    def __exit__(self, *_):
        for one in reversed(self.running):
            one.__exit__()


def cpu_s(pids):
    return sum(bench.cpu_s(pid) for pid in pids)


def print_memory(setup, context, origin):
    """Of connections that idle after a request."""
    print(f"{'KiB a connection, of ' + str(IDLE):40}", end="")
    for name, port in setup.ports.items():
        before, open_ones = sum(map(bench.private_kib, setup.pids[name])), []
        for _ in range(IDLE):
            sock = socket.create_connection(("127.0.0.1", port), timeout=60)
            open_ones.append(sock if name == "plain" else context.wrap_socket(sock, server_hostname="localhost"))
            open_ones[-1].sendall(b"HEAD http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % origin.port)
            if not open_ones[-1].recv(1 << 16):
                sys.exit("no answer")
        print(f"{(sum(map(bench.private_kib, setup.pids[name])) - before) / IDLE:10.1f}", end="", flush=True)
        for sock in open_ones:
            sock.close()
    print()


def main():
    origin = Origin()
    with tempfile.TemporaryDirectory() as directory:
        cert, key = certificate(directory)
        print_instructions(directory, cert, key)
        with Setup(directory, cert, key) as setup:
            names = list(setup.ports)
            print(f"processor seconds, median of {bench.ROUNDS}")
            print(f"{'':40}" + "".join(f"{name:>10}" for name in names))
            print_memory(setup, next(contexts(cert))[1], origin)
            for kind, label in (("new", "1k connections with one GET"), ("bulk", "GB to a client")):
                for version, context in contexts(cert):
                    used = {name: [] for name in names}
                    for _ in range(bench.ROUNDS):
                        for name in names:
                            before = cpu_s(setup.pids[name])
                            units = work(kind, None if name == "plain" else context, setup.ports[name], origin)
                            used[name].append((cpu_s(setup.pids[name]) - before) / units)
                    print(f"{label + ', ' + version:40}" + "".join(f"{statistics.median(used[n]):10.3f}" for n in names),
                          flush=True)


if __name__ == "__main__":
    main()
