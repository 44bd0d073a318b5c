# SPDX-License-Identifier: MIT
"""The proxy under test, as a process: started with options, watched through its log, its counters and its exit."""
import collections
import json
import os
import re
import resource
import signal
import subprocess
import threading
import time

import peers
import secure
import world

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("MINIPROXY_BIN", os.path.join(ROOT, "build", "miniproxy"))
SMALL = os.environ.get("MINIPROXY_SMALL_BIN", os.path.join(ROOT, "build", "miniproxy-small"))

# What most tests run with: everything on loopback may be reached.
OPEN = ("--allow-private", "--connect-ports", "any", "--name", "tester")

STACK_SPARE = 104  # of a board: what an exception pushes on top of the deepest use, and a little

Cause = collections.namedtuple("Cause", "name status type token text")


def read_causes(macro, end):
    """MINIPROXY_CAUSES or what it has with TLS, of miniproxy.h, by log token."""
    with open(os.path.join(ROOT, "miniproxy.h"), encoding="utf-8") as f:
        text = f.read().replace("\\\n", "")
    begin = text.index(f"#define {macro}(X)")
    table = text[begin:text.index(end, begin)]
    rows = re.findall(r'X\((\w+),\s*(\d+),\s*(\w+),\s*"([^"]*)",\s*"([^"]*)"\)', table)
    assert len(rows) == len(re.findall(r"\bX\((?!\))", table)), f"a row of {macro} was not understood"
    return {row[3]: Cause(row[0], int(row[1]), row[2].replace("none", ""), row[3], row[4]) for row in rows}


CAUSES = read_causes("MINIPROXY_CAUSES", "enum miniproxy_cause {")
TLS_CAUSES = read_causes("MINIPROXY_CAUSES_OF_TLS", "#else")
ROUTE_CAUSES = read_causes("MINIPROXY_CAUSES_OF_ROUTES", "#else")


# The least that any run of an image left of each of its stacks, in octets.
stack_left = {}


def cpu_seconds_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


