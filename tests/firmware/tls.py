# SPDX-License-Identifier: MIT
"""The images with TLS: boots them and sends real traffic through both of their ports. Writes
build/results/firmware-tls.tsv.
"""
import contextlib
import hashlib
import os
import re
import select
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import boot
from board import HOST, PATIENCE, ROOT, Board
from boot import BLOB, MEGABYTE, OPERATOR, Client, Origin, Origins, once
import secure
import world

IMAGES = ("lm3s6965-raw-tls", "lm3s6965-sockets-tls", "mps2_an385-raw-tls", "mps2_an385-sockets-tls")
WEAK = ("lm3s6965-raw-weak", "mps2_an385-sockets-weak")
CLIENTS = ("mps2_an385-raw-tls",)  # of origins
TLS_PORT = 3129
OUT = os.path.join(ROOT, os.environ.get("FIRMWARE_OUT", "build/firmware"))
TRUST = os.path.join(OUT, "certificate.pem")
HANDSHAKE_S = 10  # MINIPROXY_TLS_HANDSHAKE_MS
AT_ONCE = 2.0     # seconds, on a busy machine


def connect(board, port=TLS_PORT):
    s = socket.create_connection(("127.0.0.1", board.ports.get(port, board.port)), PATIENCE)
    s.settimeout(PATIENCE)
    return s


class Secure(Client):
    """A connection to the proxy by TLS."""

    def __init__(self, board, port=TLS_PORT):  # pylint: disable=super-init-not-called
        self.sock = ssl.create_default_context(cafile=TRUST).wrap_socket(connect(board, port), server_hostname="127.0.0.1")
        self.file = self.sock.makefile("rb")

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


def is_free(board):
    """There may be one session alone: wait until the client before has given it back."""
    return board.wait_counters(lambda c: c["tls.active"] == 0)


def curl(board, *args):
    is_free(board)
    return subprocess.run(["curl", "-sS", "--proxy", f"https://127.0.0.1:{board.ports[TLS_PORT]}", "--proxy-user",
                           "operator:swordfish", "--proxy-cacert", TRUST, "--max-time", str(PATIENCE), *args],
                          capture_output=True, check=True).stdout


def s_client(board, *args):
    is_free(board)
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{board.ports[TLS_PORT]}", "-CAfile", TRUST,
                           *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout + done.stderr


def client_hello():
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="proxy.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


class SecureOrigins:
    """Origins that speak TLS: URLs by the kind of their certificate. The board trusts two authorities, whose keys are
    where it was built."""

    def __init__(self, directory):
        for name in ("authority_ec", "authority_rsa"):
            for suffix in (".pem", ".key"):
                shutil.copy(os.path.join(OUT, name + suffix), directory)
        ec, rsa, other = (secure.Authority(directory, name) for name in ("authority_ec", "authority_rsa", "other"))
        both = f"IP:{HOST},DNS:origin.test"
        rsa.issue("middle", san=None, authority=True)
        middle = secure.Authority(directory, "middle")
        self.ports = {
            name: self.serve(*authority.issue(name, **{"san": both, **how})) for name, authority, how in (
                ("ec", ec, {}),
                ("rsa", rsa, {"algorithm": "rsa"}),
                ("rsa-by-ec", ec, {"algorithm": "rsa"}),
                ("broken-chain", middle, {}),
                ("expired", ec, {"days": -1}),
                ("name", ec, {"san": "IP:10.0.2.3,DNS:elsewhere.test,DNS:" + HOST}),
                ("self", ec, {"trusted": False}),
                ("issuer", other, {}),
                ("client", rsa, {"purpose": "clientAuth"}))}
        certificate, key = middle.issue("ec-chain", san=both)
        with open(certificate, "a", encoding="ascii") as chain, open(middle.file, encoding="ascii") as file:
            chain.write(file.read())
        self.ports["ec-chain"] = self.serve(certificate, key)

    @staticmethod
    def serve(certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return boot.serve(context)

    def url(self, name, host=HOST):
        return f"https://{host}:{self.ports[name]}"


# ---- Tests

def test_get(board, o):
    """curl gets a page through the port that speaks TLS; the console tells of it | -"""
    assert curl(board, o.url + "/1000") == BLOB[:1000]
    board.line(r"^TLS \d+\.\d{3} 10\.0\.2\.2:\d+ done TLSv1\.2 TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256$")
    board.line(r"^\d+\.\d{3} 10\.0\.2\.2:\d+ operator GET http://.*/1000 200 - origin ")


def test_login(board, o):
    """who does not log in is refused there too | -"""
    is_free(board)
    with Secure(board) as c:
        c.get(o.url + "/10", auth="")
        assert c.response()[0] == 407


def test_keep_alive(board, o):
    """keeps connections alive on both sides | -"""
    is_free(board)
    connections = Origin.connections
    with Secure(board) as c:
        for size in (10, 2000, 0, 30000):
            c.get(f"{o.url}/{size}")
            assert c.response() == (200, BLOB[:size])
    assert Origin.connections == connections + 1


def test_suites(board, _):
    """TLS 1.2 with ephemeral keys and AEAD ciphers, and nothing else | -"""
    text = s_client(board)
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in text and "Verify return code: 0 (ok)" in text, text
    assert re.search(r"Protocol *: TLSv1\.2", text), text
    assert "Cipher is ECDHE-ECDSA-AES128-CCM" in s_client(board, "-cipher", "ECDHE-ECDSA-AES128-CCM")
    for refused in (["-tls1_3"], ["-cipher", "ECDHE-ECDSA-AES128-SHA256"], ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]):
        after = len(board.lines)
        text = s_client(board, *refused)
        assert "Cipher is (NONE)" in text and "alert" in text, text
        board.line(r"^TLS .* failed result=-20 ", after=after)


