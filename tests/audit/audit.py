# SPDX-License-Identifier: MIT
"""`miniproxy policy explain`, `lint` and `diff`: planted policies, what the running program answers, and the trial of
every request of random policies.

    audit.py PROGRAM BRUTE RESULTS.tsv [POLICIES]
"""
import base64
import http.server
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM, BRUTE, RESULTS = (os.path.abspath(path) for path in sys.argv[1:4])
POLICIES = sys.argv[4] if len(sys.argv) > 4 else "10000"
HERE = os.path.dirname(os.path.abspath(__file__))


def run(directory, *arguments):
    done = subprocess.run([PROGRAM, "policy", *arguments], cwd=directory, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def flat(text):
    return " ".join(text.split())


def write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)


def planted(kind):
    """Name, and lines, of each test in KIND.txt."""
    with open(os.path.join(HERE, kind + ".txt"), encoding="utf-8") as file:
        tests = file.read().split("\n== ")[1:]
    return [(test.partition("\n")[0], test.partition("\n")[2].rstrip().split("\n")) for test in tests]


def marked(lines, mark):
    return [line[len(mark):] for line in lines if line.startswith(mark)]


def policy_of(lines):
    return "".join(line + "\n" for line in lines if line[:2] not in ("+ ", "- ", "$ ", "> "))


def examples(output):
    """The explain commands that an output shows."""
    shown = [line.split("try: miniproxy policy ") for line in output.splitlines()]
    return [shlex.split(parts[1]) for parts in shown if len(parts) == 2]


def missing(lines, output):
    return [f"not said: {text}" for text in marked(lines, "+ ") if text not in flat(output)]


def check_lint(directory, lines):
    write(directory, "p.policy", policy_of(lines))
    status, output = run(directory, "lint", "p.policy")
    problems = missing(lines, output) + [f"said: {text}" for text in marked(lines, "- ") if text in flat(output)]
    if status != (0 if " 0 errors, 0 warnings," in " " + flat(output) else 1):
        problems.append(f"exit status {status}")
    for command in examples(output):  # what lint shows is let through
        if run(directory, *command)[0] != 0:
            problems.append(f"not allowed: {command}")
    return problems, output


def check_explain(directory, lines):
    if policy_of(lines):
        write(directory, "p.policy", policy_of(lines))
    want, *words = shlex.split(marked(lines, "$ ")[0])
    status, output = run(directory, "explain", "p.policy", *words)
    problems = missing(lines, output) + [f"said: {text}" for text in marked(lines, "- ") if text in flat(output)]
    if status != int(want):
        problems.append(f"exit status {status}")
    if max(map(len, output.splitlines())) > 120:
        problems.append("a line of more than 120 columns")
    return problems, output


def check_diff(directory, lines):
    verdicts = {"allowed": r"^Allowed by", "denied": r"^Denied|403", "asked for a login": r"407 login_missing|401 page_login_missing"}
    old, new = policy_of(lines).split("--\n")
    write(directory, "old.policy", old)
    write(directory, "new.policy", new)
    status, output = run(directory, "diff", "old.policy", "new.policy")
    problems = missing(lines, output)
    found = re.findall(r"^\d+\. ([a-z ]+), was ([a-z ]+):$", output, re.M)
    if found != [tuple(kinds.split(", ")) for kinds in marked(lines, "> ")]:
        problems.append(f"differences {found}")
    if status != (0 if "No decision changes." in output else 1):
        problems.append(f"exit status {status}")
    # behind them come ways that change
    for (now, before), command in zip(found, examples(output)[:len(found)], strict=True):
        for verdict, file in (now, "new.policy"), (before, "old.policy"):
            shown = run(directory, command[0], file, *command[2:])[1]
            if not re.search(verdicts[verdict], shown, re.M):
                problems.append(f"{file} is not {verdict}: {command}")
    return problems, output


# ---- On the wire

WIRE = """
user anna = clear "a-password"
user kiosk = certificate
deny  from loopback paths "/secret"
deny  agents "wget/"
deny  types video/*
allow from loopback to loopback hosts "localhost" ports {port}
allow users anna to loopback ports {port}
allow users anna hosts .anna.example
allow users kiosk hosts .kiosk.example
deny  methods CONNECT ports 7
parent up = http://127.0.0.1:{port}
route hosts .up.example, "x.localhost" via up
deny  to 192.0.2.0/24 hosts b.up.example
allow users anna to any, private hosts .secret.up.example
deny  hosts .secret.up.example
allow hosts .up.example ports 80, {port}
allow hosts "x.localhost"
"""