class Proxy:
    """One process. `host` and `port` come from the banner; `event()` reads the JSON log."""

    def __init__(self, directory, *options, binary=None, listen="127.0.0.1:0", descriptors=None, prefix=()):
        self.log = os.path.join(directory, f"proxy-{id(self)}.log")
        self.binary = binary or BINARY
        arguments = [*prefix, self.binary, "--listen", listen, "--log", self.log, "--log-format", "json", *options]
        self.over_tls = secure.OVER_TLS and "--tls-listen" not in options  # a test that has one knows what it does
        if self.over_tls:
            arguments = secure.over_tls(arguments)

        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        environment, self.cable = None, None
        if world.STACK:
            self.cable = world.cables.pop(0)
            environment = dict(os.environ, MINIPROXY_NET=self.cable.environment(connections=descriptors))
            descriptors = None  # what takes descriptors there are connections of the stack
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, preexec_fn=limit, env=environment)
        self.lines, self.clients, self.log_read = [], [], 0
        self.log_records, self.tls_log, self.hop_log, self.alerts, self.heads = [], [], [], [], []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.host, self.port = self._banner()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    def stderr(self):
        return "\n".join(self.lines)

    def line(self, pattern, patience=peers.PATIENCE, after=0):
        """A line on stderr that matches, as re.Match."""
        deadline = time.monotonic() + patience
        while True:
            for text in self.lines[after:]:
                if match := re.search(pattern, text):
                    return match
            if time.monotonic() > deadline or (self.process.poll() is not None and not self.reader.is_alive()):
                raise peers.Late(f"no {pattern!r} on stderr (exit {self.process.poll()}):\n{self.stderr()}")
            time.sleep(0.005)

    def _banner(self):
        try:
            match = self.line(r"https?://(\[[0-9a-f:.]+\]|[0-9.]+):(\d+)")
        except BaseException:
            self.process.kill()
            raise
        return match[1].strip("[]").replace("0.0.0.0", "127.0.0.1"), int(match[2])

    @property
    def at(self):
        """Where clients connect."""
        return (self.cable.reach(self.host) if self.cable else self.host), self.port

    @property
    def url(self):
        (host, port), scheme = self.at, "https" if self.over_tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def seen(self, address):
        """A client's address as the program sees it."""
        if self.cable and address[0] == self.cable.here6:
            return "::1", *address[1:]
        return address

    def wrap(self, sock):
        """A client's connection, with TLS if this proxy's clients speak it."""
        return secure.TlsSocket(sock, secure.own()[2], "localhost") if self.over_tls else sock

    def client(self, source=None, **kind):
        client = peers.Client(self, source, **kind)
        self.clients.append(client)
        return client

    def records(self):
        """All complete lines of the log so far; each must be one JSON object."""
        if os.path.exists(self.log):
            with open(self.log, "rb") as f:
                f.seek(self.log_read)
                data = f.read()
            end = data.rfind(b"\n") + 1
            self.log_read += end
            for record in map(json.loads, data[:end].split(b"\n")[:-1]):
                kinds = {"tls": self.tls_log, "parent": self.hop_log, "member": self.hop_log, "alert": self.alerts,
                         "head": self.heads}
                kinds.get(record["by"], self.log_records).append(record)
        return self.log_records

    def tls_records(self):
        """What TLS has told beside transactions."""
        self.records()
        return self.tls_log

    def hop_records(self, count=1, patience=peers.PATIENCE):
        """At least so many changes of parents or members of groups."""
        deadline = time.monotonic() + patience
        while self.records() is not None and len(self.hop_log) < count:
            if time.monotonic() > deadline:
                raise peers.Late(f"{len(self.hop_log)} of {count} changes came: {self.hop_log}")
            time.sleep(0.005)
        return self.hop_log

    def hop_state(self, authority, state, patience=3 * peers.PATIENCE):
        """Wait until that is the latest news of a parent or a member. The record; None: it was never down."""
        deadline = time.monotonic() + patience
        while True:
            news = [r for r in self.hop_records(0) if r["via"] == authority]
            if (news[-1]["state"] if news else "up") == state:
                return news[-1] if news else None
            if time.monotonic() > deadline:
                raise peers.Late(f"{authority} is not {state}: {self.hop_log}")
            time.sleep(0.005)

    def hops(self):
        """What SIGUSR1 prints of each of them: authority -> state, used, failed."""
        after = len(self.lines)
        self.counters()
        report = "\n".join(self.lines[after:])
        found = re.findall(r"(?:parent|member)=(\S+) state=(\S+) used=(\d+) failed=(\d+)", report)
        return {hop: (state, int(used), int(failed)) for hop, state, used, failed in found}

    def events(self, client, count=1, patience=peers.PATIENCE):
        """At least `count` records of one client's connection, oldest first."""
        deadline = time.monotonic() + patience
        while True:
            mine = [r for r in self.records() if r["client"] == client.address[0] and
                    r.get("client_port", client.address[1]) == client.address[1]]
            if len(mine) >= count:
                return mine
            if time.monotonic() > deadline:
                raise peers.Late(f"{len(mine)} of {count} log records came: {mine}")
            time.sleep(0.005)

    def event(self, client, status=None, patience=peers.PATIENCE):
        """The latest record of a client's connection, with a certain status where one is given."""
        deadline = time.monotonic() + patience
        while (event := self.events(client)[-1])["status"] != status and status is not None:
            if time.monotonic() > deadline:
                raise peers.Late(f"no log record with status {status}: {event}")
            time.sleep(0.005)
        return event

    def counters(self):
        """What SIGUSR1 prints, as a dictionary."""
        after = len(self.lines)
        self.process.send_signal(signal.SIGUSR1)
        text = self.line(r"counters sum .*", after=after)[0]
        return {name: int(value) for name, value in re.findall(r"\b([a-z_0-9.]+)=(\d+)\b", text)}

    def active(self):
        return self.counters()["active"]

    def wait_idle(self, patience=peers.PATIENCE):
        deadline = time.monotonic() + patience
        while (active := self.active()) != 0:
            assert time.monotonic() < deadline, f"{active} sessions are still active"
            time.sleep(0.05)

    def memory_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def cpu_seconds(self):
        """Of the process and its children: a board sleeps when its emulator does."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            return sum(cpu_seconds_of(pid) for pid in (self.process.pid, *f.read().split()))

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, patience=peers.PATIENCE):
        code = self.process.wait(patience)
        self.reader.join(patience)
        self._unplug()
        return code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._unplug()

    def _unplug(self):
        """The cable is free for the next program."""
        if self.cable and self.cable not in world.cables:
            world.cables.append(self.cable)

    def stop(self):
        """Close what the test left open, drain, and expect a clean end: no session may be left over."""
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.terminate()
        try:
            code = self.wait(peers.PATIENCE * 2)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the proxy:\n{self.stderr()}") from None
        assert code == 0, f"exit status {code}:\n{self.stderr()}"
        assert "ERROR: " not in self.stderr() and "runtime error" not in self.stderr(), self.stderr()
        if self.cable:
            self.nothing_left_in_the_stack()
        if world.is_board:
            self.stacks_are_intact()

    def nothing_left_in_the_stack(self):
        """Its account at the end: what the port was given it has given back."""
        account = self.line(r"lwip: .*")[0]
        left = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", account) if name != "refused"}
        assert left and not any(left.values()), account

    def stacks_are_intact(self):
        """All of them were painted at start, and lie where an overflow first takes the last of the paint."""
        report = self.line(r"^stack: .*")[0]
        left = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", report.replace("unused=", "main="))
                if name != "heap"}
        assert len(left) == (3 if "sockets" in world.STACK else 2), report
        for name, octets in left.items():
            stack_left[name] = min(octets, stack_left.get(name, octets))
            assert octets >= STACK_SPARE, report


def refused(proxy, client, *tokens, method="GET", closes=True):
    """The next response is the proxy's own refusal for one of the causes, says so in every way, and closes, does not,
    or (None) may do either but does as it says."""
    message = client.response(method)
    event = proxy.event(client, message.status)
    cause = {**CAUSES, **TLS_CAUSES, **ROUTE_CAUSES}[event["cause"] or "-"]
    assert cause.token in tokens, f"cause {cause.token}, status {message.status}, expected {tokens}"
    assert message.status == cause.status == event["status"]
    assert event["by"] == "proxy"
    check_refusal(message, cause, method)
    says_close = b"close" in message.list("Connection")
    assert closes is None or says_close == closes, message.fields
    if says_close:
        client.closed()
    return message


def check_refusal(message, cause, method="GET"):
    status = message.get("Proxy-Status")
    assert status and re.fullmatch(rb"[A-Za-z*][^;]*; *error=" + cause.type.encode() + rb"(;.*)?", status), status
    assert message.get("Cache-Control") == b"no-store"
    assert message.get("Content-Type") == b"text/plain; charset=utf-8"
    if method == "HEAD":
        assert message.framing == "none"
    else:
        assert message.framing == "length" and cause.text.encode() in message.body, message.body
    extra = {407: "Proxy-Authenticate", 405: "Allow", 503: "Retry-After", 429: "Retry-After"}.get(message.status)
    assert extra is None or extra in message, f"{message.status} without {extra}"