def test_tls_in_tls(board, o):
    """CONNECT: TLS to an origin within TLS to the proxy | -"""
    for size in (100, 300000):
        assert curl(board, "--insecure", f"https://{HOST}:{o.tls_port}/{size}") == BLOB[:size]
    board.line(r" operator CONNECT 10\.0\.2\.2:\d+ 200 ")


def test_bulk(board, o):
    """a megabyte down, and one up in records of 16 KB | -"""
    began = time.monotonic()
    assert curl(board, o.url + f"/{MEGABYTE}") == BLOB
    down = time.monotonic() - began
    with tempfile.NamedTemporaryFile() as file:
        file.write(BLOB)
        file.flush()
        began = time.monotonic()
        assert curl(board, "--data-binary", "@" + file.name, o.url + "/").decode() == hashlib.sha256(BLOB).hexdigest()
    print(f"{board.name}: 1 MB down in {down:.2f} s, up in {time.monotonic() - began:.2f} s")


def test_beside(board, o):
    """plain clients have their turn while a client by TLS waits, and the other way round | -"""
    is_free(board)
    Origin.held.clear()
    with Secure(board) as c, Client(board) as plain:
        c.get(o.url + "/hold")
        plain.get(o.url + "/hold")
        for _ in range(5):
            assert once(board, o.url + "/1000") == (200, BLOB[:1000])
        Origin.held.set()
        assert c.response() == (200, b"held")
        assert plain.response() == (200, b"held")
        c.get(o.url + "/20000")
        plain.get(o.url + "/20000")
        assert c.response() == (200, BLOB[:20000])
        assert plain.response() == (200, BLOB[:20000])


def test_full(board, o):
    """one client by TLS too many is turned away at once; plain ones are not, and those that are there go on | -"""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Secure(board)) for _ in range(is_free(board)["tls.sessions"])]
        for _ in range(3):
            after, began = len(board.lines), time.monotonic()
            try:
                Secure(board).close()
                raise AssertionError("one more session")
            except ssl.SSLError as e:
                assert "internal error" in str(e), e
            assert time.monotonic() - began < AT_ONCE
            board.line(r"^TLS .* full$", after=after)
            assert once(board, o.url + "/10") == (200, BLOB[:10])
        for c in clients:
            c.get(o.url + "/20000")
        for c in clients:
            assert c.response() == (200, BLOB[:20000])
    is_free(board)
    with Secure(board) as c:
        c.get(o.url + "/10")
        assert c.response() == (200, BLOB[:10])


def test_idle(board, o):
    """one that idles after its request gives way to a new one, the one that idles for longest | -"""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Secure(board)) for _ in range(is_free(board)["tls.sessions"])]
        for c in clients:
            c.get(o.url + "/10")
            assert c.response() == (200, BLOB[:10])
        evicted = board.counters()["evicted"]
        for _ in range(2):
            new = stack.enter_context(Secure(board))
            new.get(o.url + "/1000")
            assert new.response() == (200, BLOB[:1000])
            assert clients.pop(0).file.read() == b""
            clients.append(new)
        assert board.counters()["evicted"] == evicted + 2
        for c in clients:
            c.get(o.url + "/10")
            assert c.response() == (200, BLOB[:10])


def test_wrong_port(board, _):
    """TLS on the plain port and plain HTTP on the port of TLS are told so | -"""
    is_free(board)
    try:
        Secure(board, 3128).close()
        raise AssertionError("TLS on the plain port")
    except (ssl.SSLError, ConnectionError):
        pass
    board.line(r" 400 tls_on_plain_port proxy ")
    with connect(board) as s:
        s.sendall(f"GET http://{HOST}/ HTTP/1.1\r\nHost: {HOST}\r\n{OPERATOR}\r\n".encode())
        answer = s.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b"use https://" in answer, answer
    board.line(r" 400 plain_on_tls_port proxy ")
    board.line(r"^TLS .* plain$")


