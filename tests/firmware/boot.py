# SPDX-License-Identifier: MIT
"""Boots every firmware image and sends real traffic through it. Writes build/results/firmware-boot.tsv.

    boot.py [IMAGE...]
"""
import base64
import hashlib
import http.server
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
sys.path.insert(0, HERE)

import memory  # noqa: E402
import world  # noqa: E402
from board import HOST, PATIENCE, Board, Late, free_port, image_path, ROOT  # noqa: E402

IMAGES = ("lm3s6965-raw", "lm3s6965-sockets", "mps2_an385-raw", "mps2_an385-sockets", "lm3s6965-raw-4",
          "lm3s6965-raw-8", "lm3s6965-raw-16")
FAULTY = ("mps2_an385-raw-test", "lm3s6965-raw-test")
OPERATOR = "Proxy-Authorization: Basic " + base64.b64encode(b"operator:swordfish").decode() + "\r\n"
DISPLAY = "Proxy-Authorization: Basic " + base64.b64encode(b"display:view").decode() + "\r\n"
MEGABYTE = 1 << 20
STACK_LEFT = 4  # at least one part in so many of every stack stays unused
BLOB = os.urandom(MEGABYTE)


# ---- The other side

class Origin(http.server.BaseHTTPRequestHandler):
    """GET /SIZE: that many octets of BLOB, over and over. GET /hold: nothing until the test says so. POST: the digest
    of what came."""
    protocol_version = "HTTP/1.1"
    connections = 0
    held = threading.Event()

    def setup(self):
        super().setup()
        Origin.connections += 1

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/hold":
            Origin.held.wait(60)
            return self.answer(b"held")
        size = int(self.path[1:].split("?")[0])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for at in range(0, size, MEGABYTE):
            self.wfile.write(BLOB[:min(size - at, MEGABYTE)])

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left > 0:
            data = self.rfile.read(min(left, 65536))
            digest.update(data)
            left -= len(data)
        self.answer(digest.hexdigest().encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass  # clients that go away are part of the tests


def serve(context=None):
    server = Server(("127.0.0.1", 0), Origin)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def certificate(directory):
    path = os.path.join(directory, "pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", path, "-out", path + ".crt", "-subj", "/CN=origin.test", "-days", "2"], check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path + ".crt", path)
    return context


# ---- A client

class Client:
    """A connection to the proxy."""

    def __init__(self, board):
        self.sock = socket.create_connection(("127.0.0.1", board.port), PATIENCE)
        self.sock.settimeout(PATIENCE)
        self.file = self.sock.makefile("rb")

    def send(self, text):
        self.sock.sendall(text.encode() if isinstance(text, str) else text)

    def head(self):
        """(status, {lower-case name: value})"""
        line = self.file.readline()
        assert line.startswith(b"HTTP/1.1 "), f"status line {line!r}"
        fields = {}
        while (field := self.file.readline().strip()) != b"":
            name, _, value = field.partition(b":")
            fields[name.decode().lower()] = value.strip().decode()
        return int(line.split()[1]), fields

    def response(self):
        """(status, body)"""
        status, fields = self.head()
        return status, self.file.read(int(fields["content-length"]))

    def get(self, url, auth=OPERATOR):
        host = url.split("/")[2]
        self.send(f"GET {url} HTTP/1.1\r\nHost: {host}\r\n{auth}\r\n")

    def connect(self, authority, auth=OPERATOR):
        self.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{auth}\r\n")
        return self.head()[0]

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def once(board, url, auth=OPERATOR):
    with Client(board) as c:
        c.get(url, auth)
        return c.response()


# ---- Tests: each takes the board, and what the origins are

class Origins:
    def __init__(self, directory):
        self.port = serve()
        self.tls_port = serve(certificate(directory))
        self.closed_port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        # the resolver of the emulator is 10.0.2.3; it asks the server of resolv.conf, which is this one in our world
        self.names = world.Names() if world.isolated else None
        if self.names:
            self.names.zone["origin.test"] = [HOST]
            self.names.zone["broken.test"] = "servfail"