# user, method, URL, User-Agent; {port} is the origin's
REQUESTS = [
    ("-", "GET", "http://localhost:{port}/", None),
    ("-", "GET", "http://LOCALHOST:{port}/x?y", None),
    ("-", "GET", "http://localhost:{port}/secret/1", None),
    ("-", "GET", "http://localhost:{port}/Secret/1", None),
    ("-", "GET", "http://localhost:{port}/", "Wget/1.2"),
    ("-", "GET", "http://localhost:{port}/video", None),
    ("-", "HEAD", "http://localhost:{port}/video", None),
    ("-", "GET", "http://localhost:1/", None),
    ("-", "GET", "http://127.0.0.1:{port}/", None),
    ("anna", "GET", "http://127.0.0.1:{port}/", None),
    ("anna", "GET", "http://127.0.0.1:{port}/video", None),
    ("anna", "GET", "http://127.0.0.1:1/", None),
    ("anna", "GET", "http://10.255.255.1:{port}/", None),
    ("-", "CONNECT", "127.0.0.1:7", None),
    ("-", "CONNECT", "localhost:7", None),
    ("-", "CONNECT", "localhost:9", None),
    ("anna", "CONNECT", "localhost:9", None),
    ("anna", "CONNECT", "localhost:{port}", None),
    ("-", "CONNECT", "x.anna.example:443", None),
    ("-", "CONNECT", "x.anna.example:444", None),
    ("anna", "CONNECT", "x.anna.example:444", None),
    ("-", "GET", "http://x.kiosk.example/", None),
    ("anna", "CONNECT", "x.kiosk.example:443", None),
    ("-", "BREW", "http://localhost:{port}/", None),
    ("-", "GET", "http://a.up.example/", None),
    ("-", "GET", "http://b.up.example/", None),  # its address is not known here
    ("-", "GET", "http://a.up.example/video", None),
    ("-", "GET", "http://a.up.example:81/", None),
    ("-", "GET", "http://c.secret.up.example/", None),
    ("anna", "GET", "http://c.secret.up.example/", None),
    ("-", "CONNECT", "a.up.example:22", None),
    ("-", "GET", "http://x.localhost/", None),
]


class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4" if "/video" in self.path else "text/plain")
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"ok")

    do_HEAD = do_BREW = do_GET

    def log_message(self, *_):
        pass


def answer(address, user, method, url, agent):
    """The status that the proxy answers with."""
    head = f"{method} {url} HTTP/1.1\r\nHost: {url.split('//')[-1].split('/')[0]}\r\nConnection: close\r\n"
    if user != "-":
        head += "Proxy-Authorization: Basic " + base64.b64encode(f"{user}:a-password".encode()).decode() + "\r\n"
    if agent:
        head += f"User-Agent: {agent}\r\n"
    with socket.create_connection(address, 10) as client:
        client.sendall(head.encode() + b"\r\n")
        return int(client.recv(65536).split(b" ")[1])


def cause_of(log, number):
    """The cause in the log's line NUMBER. It is waited for: a tunnel's is written when its end is seen, which may be
    after the next request's."""
    for _ in range(1000):
        with open(log, encoding="utf-8") as file:
            lines = file.readlines()
        if len(lines) > number and lines[number].endswith("\n"):
            return json.loads(lines[number])["cause"]
        time.sleep(0.01)
    return "no line in the log"


def check_wire(directory):
    """explain tells status and cause as the running program has them."""
    problems = []
    http.server.ThreadingHTTPServer.handle_error = lambda *_: None  # the proxy resets what it has denied
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port = origin.server_address[1]
    write(directory, "p.policy", WIRE.format(port=port))
    log = os.path.join(directory, "log")
    proxy = subprocess.Popen([PROGRAM, "--listen", "127.0.0.1:0", "--policy", "p.policy", "--log", log, "--log-format",
                              "json"], cwd=directory, stderr=subprocess.PIPE, text=True)
    try:
        for line in proxy.stderr:
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found:
                break
        threading.Thread(target=proxy.stderr.read, daemon=True).start()
        said = []
        for user, method, url, agent in REQUESTS:
            url = url.format(port=port)
            options = ["--agent", agent] if agent else []
            if "//localhost" in url.lower() or url.startswith("localhost"):
                options += ["--address", "127.0.0.1"]
            if method not in ("HEAD", "CONNECT"):
                options += ["--type", "video/mp4" if "/video" in url else "text/plain"]
            status, output = run(directory, "explain", "p.policy", "127.0.0.1", user, method, url, *options)
            got = answer(("127.0.0.1", int(found[1])), user, method, url, agent)
            said.append((status, output, got, cause_of(log, len(said))))
    finally:
        proxy.terminate()
        proxy.wait(30)
        origin.shutdown()
    with open(log, encoding="utf-8") as file:
        if len(file.readlines()) != len(REQUESTS):
            problems.append("more lines in the log than requests")
    for request, (status, output, got, cause) in zip(REQUESTS, said, strict=True):
        want = "Allowed" if got < 300 else f"{got} {cause}"
        if want not in output or status != (0 if got < 300 else 1):
            problems.append(f"{request}: answered {got} {cause}, explained as\n{output}")
    return problems, ""


def main():
    results = []

    def note(name, problems, output):
        results.append(f"{'fail' if problems else 'pass'}\taudit\t{name}\t-")
        if problems:
            print(f"== {name}", *problems, output, sep="\n")

    with tempfile.TemporaryDirectory() as directory:
        for kind, check in ("lint", check_lint), ("explain", check_explain), ("diff", check_diff):
            for name, lines in planted(kind):
                note(f"{kind}: {name}", *check(directory, lines))
        note("explain says what the running program does", *check_wire(directory))
    brute = subprocess.run([BRUTE, "1", POLICIES], capture_output=True, text=True, timeout=1200, check=False)
    print(brute.stdout, brute.stderr)
    lines = [line for line in brute.stdout.splitlines() if line.count("\t") == 3]
    results.extend(lines or ["fail\taudit\trandom policies were tried\t-"])
    with open(RESULTS, "w", encoding="utf-8") as file:
        file.write("\n".join(results) + "\n")
    return any(line.startswith("fail") for line in results)


if __name__ == "__main__":
    sys.exit(main())
