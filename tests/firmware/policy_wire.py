# SPDX-License-Identifier: MIT
"""One policy file, two programs: the firmware image it was compiled into, in the emulator, and the POSIX program that
reads it. Both get the same requests in the same order, in one network namespace, and must answer and log the same.
Writes build/results/policy-wire.tsv.

    policy_wire.py [FILE]        FILE: the POSIX program reads this instead of site.policy, to see the test fail

A client of the board is 10.0.2.2 for it, the emulator's address; so it is for the POSIX program, by an address of `lo`.
Origins at 10.0.2.2 and at public addresses are reached by both, names come from one scripted server. The board has no
clock; for the POSIX program it is 3 o'clock at night. Last, the list of names in the board's flash is replaced while it
runs.
"""
import base64
import collections
import http.server
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
sys.path.insert(0, HERE)

import world  # noqa: E402
from board import Board, ROOT  # noqa: E402

PATIENCE = 30.0
FLASH_A, FLASH_B, ROOM = 0x3E000, 0x3F000, 0x1000  # firmware.mk has them, too
SITE, WIRE = "examples/policy/site.policy", "tests/firmware/wire.policy"
ORIGIN_PORTS = (80, 443, 8000, 8099, 8100)
PORTS = (80, 443, 8000, 8099, 8100, 25, 22, 7999, 3128)
ZONE = {
    # blocked names, and names near them
    "ads.example": [world.PUBLIC], "x.ads.example": [world.PUBLIC], "notads.example": [world.PUBLIC],
    "ads.example.org": [world.PUBLIC], "a.b.tracker.example": [world.PUBLIC], "shop.example": [world.PUBLIC],
    "metrics.shop.example": [world.PUBLIC], "weather.example": [world.PUBLIC],
    "push.ads.weather.example": [world.PUBLIC], "ads.weather.example": [world.PUBLIC], "telemetry.vendor.example": [world.PUBLIC], "example": [world.PUBLIC],
    # work and updates
    "office.example": [world.PUBLIC], "a.office.example": [world.PUBLIC_OTHER], "xoffice.example": [world.PUBLIC],
    "office.example.net": [world.PUBLIC], "wiki.office.example": ["10.0.2.2"], "plc.office.example": ["10.0.2.40"],
    "home.office.example": ["192.168.7.7"], "origin.test": ["10.0.2.2"], "sub.origin.test": [world.PUBLIC],
    "vendor.example": [world.PUBLIC], "fw.vendor.example": [world.PUBLIC], "ntp.example": [world.PUBLIC],
    "a.ntp.example": [world.PUBLIC], "in.vendor.example": ["10.0.2.2"],
    # others
    "plain.test": ["10.0.2.2"], "www.test": [world.PUBLIC], "rebind.test": ["10.0.2.40"], "loop.test": ["127.0.0.1"],
    "night.example": [world.PUBLIC], "x.night.example": ["10.0.2.2"],
}
NAMES = (*ZONE, "ADS.Example", "x.ads.example.", "Wiki.Office.Example", "origin.test.", "missing.test",
         "missing.office.example", "fw.vendor.example.")
LITERALS = ("10.0.2.2", "10.0.2.40", "10.0.3.8", "10.0.3.9", world.PUBLIC, world.PUBLIC_OTHER, "127.0.0.1",
            "192.168.7.7", "169.254.169.254", "0.0.0.0")
# A board without IPv6 takes none of these for a target, whatever the policy says.
LITERALS6 = ("[::1]", "[::ffff:10.0.2.2]", "[2606:2800:220:1::1]")
OFTEN = ("10.0.2.2", "origin.test", "wiki.office.example", "office.example", "a.office.example", "fw.vendor.example",
         "ntp.example", "in.vendor.example")
# Nothing else listens at these on the way of either program.
ORIGINS = ("127.0.0.1", "10.0.2.2", world.PUBLIC, world.PUBLIC_OTHER, "192.168.7.7")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PURGE")
PATHS = ("/", "/settings", "/settings/x?y=1", "/Settings", "/admin", "/a/settings", "/open", "/open/a.png", "/b.png",
         "/c.pdf", "/d.html", "/none", "", "?settings")
AGENTS = ("", "", "", "curl/8.5", "Mozilla/5.0 (badbot)", "xcurl", "Mozilla/5.0")
USERS = (None, "operator:swordfish", "display:view", "anna:only-an-example", "ben:another-example", "operator:wrong",
         "anna:wrong", "nobody:view")
RIGHT = USERS[1]


# ---- The origin