def test_starts(board, _):
    """starts, takes its address from DHCP and says so | -"""
    assert board.ready() == "10.0.2.15"
    assert any("miniproxy" in text for text in board.lines), board.console()


def test_get(board, o):
    """GET; a line on the console tells of it | G01"""
    assert once(board, o.url + "/1000?secret=1") == (200, BLOB[:1000])
    line = board.line(r"^\d+\.\d{3} 10\.0\.2\.2:\d+ operator GET http://.* 200 - origin rule=5 to=10\.0\.2\.2:" +
                      f"{o.port} up=" + r"\d+ down=(\d+) dns=\d+ connect=\d+ first=\d+ total=\d+$")
    assert int(line[1]) > 1000 and "secret" not in board.console()


def test_withheld(board, o):
    """a target that hides a password is a column of the console's line all the same | -"""
    with Client(board) as c:
        c.send(f"GET http://me:secret@{HOST}:{o.port}/ HTTP/1.1\r\nHost: {HOST}\r\n{OPERATOR}\r\n")
        assert c.response()[0] == 400
    board.line(r"^\d+\.\d{3} 10\.0\.2\.2:\d+ - GET - 400 bad_target proxy rule=-1 to=- up=")
    assert "secret" not in board.console()


def test_keep_alive(board, o):
    """keeps connections alive on both sides | -"""
    connections, reused = Origin.connections, board.counters()["reused"]
    with Client(board) as c:
        for size in (10, 2000, 0):
            c.get(f"{o.url}/{size}")
            assert c.response() == (200, BLOB[:size])
    assert Origin.connections == connections + 1
    assert board.counters()["reused"] == reused + 2


def test_pipelining(board, o):
    """answers pipelined requests in order | -"""
    with Client(board) as c:
        for size in (700, 1, 30):
            c.get(f"{o.url}/{size}")
        for size in (700, 1, 30):
            assert c.response() == (200, BLOB[:size])


def test_post(board, o):
    """POST of 1 MB arrives as it was sent | -"""
    with Client(board) as c:
        c.send(f"POST {o.url}/ HTTP/1.1\r\nHost: {HOST}:{o.port}\r\n{OPERATOR}Content-Length: {MEGABYTE}\r\n\r\n")
        c.send(BLOB)
        assert c.response() == (200, hashlib.sha256(BLOB).hexdigest().encode())