def test_silent(board, o):
    """a client that does not go on with its handshake keeps the session for ten seconds, and others from nothing | -"""
    is_free(board)
    after, began = len(board.lines), time.monotonic()
    with connect(board) as s:
        s.sendall(client_hello()[:50])
        while not select.select([s], [], [], 0.2)[0]:
            assert once(board, o.url + "/1000") == (200, BLOB[:1000])
            assert time.monotonic() - began < HANDSHAKE_S + PATIENCE
    board.line(r"^TLS .* failed result=-21 ", after=after)
    assert time.monotonic() - began > HANDSHAKE_S - 1


def abort(board, o, kind):
    """One of the ways in which a client may go."""
    if kind == 0:
        with Secure(board) as c:
            c.get(o.url + "/1000")
            assert c.response() == (200, BLOB[:1000])
        return
    if kind in (1, 2):  # after the handshake, before and in the middle of an answer
        c = Secure(board)
        if kind == 2:
            c.get(f"{o.url}/{MEGABYTE}")
            c.file.read(1000)
        return c.reset()
    with connect(board) as s:
        hello = client_hello()
        s.sendall({3: b"", 4: hello[:100], 5: hello, 6: hello, 7: b"\x16\3\1\0\5" + os.urandom(200)}[kind])
        if kind >= 6:
            assert s.recv(1) in ((b"\x16",) if kind == 6 else (b"\x15", b""))  # its hello; an alert, or no answer
        if kind % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


# ---- Origins that speak TLS, with devices that need not

def test_origins(board, o):
    """plain clients get https:// pages: elliptic and RSA certificates, by address and by name, sent and received | -"""
    for name in ("ec", "rsa", "rsa-by-ec", "ec-chain"):
        began = time.monotonic()
        assert once(board, o.secure.url(name) + "/1000") == (200, BLOB[:1000])
        print(f"{board.name}: https by {name}: {time.monotonic() - began:.3f} s")
        board.line(rf"^TLS \S+ 10\.0\.2\.2:{o.secure.ports[name]} done TLSv1\.2 TLS-ECDHE-{name[:2].upper()}")
        board.line(rf"^\S+ \S+ operator GET https://{HOST}:{o.secure.ports[name]}/1000 200 - origin ")
        with Client(board) as c:
            c.send(f"POST {o.secure.url(name)}/ HTTP/1.1\r\nHost: {HOST}\r\n{OPERATOR}Content-Length: 300000\r\n\r\n")
            c.send(BLOB[:300000])
            assert c.response() == (200, hashlib.sha256(BLOB[:300000]).hexdigest().encode())
    if o.names:
        assert once(board, o.secure.url("ec", "origin.test") + "/10") == (200, BLOB[:10])
        assert once(board, o.secure.url("ec", "origin.test.") + "/10") == (200, BLOB[:10])


def test_origin_kept(board, o):
    """one handshake for several requests | -"""
    before = Origin.connections
    with Client(board) as c:
        for size in (10, 0, 100000):
            c.get(f"{o.secure.url('ec')}/{size}")
            assert c.response() == (200, BLOB[:size])
    assert Origin.connections == before + 1


def test_certificates(board, o):
    """certificates that prove nothing are refused, each with its cause; dates are not looked at | -"""
    before = Origin.connections
    with Client(board) as c:
        for name, cause in (("name", "tls_wrong_name"), ("self", "tls_self_signed"), ("issuer", "tls_unknown_issuer"),
                            ("broken-chain", "tls_unknown_issuer"), ("client", "tls_bad_certificate")):
            c.get(o.secure.url(name) + "/1000")
            status, body = c.response()
            assert status == 502 and cause.encode() in body, (status, body)
            board.line(rf" operator GET https://{HOST}:{o.secure.ports[name]}/1000 502 {cause} proxy ")
        assert Origin.connections == before  # no octet of a request has gone there
        c.get(o.secure.url("expired") + "/1000")
        assert c.response() == (200, BLOB[:1000])
    if o.names:
        o.names.zone["other.test"] = [HOST]
        assert once(board, o.secure.url("ec", "other.test") + "/10")[0] == 502
        board.line(r" operator GET https://other\.test:\d+/10 502 tls_wrong_name proxy ")