class Origin(http.server.BaseHTTPRequestHandler):
    """What every method gets; the type is that of the path's ending."""
    protocol_version = "HTTP/1.1"
    types = {".png": "image/png", ".pdf": "application/pdf", ".html": "text/html; charset=utf-8"}

    def answer(self):
        body = b"from the origin"
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length", "0"))
        self.rfile.read(length)
        self.send_response(200)
        if path != "/none":
            self.send_header("Content-Type", self.types.get(os.path.splitext(path)[1], "text/plain"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PURGE = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


def serve():
    for address in ORIGINS:
        for port in ORIGIN_PORTS:
            threading.Thread(target=Server((address, port), Origin).serve_forever, daemon=True).start()


# ---- Requests

def request_of(user, method, host, port, path, agent):
    authority = f"{host}:{port}" if method == "CONNECT" or port != 80 else host
    target = authority if method == "CONNECT" else f"http://{authority}{path}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}"]
    if user:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(user.encode()).decode())
    if agent:
        lines.append("User-Agent: " + agent)
    if method in ("POST", "PUT"):
        lines.append("Content-Length: 2")
    body = "ok" if method in ("POST", "PUT") else ""
    return ("\r\n".join([*lines, "", body])).encode()


def requests(seed, own_address, count):
    """A host and a user each at least once, then at random. A login that fails is followed by one that does not, or all
    that come behind would be throttled; the last ones are."""
    rng = random.Random(seed)
    rows = [(USERS[i % 5], "GET", host, 80, "/", "") for i, host in enumerate((*NAMES, *LITERALS) * 2)]
    rows += [(user, method, "10.0.2.2", 8000, "/", "") for user in USERS for method in METHODS]
    rows += [(user, method, own_address, 3128, "/", "") for user in USERS[:4] for method in ("GET", "CONNECT")]
    while len(rows) < count:
        rows.append((rng.choice(USERS[:5] * 4 + USERS[5:]), rng.choice(METHODS + ("GET", "GET", "CONNECT")),
                     rng.choice(rng.choice((NAMES, LITERALS, OFTEN, OFTEN))),
                     rng.choice(PORTS + (80, 443, 8000)), rng.choice(PATHS), rng.choice(AGENTS)))
    rng.shuffle(rows)
    found = []
    for row in rows:
        found.append(request_of(*row))
        if row[0] in USERS[5:]:
            found.append(request_of(RIGHT, "GET", "10.0.2.2", 8000, "/", ""))
    return found + [request_of(USERS[5], "GET", "10.0.2.2", 8000, "/", "")] * 6 + [
        request_of(RIGHT, "GET", "10.0.2.2", 8000, "/", "")]


# ---- The two programs: `exchange` sends one request and returns what was answered and what was logged

Outcome = collections.namedtuple("Outcome", "status proxy_status token logged cause by rule address user body")


def response_of(sock, method):
    file = sock.makefile("rb")
    line = file.readline()
    assert line.startswith(b"HTTP/1.1 "), line
    status, fields = int(line.split()[1]), {}
    while (field := file.readline().strip()) != b"":
        name, _, value = field.partition(b":")
        fields[name.decode().lower()] = value.strip().decode()
    body = b""
    if method != b"HEAD" and not (method == b"CONNECT" and status == 200):
        body = file.read(int(fields["content-length"])) if "content-length" in fields else file.read()
    file.close()
    # the name of who says it differs
    proxy_status = fields.get("proxy-status", "").partition(";")[2].strip()
    token = re.search(rb"\((\w+)\)\s*$", body)
    return status, proxy_status, token[1].decode() if token else "", body


class Program:
    """connect() comes from the client's address for this program; line() is what was logged of request number n."""

    def exchange(self, request, number):
        method = request.split(b" ", 1)[0]
        with socket.socket() as sock:
            sock.settimeout(PATIENCE)
            self.connect(sock)
            sock.sendall(request)
            answer = response_of(sock, method)
        deadline = time.monotonic() + PATIENCE
        while (logged := self.line(number)) is None:
            assert time.monotonic() < deadline, f"request {number} is not logged: {request}"
            time.sleep(0.002)
        status, proxy_status, token, body = answer
        return Outcome(status, proxy_status, token, *logged, body if status != 407 else b"")


class OnBoard(Program):
    def __init__(self, board):
        self.board, self.at, self.found = board, 0, []

    def connect(self, sock):
        sock.connect(("127.0.0.1", self.board.port))

    def line(self, number):
        while self.at < len(self.board.lines):
            if m := re.match(r"\d+\.\d{3} (\S+):\d+ (\S+) .* (\d+) (\S+) (\S+) rule=(-?\d+) to=(\S+) ",
                             self.board.lines[self.at]):
                assert m[1] == self.board.host, m[0]
                self.found.append((int(m[3]), m[4], m[5], int(m[6]), m[7], m[2]))
            self.at += 1
        return self.found[number] if number < len(self.found) else None

    def hits(self, patience=PATIENCE):
        """{rule: count}"""
        after = len(self.board.lines)
        self.board.type("h")
        self.board.line("^hits end", patience, after)
        return {int(m[1]): int(m[2]) for text in self.board.lines[after:]
                if (m := re.match(r"hits rule=(-?\d+) count=(\d+)$", text)) and int(m[2]) > 0}