def test_tunnel(board, o):
    """CONNECT with TLS inside, 300 KB each way | -"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Client(board) as c:
        assert c.connect(f"{HOST}:{o.tls_port}") == 200
        tls = context.wrap_socket(c.sock, server_hostname="origin.test")
        body = BLOB[:300000]
        tls.sendall(f"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        with tls.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            assert file.read(64) == hashlib.sha256(body).hexdigest().encode()
            tls.sendall(f"GET /{len(body)} HTTP/1.1\r\nHost: origin.test\r\n\r\n".encode())
            while file.readline() != b"\r\n":
                pass
            assert file.read(len(body)) == body
        tls.close()
    board.line(r"operator CONNECT 10\.0\.2\.2:\d+ 200 ")


def test_login(board, o):
    """407 without a login and with a wrong one, then the same connection goes on | A07"""
    wrong = "Proxy-Authorization: Basic " + base64.b64encode(b"operator:wrong").decode() + "\r\n"
    with Client(board) as c:
        for auth, token in (("", "login_missing"), (wrong, "login_failed")):
            c.get(o.url + "/10", auth)
            status, fields = c.head()
            assert status == 407 and fields["proxy-authenticate"].startswith("Basic "), fields
            assert token.encode() in c.file.read(int(fields["content-length"]))
        c.get(o.url + "/10")
        assert c.response() == (200, BLOB[:10])


def test_policy(board, o):
    """403 by address, port, method and path of a user | A07,S02"""
    assert once(board, f"http://10.0.2.40:{o.port}/")[0] == 403
    assert once(board, f"http://{HOST}:25/")[0] == 403
    assert once(board, "http://192.168.3.4/")[0] == 403  # private, and no rule opens it
    assert once(board, o.url + "/settings/1", DISPLAY)[0] == 403
    assert once(board, o.url + "/12", DISPLAY) == (200, BLOB[:12])
    with Client(board) as c:
        assert c.connect(f"{HOST}:{o.port}", DISPLAY) == 403
    # site.policy denies all other literals; tight.policy ends before
    last = -1 if "-raw-" in board.name else 8
    board.line(r" display CONNECT 10\.0\.2\.2:\d+ 403 \w+ proxy rule=" + f"{last} ")


def test_slow_password(board, _):
    """a password hashed by PBKDF2, right and wrong | A07"""
    if "-raw-" in board.name:
        return "tight.policy has none"
    right, wrong = (f"Proxy-Authorization: Basic {base64.b64encode(b'anna:' + p).decode()}\r\n"
                    for p in (b"only-an-example", b"only-a-mistake"))
    url, took = "http://vendor.example/", []
    for auth, statuses in ((right, (502,)), (right, (502,)), (wrong, (407,)), (right, (502,))):
        began = time.monotonic()
        assert once(board, url, auth)[0] in statuses
        took.append(time.monotonic() - began)
    print(f"{board.name}: anna's logins took " + ", ".join(f"{seconds:.3f} s" for seconds in took))
    return None


def test_hits(board, o):
    """hits of rules on the console: two more for rule 5 after two requests that it decided | -"""
    def hits():
        after = len(board.lines)
        board.type("h")
        board.line("^hits", after=after)
        if board.lines[after].startswith("hits are not"):
            return None
        board.line("^hits end", after=after)
        return {int(m[1]): int(m[2]) for text in board.lines[after:]
                if (m := re.match(r"hits rule=(-?\d+) count=(\d+)$", text))}

    before = hits()
    if "-raw-" in board.name:
        assert before is None
        return "tight images have no counters"
    for _ in range(2):
        assert once(board, o.url + "/10")[0] == 200
    board.wait_counters(lambda counters: counters["active"] == 0)
    assert hits() == {**before, 5: before[5] + 2}, before
    return None


def test_refused(board, o):
    """502 where nothing listens | S05"""
    status, body = once(board, f"http://{HOST}:{o.closed_port}/")
    assert status == 502 and b"connection_refused" in body, (status, body)


def test_names(board, o):
    """names by DNS: found, unknown, server that fails, blocked | S05,R05"""
    if o.names is None:
        return "needs a network namespace"
    assert once(board, f"http://origin.test:{o.port}/20") == (200, BLOB[:20])
    status, body = once(board, f"http://missing.test:{o.port}/")
    assert status == 502 and b"name_not_found" in body, (status, body)
    assert once(board, f"http://broken.test:{o.port}/")[0] in (502, 504)
    assert once(board, f"http://a.ads.example:{o.port}/")[0] == 403
    assert not o.names.asked("a.ads.example")
    return None


def test_download(board, o):
    """20 MB arrive byte for byte | -"""
    size, digest, wanted = 20 * MEGABYTE, hashlib.sha256(), hashlib.sha256()
    began = time.monotonic()
    with Client(board) as c:
        c.get(f"{o.url}/{size}")
        status, fields = c.head()
        assert status == 200 and fields["content-length"] == str(size)
        left = size
        while left > 0 and (data := c.file.read(min(left, 65536))):
            digest.update(data)
            left -= len(data)
    for _ in range(20):
        wanted.update(BLOB)
    assert left == 0 and digest.digest() == wanted.digest(), f"{left} octets are missing, or others differ"
    print(f"{board.name}: 20 MB at {20 / (time.monotonic() - began):.1f} MB/s")


def sessions_of(board):
    return int(board.line(r"(\d+) sessions, lwIP")[1])


def test_full(board, o):
    """all sessions in use, half of them tunnels, all of them work; one more gets 503, and then it goes on | Z05,S07"""
    count, clients = sessions_of(board), []
    Origin.held.clear()
    try:
        for i in range(count):
            clients.append(c := Client(board))
            if i % 2 == 0:
                c.get(o.url + "/hold")
            else:
                assert c.connect(f"{HOST}:{o.port}") == 200
        board.wait_counters(lambda counters: counters["active"] == count)
        status, body = once(board, o.url + "/10")
        assert status == 503 and b"sessions_full" in body, (status, body)
        Origin.held.set()
        for c in clients[1::2]:
            c.send(f"GET /5000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
        for i, c in enumerate(clients):
            assert c.response() == (200, BLOB[:5000] if i % 2 else b"held")
    finally:
        Origin.held.set()
        for c in clients:
            c.close()
    board.wait_counters(lambda counters: counters["active"] == 0)
    assert once(board, o.url + "/10") == (200, BLOB[:10])


def test_parallel(board, o):
    """all sessions load 200 KB each at the same time | -"""
    size, results = 200000, []

    def load():
        try:
            results.append(once(board, f"{o.url}/{size}") == (200, BLOB[:size]))
        except (OSError, AssertionError) as e:
            results.append(repr(e))

    threads = [threading.Thread(target=load) for _ in range(sessions_of(board))]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(r is True for r in results), results
    speed = size * len(threads) / MEGABYTE / (time.monotonic() - began)
    print(f"{board.name}: {len(threads)} at once, {speed:.1f} MB/s")


def test_stalled(board, o):
    """peers that do not read fill the pool, and it all comes back when they go | Z08"""
    count, stalled = sessions_of(board), []
    for _ in range(count):
        stalled.append(c := Client(board))
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.get(f"{o.url}/{4 * MEGABYTE}")
    time.sleep(2)
    full = board.counters()
    for c in stalled:
        c.close()
    board.wait_counters(lambda counters: counters["active"] == 0 and counters["pbuf_pool.used"] == 0, 60)
    assert once(board, o.url + "/3000") == (200, BLOB[:3000])
    print(f"{board.name}: stalled: pool {full['pbuf_pool.used']} of {full['pbuf_pool.of']}, "
          f"dropped {full['net.dropped']}, by reserve {full['net.reserve']}")


def test_aborts(board, o):
    """clients that vanish in the middle leave nothing behind | Z08"""
    for i in range(3 * sessions_of(board)):
        with Client(board) as c:
            c.get(f"{o.url}/{MEGABYTE}")
            if i % 3 > 0:
                c.file.read(1000)
            if i % 3 == 2:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    board.wait_counters(lambda counters: counters["active"] == 0, 60)
    assert once(board, o.url + "/10") == (200, BLOB[:10])


def test_leaves_nothing(board, _):
    """afterwards all PCBs, segments and pbufs are free again, and the stacks have room | -"""
    done = board.wait_counters(lambda c: c["active"] == 0 and c["net.pcbs_active"] == 0, 90)
    for name in ("tcp_seg", "pbuf_ref", "pbuf_pool"):
        assert done[name + ".used"] == 0, (name, done)
    assert done["tcp_pcb.used"] == done["net.pcbs_time_wait"], done
    assert done["heap.used"] < 200, done  # DHCP's state
    assert done["buffers"] == 0, done
    print(f"{board.name}: stack {done['stack.size'] - done['stack.unused']} of {done['stack.size']} used" +
          (f", lwIP's thread {done['stack.tcpip_size'] - done['stack.tcpip_unused']} of {done['stack.tcpip_size']}"
           if "stack.tcpip_size" in done else ""))
    print(f"{board.name}: at most: " + ", ".join(f"{n[:-4]} {done[n]}/{done[n[:-3] + 'of']}" for n in done
                                                 if n.endswith(".max")) + f", buffers {done['buffers_peak']}")
    assert done["stack.unused"] >= done["stack.size"] / STACK_LEFT, done
    if "stack.tcpip_size" in done:
        assert done["stack.tcpip_unused"] >= done["stack.tcpip_size"] / STACK_LEFT, done
    assert not any(re.match("PANIC|FAULT", text) for text in board.lines), board.console()
    lines = sum(1 for text in board.lines if re.match(r"^\d+\.\d{3} ", text))
    assert lines == done["requests"], (lines, done["requests"])


TESTS = (test_starts, test_get, test_withheld, test_keep_alive, test_pipelining, test_post, test_tunnel, test_login,
         test_policy, test_slow_password, test_hits, test_refused, test_names, test_download, test_full, test_parallel,
         test_stalled, test_aborts, test_leaves_nothing)


# ---- Images that are told to fail

def fails(name, command, *patterns, status=99):
    with Board(name, semihosting=True) as board:
        board.ready()
        board.type(command)
        for pattern in patterns:
            board.line(pattern)
        assert board.wait() == status, board.process.returncode


def check_faults(results):
    if "mps2_an385-raw-test" in results.images:  # the other machine does not trap anything
        results.run("mps2_an385-raw-test: a bad access prints registers and stops | -", lambda: fails(
            "mps2_an385-raw-test", "f", r"^FAULT exception=3 ", r"^FAULT pc=[0-9a-f]+ lr="))
        results.run("mps2_an385-raw-test: a stack that overflows is told | -", lambda: fails(
            "mps2_an385-raw-test", "o", r"^FAULT exception=3 .*stack_unused=0", r"^FAULT the stack has overflowed"))
    for name in FAULTY:
        if name in results.images:
            results.run(f"{name}: a broken assertion stops it | -", lambda name=name: fails(name, "p",
                                                                                           r"^PANIC asked for"))
            results.run(f"{name}: the watchdog resets it when it hangs | -", lambda name=name: check_watchdog(name))


def check_watchdog(name):
    with Board(name) as board:
        board.ready()
        after = len(board.lines)
        board.type("w")
        board.line(r"^miniproxy .* sessions|^FAULT exception=2 ", 30, after=after)


def check_cable(name, origins):
    with Board(name, cable=True) as board:
        board.ready()
        for plugged in (False, True):
            after = len(board.lines)
            board.set_cable(plugged)
            board.line(f"^LINK {'up' if plugged else 'down'}$", after=after)
        assert once(board, origins.url + "/100") == (200, BLOB[:100])


def check_image(results, name):
    flash, ram, stack = memory.sizes(image_path(name))
    print(f"{name}: flash {flash}, RAM {ram}, of it stack {stack}")
    results.run(f"{name}: has no allocator in it | Z06", lambda: expect_none(memory.no_heap(image_path(name))))


def expect_none(found):
    assert not found, found


# ---- Results

class Results:
    def __init__(self, images, suite="firmware-boot"):
        self.images, self.suite, self.failed = images, suite, False
        directory = os.path.join(ROOT, os.environ.get("MINIPROXY_RESULTS", "build/results"))
        os.makedirs(directory, exist_ok=True)
        self.file = open(os.path.join(directory, self.suite + ".tsv"), "w", encoding="utf-8")

    def run(self, title, function):
        name, _, rules = (part.strip() for part in title.rpartition("|"))
        try:
            skipped = function()
            verdict = "skip" if skipped else "pass"
        except Exception:  # pylint: disable=broad-except
            verdict = "fail"
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
        self.failed |= verdict == "fail"
        self.file.write(f"{verdict}\t{self.suite}\t{name}\t{rules}\n")
        self.file.flush()
        return verdict


def run_image(results, name, origins, tests=TESTS, **how):
    check_image(results, name)
    with Board(name, **how) as board:
        for test in tests:
            verdict = results.run(f"{name}: {test.__doc__}", lambda test=test: test(board, origins))
            if verdict == "fail":
                print("\n".join(["console:"] + board.lines[-40:]))
                if board.process.poll() is not None or test is test_starts:
                    return


def main():
    images = sys.argv[1:] or [*IMAGES, *FAULTY]
    world.enter()
    results = Results(images)
    with tempfile.TemporaryDirectory() as directory:
        origins = Origins(directory)
        for name in images:
            if name not in FAULTY:
                run_image(results, name, origins)
        for name in images:
            if name in IMAGES and name.startswith("mps2"):  # the other board does not ask its PHY
                results.run(f"{name}: a cable that is pulled and plugged in again | -", lambda name=name: check_cable(
                    name, origins))
    check_faults(results)
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()
