# SPDX-License-Identifier: MIT
"""What TLS costs a Cortex-M3: instructions of a handshake, with a client and with an origin, the longest turn of the loop,
and instructions for each octet through the port that speaks TLS and the one that does not.

    firmware_tls.py IMAGE...

The images are those of the product and tests/bench/firmware/tls.c. The emulator counts time by instructions (-icount), so
that nothing depends on what else this machine does; what is random in TLS makes a handshake a little longer or shorter.
"""
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
for place in ("e2e", "firmware"):
    sys.path.insert(0, os.path.join(ROOT, "tests", place))

import firmware  # noqa: E402
import tls  # noqa: E402
import world  # noqa: E402
from board import Board  # noqa: E402
from firmware import AUTH, HOST, head, send, take  # noqa: E402

PLAIN_PORT, TLS_PORT = 3128, 3129
HANDSHAKES = 9
OCTETS = 2_000_000
PSK = b"0123456789abcdef".hex()  # of tests/bench/firmware/tls.c


def look(board):
    """The counters when nothing goes on, in instructions. `turn` and `step` are since the last look."""
    most = {"turn": 0, "step": 0}

    def is_quiet(counters):
        for name in ("busy", "turn", "step", "handshake"):
            counters[name] = counters["tls." + name] * counters["tls.instructions"] / counters["tls.loop"]
        for name in most:
            most[name] = max(most[name], counters[name])
        return counters["active"] == 0

    return {**board.wait_counters(is_quiet), **most}


def connect(board, port):
    sock = socket.create_connection(("127.0.0.1", board.ports[port]), timeout=120)
    if port == PLAIN_PORT:
        return sock
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock)


def full(board):
    connect(board, TLS_PORT).close()


def psk(board):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{board.ports[TLS_PORT]}", "-tls1_2", "-psk", PSK,
                           "-psk_identity", "bench", "-cipher", "PSK-AES128-GCM-SHA256"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    assert re.search(r"Cipher *(?:is|:) PSK-AES128-GCM-SHA256", done.stdout), done.stdout + done.stderr


def get(origins, kind):
    """A plain client's request for https://, with an origin that has a certificate of that kind."""
    def run_one(board):
        assert tls.once(board, origins.url(kind) + "/0") == (200, b"")
    return run_one


def download(board, port, source):
    with connect(board, port) as sock:
        sock.sendall(f"GET http://{HOST}:{source.port}/ HTTP/1.1\r\nHost: {HOST}\r\n{AUTH}\r\n".encode())
        head(sock)
        take(sock, OCTETS)


def upload(board, port, source):
    with connect(board, port) as sock:
        sock.sendall(f"PUT http://{HOST}:{source.port}/ HTTP/1.1\r\nHost: {HOST}\r\n{AUTH}"
                     f"Content-Length: {OCTETS}\r\n\r\n".encode())
        send(sock)
        head(sock)


def measure(name, source, origins):
    handshakes = [(full, "handshake, TLS 1.2, ECDHE-ECDSA on P-256"), (psk, "handshake, TLS 1.2, PSK")]
    if name.removesuffix("bench") in tls.CLIENTS:
        handshakes += [(get(origins, "ec"), "with an origin, ECDHE-ECDSA on P-256"),
                       (get(origins, "rsa"), "with an origin, ECDHE-RSA, 2048 bits")]
    with Board(name, more_ports=(PLAIN_PORT, TLS_PORT), semihosting=True, more=("-icount", "shift=0")) as board:
        board.ready()
        print(f"\n{name}, instructions")
        for handshake, label in handshakes:
            took, steps, turns = [], [], []
            for _ in range(HANDSHAKES):
                look(board)
                handshake(board)
                found = look(board)
                took.append(found["handshake"])
                steps.append(found["step"])
                turns.append(found["turn"])
            print(f"{label:44}{statistics.median(took):14,.0f}  ({min(took):,.0f} to {max(took):,.0f}); longest step "
                  f"{max(steps):,.0f}, longest turn of the loop {max(turns):,.0f}")
        for case, label in ((download, "down"), (upload, "up")):
            each = {}
            for port in (PLAIN_PORT, TLS_PORT):
                before = look(board)
                case(board, port, source)
                after = look(board)
                each[port] = (after["busy"] - before["busy"] - (after["handshake"] if port == TLS_PORT else 0)) / OCTETS
            print(f"{'for an octet ' + label + ': plain, TLS, plain / TLS':44}{each[PLAIN_PORT]:8.1f} {each[TLS_PORT]:8.1f} "
                  f"{each[PLAIN_PORT] / each[TLS_PORT]:8.2f}")


def main():
    world.enter()
    firmware.OCTETS = OCTETS
    source = firmware.Source()
    with tempfile.TemporaryDirectory() as directory:
        origins = tls.SecureOrigins(directory)
        for name in sys.argv[1:]:
            measure(name, source, origins)


if __name__ == "__main__":
    main()