class OnPosix(Program):
    def __init__(self, policy, board_address, client, directory):
        self.address, self.client, self.found, self.part = (board_address, 3128), client, [], ""
        path = os.path.join(directory, "log")
        hour = time.gmtime().tm_hour
        command = [os.path.join(ROOT, "build/miniproxy"), "--listen", f"{board_address}:3128", "--policy", policy,
                   "--log", path, "--log-format", "json"]
        night = f"XXX{(hour - 3 + 12) % 24 - 12:+d}"
        self.process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ, TZ=night))
        deadline = time.monotonic() + PATIENCE
        while True:
            with socket.socket() as sock:
                if os.path.exists(path) and sock.connect_ex(self.address) == 0:
                    break
            assert self.process.poll() is None and time.monotonic() < deadline, "the POSIX program does not start"
            time.sleep(0.05)
        self.log = open(path, encoding="utf-8")

    def connect(self, sock):
        sock.bind((self.client, 0))
        sock.connect(self.address)

    def line(self, number):
        while part := self.log.readline():
            self.part += part
            if not part.endswith("\n"):
                break  # the rest is being written
            line, self.part = self.part, ""
            e = json.loads(line)
            if "method" not in e:
                continue  # an alert
            if e["method"] is None and e["status"] == 0:
                continue  # a connection without a request
            assert e["client"] == self.client, line
            self.found.append((e["status"], e["cause"] or "-", e["by"] or "-", -1 if e["rule"] is None else e["rule"],
                               e["address"] or "-", e["user"] or "-"))
        return self.found[number] if number < len(self.found) else None

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


# ---- The comparison

def run_all(program, listed, outcomes):
    for number, request in enumerate(listed):
        try:
            outcomes.append(program.exchange(request, number))
        except Exception as e:  # pylint: disable=broad-except
            outcomes.append(repr(e))
            return


def compare(listed, on_board, on_posix):
    """How many differ; they are printed."""
    different = 0
    for number, request in enumerate(listed):
        one = on_board[number] if number < len(on_board) else "not sent"
        other = on_posix[number] if number < len(on_posix) else "not sent"
        if one != other or isinstance(one, str):
            different += 1
            if different <= 20:
                print(f"DIFFERENT {request.decode()!r}\n    board {one}\n    POSIX {other}")
    return different


def check_world(results, image, policy, for_posix, network, count, flash=()):
    """One image, one policy, one network that the clients are in."""
    title = f"{policy}, clients in {network}.0/24"
    listed, on_board, on_posix = requests(title, f"{network}.15", count), [], []
    with tempfile.TemporaryDirectory() as directory, Board(image, network=network, flash=flash) as board:
        posix = OnPosix(for_posix, f"{network}.15", f"{network}.2", directory)
        try:
            board.ready()
            programs = (OnBoard(board), posix)
            began = time.monotonic()
            threads = [threading.Thread(target=run_all, args=(program, listed, outcomes))
                       for program, outcomes in zip(programs, (on_board, on_posix))]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            hits = programs[0].hits()
            six = [programs[0].exchange(request_of(RIGHT, method, host, 443, "/", ""), len(listed) + n)
                   for n, (method, host) in enumerate((m, h) for m in ("GET", "CONNECT") for h in LITERALS6)]
        finally:
            posix.stop()
    different = compare(listed, on_board, on_posix)
    done = [o for o in on_board if isinstance(o, Outcome)]
    rules, statuses = (collections.Counter(getattr(o, what) for o in done) for what in ("rule", "status"))
    print(f"{title}: {len(listed)} requests in {time.monotonic() - began:.1f} s, {different} differ; by rule "
          f"{dict(sorted(rules.items()))}; by status {dict(sorted(statuses.items()))}")
    results.check(different == 0 and len(listed) >= count, f"{title}: board and POSIX program answer and log the same")
    results.check(hits == dict(rules), f"{title}: the board's hits are those of its log")
    results.check({(o.status, o.cause, o.rule) for o in six} == {(400, "bad_target", -1)},
                  f"{title}: the board, which has no IPv6, takes no IPv6 literal")
    if hits != dict(rules):
        print(f"hits {hits}")
    return rules, set(statuses)


# ---- A list of names is replaced in flash

def blob_path():
    return os.path.join(ROOT, os.environ.get("FIRMWARE_OUT", "build/firmware"), "wire_ads.bin")