def test_not_tls(board, o):
    """an origin that speaks plain HTTP, and one that says nothing | -"""
    status, body = once(board, f"https://{HOST}:{o.port}/10")
    assert status == 502 and b"tls_protocol" in body, (status, body)
    board.line(rf" operator GET https://{HOST}:{o.port}/10 502 tls_protocol proxy ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with Client(board) as c:
            c.get(f"https://{HOST}:{silent.getsockname()[1]}/")
            assert once(board, o.url + "/1000") == (200, BLOB[:1000])
            assert c.response()[0] == 504
        assert HANDSHAKE_S - 1 < time.monotonic() - began < HANDSHAKE_S + PATIENCE
    board.line(r" operator GET https://\S+ 504 (connect|tls)_timeout proxy ")


def test_both_sides(board, o):
    """TLS on both sides, several at once, a megabyte each way | -"""
    is_free(board)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Secure(board)) for _ in range(4)]
        for c, name in zip(clients, ("ec", "rsa", "ec", "rsa")):
            c.get(o.secure.url(name) + "/100000")
        for c in clients:
            assert c.response() == (200, BLOB[:100000])
    is_free(board)
    with Secure(board) as c:
        c.get(f"{o.secure.url('ec')}/{MEGABYTE}")
        assert c.response() == (200, BLOB)
        c.send(f"POST {o.secure.url('ec')}/ HTTP/1.1\r\nHost: {HOST}\r\n{OPERATOR}Content-Length: {MEGABYTE}\r\n\r\n")
        c.send(BLOB)
        assert c.response() == (200, hashlib.sha256(BLOB).hexdigest().encode())


def test_origins_full(board, o):
    """no session left for the origin: 503, and the client goes on | -"""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Secure(board)) for _ in range(is_free(board)["tls.sessions"])]
        clients[0].get(o.secure.url("ec") + "/10")
        status, body = clients[0].response()
        assert status == 503 and b"no_resources" in body, (status, body)
        clients.pop().close()
        board.wait_counters(lambda c: c["tls.active"] == len(clients))
        clients[0].get(o.secure.url("ec") + "/10")
        assert clients[0].response() == (200, BLOB[:10])


def test_no_authorities(board, o):
    """an image that trusts nobody says so to who asks for https:// | -"""
    status, body = once(board, f"https://{HOST}:{o.tls_port}/10")
    assert status == 500 and b"tls_not_configured" in body, (status, body)


def test_row(board, o):
    """fifty clients one after the other, most of whom vanish in the middle, leave nothing behind | -"""
    before = is_free(board)
    for i in range(50):
        abort(board, o, i % 8)
        after = is_free(board)
    assert after["tls.common_peak"] == before["tls.common_peak"], after
    assert after["tls.peak"] == before["tls.peak"], (before, after)
    with Secure(board) as c:
        c.get(o.url + "/1000")
        assert c.response() == (200, BLOB[:1000])


def test_figures(board, _):
    """a handshake takes no longer than the arena, the stack and the others allow | -"""
    times = []
    for _ in range(9):
        is_free(board)
        began = time.monotonic()
        with Secure(board):
            times.append(time.monotonic() - began)
    done = is_free(board)
    print(f"{board.name}: handshake {statistics.median(times):.3f} s, longest turn {done['tls.longest_ms']} ms, arena "
          f"{done['tls.peak']} of {done['tls.of']}, common {done['tls.common_peak']} of {done['tls.common_of']}")
    assert done["tls.peak"] <= done["tls.of"] - 512, done  # clients may send longer hellos than these
    assert done["tls.longest_ms"] < 2000, done  # the watchdog waits 8 s


BEGIN = (boot.test_starts, test_get, test_login, test_keep_alive, test_suites, test_tls_in_tls, test_bulk, test_beside,
         test_full, test_idle, test_wrong_port, test_silent)
CLIENT = (test_origins, test_origin_kept, test_certificates, test_not_tls, test_both_sides, test_origins_full)
END = (test_row, test_figures, boot.test_leaves_nothing)


def check_weak(name):
    with Board(name, semihosting=True) as board:
        board.line("^PANIC random$")
        assert board.wait() == 99, board.process.returncode


def main():
    world.enter()
    images = sys.argv[1:] or IMAGES + WEAK
    results = boot.Results(images, "firmware-tls")
    with tempfile.TemporaryDirectory() as directory:
        origins = Origins(directory)
        origins.secure = SecureOrigins(directory)
        for name in images:
            if name not in WEAK:
                tests = BEGIN + (CLIENT if name in CLIENTS else (test_no_authorities,)) + END
                boot.run_image(results, name, origins, tests, semihosting=True, more_ports=(TLS_PORT,))
    for name in WEAK:
        if name in images:
            results.run(f"{name}: does not start without random numbers that deserve the name | -",
                        lambda name=name: check_weak(name))
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()