def blob_of(directory, names):
    """The list `ads` of the image's policy with other names."""
    with open(os.path.join(ROOT, WIRE), encoding="utf-8") as f:
        text = re.sub(r'file "[^"]*ads.hosts"', 'file "new.hosts"', f.read())
    text = text.replace("../../examples/policy/", os.path.join(ROOT, "examples/policy/"))
    for name, content in (("new.policy", text), ("new.hosts", "".join(f"0.0.0.0 {n}\n" for n in names))):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
            f.write(content)
    subprocess.run([os.path.join(ROOT, "build/miniproxy"), "policy", "compile", os.path.join(directory, "new.policy"),
                    "--blob", "ads=" + os.path.join(directory, "new.bin"), "-o", "/dev/null"], check=True)
    with open(os.path.join(directory, "new.bin"), "rb") as f:
        return f.read()


def rule_for(program, host):
    """Rule 0 blocks the names of the list."""
    number = len(program.found)
    return program.exchange(request_of("ben:another-example", "GET", host, 80, "/", ""), number).rule


def check_update(results):
    """Partition B is empty at start. A damaged blob is not taken, a good one is, and then A's turn has come."""
    def ask_for(letter):
        after = len(board.lines)
        board.type(letter)
        return board.line(f"^POLICY {letter} (\\w+)$", PATIENCE, after)[1]

    def blocked():
        return [host for host in ("x.ads.example", "www.test", "plain.test") if rule_for(program, host) == 0]

    with tempfile.TemporaryDirectory() as directory, Board("lm3s6965-raw-wire", flash=[(blob_path(), FLASH_A)],
                                                           debugger=True) as board:
        new = blob_of(directory, [f"n{i}.example" for i in range(200)] + ["www.test"])
        newer = blob_of(directory, [f"m{i}.example" for i in range(50)] + ["plain.test"])
        damaged = bytearray(new)
        damaged[len(new) // 2] ^= 1
        assert 28 < len(newer) < len(new) < ROOM
        board.ready()
        program = OnBoard(board)
        results.check(blocked() == ["x.ads.example"], "update: the board begins with the list in its partition")
        results.check(ask_for("b") == "refused", "update: a policy with an empty partition is refused")
        board.write_flash(FLASH_B, damaged)
        results.check(ask_for("b") == "refused" and blocked() == ["x.ads.example"],
                      "update: a damaged list is refused, the old policy stays in force")
        board.write_flash(FLASH_B, new)
        results.check(ask_for("b") == "taken" and blocked() == ["www.test"], "update: a new list is taken")
        board.write_flash(FLASH_A, newer)
        results.check(ask_for("a") == "taken" and blocked() == ["plain.test"],
                      "update: so is the next one, in the other partition")
        text = board.console()
        results.check(text.count("miniproxy ") == 1 and not re.search("PANIC|FAULT", text),
                      "update: the board has not been restarted")


class Results:
    def __init__(self):
        self.failed = False
        directory = os.path.join(ROOT, os.environ.get("MINIPROXY_RESULTS", "build/results"))
        os.makedirs(directory, exist_ok=True)
        self.file = open(os.path.join(directory, "policy-wire.tsv"), "w", encoding="utf-8")

    def check(self, passed, name):
        self.failed |= not passed
        self.add("pass" if passed else "fail", name)

    def add(self, verdict, name):
        self.file.write(f"{verdict}\tpolicy-wire\t{name}\t-\n")
        self.file.flush()


def main():
    site = sys.argv[1] if len(sys.argv) > 1 else SITE
    results = Results()
    if not world.enter():
        results.add("skip", "needs a network namespace")
        return 0
    for address in ("10.0.2.2", "10.0.2.15", "10.0.3.2", "10.0.3.15"):
        subprocess.run(["ip", "addr", "add", address + "/32", "dev", "lo"], check=True)
    world.Names().zone.update(ZONE)
    serve()
    rules, statuses = collections.Counter(), set()
    for network, count in (("10.0.2", 800), ("10.0.3", 500)):
        decided, seen = check_world(results, "lm3s6965-raw-test", SITE, site, network, count)
        rules.update(decided)
        statuses |= seen
    # rule 10 is for hours that a board without a clock never knows
    results.check(set(rules) == set(range(-1, 10)), f"{SITE}: every rule but that for hours decided something")
    results.check({200, 403, 407, 429, 502} <= statuses, "requests were allowed, denied, asked for a login, throttled")
    rules, _ = check_world(results, "lm3s6965-raw-wire", WIRE, WIRE, "10.0.2", 800, [(blob_path(), FLASH_A)])
    results.check(set(rules) == set(range(-1, 11)) - {9}, f"{WIRE}: every rule but that for noon decided something")
    check_update(results)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
