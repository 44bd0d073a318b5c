# SPDX-License-Identifier: MIT
"""Logs that other programs read: goaccess, fail2ban, a syslog server; and alerts."""
import base64
import collections
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from peers import PATIENCE, answer, request, response, unused_port
from proxy import BINARY, ROOT
from rfc5424 import receive

FILTER = os.path.join(ROOT, "examples", "desktop", "fail2ban", "miniproxy.conf")
VICTIM = "127.66.66.66"  # whom hostile texts accuse
NAME = f'x" 407 1 login_failed proxy 0 - -1 client={VICTIM}'  # of somebody who may log in
FORGED = {
    "clf": f'{VICTIM} - - [29/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 407 1 login_failed proxy 0 - -1',
    "json": f'{{"time":"2026-11-29T12:00:00.000Z","client":"{VICTIM}","by":"proxy","cause":"login_failed"',
    "squid": f"# 2026-11-29T12:00:00.000Z alert threshold=failed_logins state=raised client={VICTIM} value=9 limit=9",
}


def credentials(text):
    return b"Proxy-Authorization: Basic " + base64.b64encode(text.encode())


def tool(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def log_lines(proxy, count, comments=0):
    """All complete lines, at least so many, and so many comments."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with open(proxy.log, "rb") as f:
            lines = f.read().split(b"\n")[:-1]
        found = sum(line.startswith(b"# ") for line in lines)
        if found >= comments and len(lines) - found >= count:
            return [line.decode("ascii") for line in lines]
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)


def some_of_everything(proxy, origin):
    """Eight transactions of all kinds."""
    o = origin()
    client = proxy.client()
    for path in ("/plain", "/query?a=b&c=%22", '/"quoted"\\'):
        client.ask("GET", o.url + path)
    client.ask("POST", o.url + "/form", body=b"x" * 3000)
    client.ask("GET", f"http://127.0.0.1:{unused_port()}/")
    client.ask("GET", "http://nobody:s3cret@127.0.0.1:1/")
    client.close()
    tunnel = proxy.client()
    tunnel.send(request("CONNECT", o.authority))
    tunnel.response("CONNECT")
    tunnel.close()
    refused = proxy.client()
    refused.ask("GET", "ftp://127.0.0.1/")
    refused.close()
    return o


def broken_request(proxy):
    client = proxy.client()
    client.ask("GET", "http://127.0.0.1/\xe4")
    client.close()


def goaccess(proxy, number, tmp_path):
    """What it counts of a log that it must understand completely, set up as the README says."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        settings = re.findall(r"((?:^    [a-z-]+-(?:format|status|validation) .*\n)+)", f.read(), re.M)[number]
    (tmp_path / "goaccess.conf").write_text(re.sub(r"^ +", "", settings, flags=re.M))
    report, invalid = tmp_path / "report.json", tmp_path / "invalid"
    done = subprocess.run([tool("goaccess"), proxy.log, "-p", str(tmp_path / "goaccess.conf"), "-o", str(report),
                           f"--invalid-requests={invalid}"], capture_output=True, text=True, timeout=PATIENCE * 2,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not invalid.exists() or invalid.read_text() == "", invalid.read_text()
    return json.loads(report.read_text())["general"]


def gone_client(proxy, origin):
    """One that does not wait for its answer, of which nothing was sent yet."""
    o, client = origin(lambda peer: (peer.request(), peer.rest())), proxy.client()
    client.send(request("GET", o.url + "/never"))
    deadline = time.monotonic() + PATIENCE
    while not o.peers and time.monotonic() < deadline:
        time.sleep(0.01)
    client.reset()


@pytest.mark.req("G01", "G02")
def test_goaccess_reads_the_common_log_format(start, origin, tmp_path):
    proxy = start("--allow-private", "--connect-ports", "any", "--log-format", "clf", "--alerts",
                  "client-errors=1,least=1")
    some_of_everything(proxy, origin)
    broken_request(proxy)
    gone_client(proxy, origin)
    lines = log_lines(proxy, 10, comments=1)  # which it is to pass over
    assert all(" alert " in line for line in lines if line.startswith("# "))
    lines = [line for line in lines if not line.startswith("# ")]
    assert len(lines) == 10 and "s3cret" not in "".join(lines)
    counted = goaccess(proxy, 0, tmp_path)
    assert (counted["total_requests"], counted["valid_requests"], counted["failed_requests"]) == (10, 10, 0)
    assert counted["bandwidth"] == sum(int(re.search(r'" \d{3} (\d+) ', line)[1]) for line in lines) > 0


SQUID = (r"\d+\.\d{3} +\d+ [0-9a-f.:]+ (TCP_MISS|TCP_TUNNEL|TCP_DENIED|NONE_NONE)(_ABORTED|_TIMEDOUT)?/\d{3} \d+ \S+ \S+ \S+ "
         r"(HIER_NONE/-|HIER_DIRECT/[0-9a-f.:]+|FIRSTUP_PARENT/\S+) -")


@pytest.mark.req("G01", "G02")
def test_goaccess_reads_squids_format(start, origin, tmp_path):
    proxy = start("--allow-private", "--connect-ports", "any", "--log-format", "squid")
    o = some_of_everything(proxy, origin)
    gone_client(proxy, origin)
    lines = log_lines(proxy, 9)
    for line in lines:
        assert re.fullmatch(SQUID, line) and len(line.split()) == 10, line
    assert " TCP_MISS/200 " in lines[0] and lines[0].split()[6] == o.url + "/plain"
    assert lines[2].split()[6] == o.url + "/%22quoted%22%5C"
    found = [line.split()[3] for line in lines]
    assert "TCP_MISS_ABORTED/000" in found and "TCP_MISS/502" in found and "NONE_NONE/501" in found
    assert any(re.fullmatch(r"TCP_TUNNEL(_ABORTED)?/200", code) for code in found)
    assert abs(float(lines[0].split()[0]) - time.time()) < 60
    counted = goaccess(proxy, 1, tmp_path)
    assert (counted["total_requests"], counted["valid_requests"], counted["failed_requests"]) == (9, 9, 0)
    assert counted["bandwidth"] == sum(int(line.split()[4]) for line in lines)
    broken_request(proxy)  # which has no method: goaccess has no use for such a line of Squid's either
    assert re.fullmatch(SQUID, log_lines(proxy, 10)[9]) and " - error:invalid-request - HIER_NONE/- -" in log_lines(proxy, 10)[9]


def hostile_world(proxy, origin):
    """Failed logins among requests that look like some. How many came from whom."""
    o, failed = origin(answer(*[response(b"x")] * 20)), collections.Counter()
    for n, source in enumerate(("127.7.7.1", "127.7.7.2", "127.7.7.3"), 1):
        client = proxy.client(source=source)
        for i in range(n):
            name = list(FORGED.values())[i % 3]
            client.send(request("GET", f"{o.url}/{i}", credentials(f"x\n{name}\n:\r\n{name}\n"),
                                f"User-Agent: {FORGED['clf']}", f"Referer: {FORGED['json']}"))
            assert client.response().status == 407
            failed[source] += 1
        client.close()
    client = proxy.client(source="127.7.7.4")  # has not yet logged in, does, and asks for odd things
    assert client.ask("GET", o.url + "/").status == 407
    own = credentials(f"{NAME}:sesame")
    for text in (*FORGED.values(), '" 407 1 login_failed proxy 0 - -1', '","by":"proxy","cause":"login_failed","x":"',
                 "login_failed%20proxy%0a" + FORGED["clf"]):
        for path in (text.replace(" ", "+"), text.replace(" ", "\t"), text.replace(" ", "\x0b")):
            odd = proxy.client(source="127.7.7.4")
            odd.send(request("GET", f"{o.url}/{path}", own))
            assert odd.response().status in (200, 400)
            odd.close()
    for line in (FORGED["clf"], FORGED["json"], FORGED["squid"]):
        odd = proxy.client(source="127.7.7.5")
        odd.send(line.encode() + b"\r\n\r\n")
        odd.response()
        odd.close()
    client.close()
    return failed


@pytest.fixture
def watched(start):
    def run(log_format, *options):
        return start("--allow-private", "--user", NAME + ":sesame", "--log-format", log_format,
                     "--timeout", "throttle=0.001", *options)
    return run


def ip_counts(log, mode):
    done = subprocess.run([tool("fail2ban-regex"), "-o", "ip", log, f"{FILTER}[mode={mode}]"], capture_output=True,
                          text=True, timeout=PATIENCE * 2)
    assert done.returncode in (0, 1) and "ERROR" not in done.stderr, done.stdout + done.stderr
    return collections.Counter(done.stdout.split())


@pytest.mark.req("A14", "G02")
@pytest.mark.parametrize("log_format", ["clf", "json"])
def test_fail2ban_finds_failed_logins_and_nothing_else(watched, origin, log_format):
    proxy = watched(log_format)
    failed = hostile_world(proxy, origin)
    log_lines(proxy, 28)
    time.sleep(0.05)
    assert ip_counts(proxy.log, "access") == failed == {"127.7.7.1": 1, "127.7.7.2": 2, "127.7.7.3": 3}


@pytest.mark.req("A14", "G02")
def test_fail2ban_finds_alerts_on_standard_error(watched, origin, tmp_path):
    proxy = watched("squid", "--alerts", "logins=2")
    hostile_world(proxy, origin)
    proxy.line("alert threshold=failed_logins state=raised client=127.7.7.3")
    for before in ("Nov 29 12:00:00 gate ", "Nov 29 12:00:00 gate miniproxy[77]: ", "2026-11-29T12:00:00+00:00 gate "):
        with open(tmp_path / "journal", "w", encoding="ascii") as f:
            f.writelines(f"{before}{line}\n" for line in proxy.stderr().splitlines())
        assert ip_counts(str(tmp_path / "journal"), "alerts") == {"127.7.7.2": 1, "127.7.7.3": 1}


ALERT = f"alert threshold=failed_logins state=raised client={VICTIM} value=9 limit=9"


@pytest.mark.req("A14", "G02")
@pytest.mark.parametrize("log_format", ["clf", "squid", "json"])
def test_fail2ban_is_not_misled_by_lines_of_heads(watched, origin, syslog, tmp_path, log_format):
    """They contain blanks, so a client can send all of an alert's line, whoever keeps it in whatever way."""
    proxy = watched(log_format, "--log-heads", "--alerts", "logins=2",
                    "--syslog", f"127.0.0.1:{syslog.getsockname()[1]}")
    forged = [f"X: {before}{ALERT}"
              for before in ("", "miniproxy: ", "# ", "miniproxy[7]: ", "Nov 29 12:00:00 gate miniproxy: ")]
    client = proxy.client(source="127.7.7.2")
    for _ in range(2):
        client.send(request("GET", origin().url + "/", credentials("x:y"), *forged, f"miniproxy: {ALERT}"))
        assert client.response().status == 407
    client.close()
    proxy.line("alert threshold=failed_logins state=raised client=127.7.7.2")
    log_lines(proxy, 2, comments=1 if log_format != "json" else 0)
    datagrams = [syslog.recv(65536).decode("ascii")]
    while " alert - " not in datagrams[-1]:
        datagrams.append(syslog.recv(65536).decode("ascii"))
    with open(proxy.log, encoding="ascii") as f:
        logged = f.readlines()
    assert ALERT in "".join(datagrams) and ALERT in "".join(logged)
    header = re.compile(r"<\d+>1 (\S+) (\S+) (\S+) (\d+) \S+ - ")
    kept = {"datagrams": [d + "\n" for d in datagrams],
            "file": [header.sub(r"\1 \2 \3[\4]: ", d) + "\n" for d in datagrams],
            "traditional": [header.sub(r"Nov 29 12:00:00 \2 \3[\4]: ", d) + "\n" for d in datagrams],
            "log": logged}
    said = logged + [line + "\n" for line in proxy.stderr().splitlines()]
    for before in ("Nov 29 12:00:00 gate miniproxy[77]: ", "2026-11-29T12:00:00+00:00 gate miniproxy[77]: "):
        kept["journal of " + before[:3]] = [before + line for line in said]
    for name, lines in kept.items():
        (tmp_path / "kept").write_text("".join(lines), encoding="ascii")
        found = ip_counts(str(tmp_path / "kept"), "alerts")
        assert VICTIM not in found, name
        is_read = name != "datagrams" and (name != "log" or log_format == "json")  # by the tool that tries filters
        assert set(found) == ({"127.7.7.2"} if is_read else set()), name
        assert VICTIM not in ip_counts(str(tmp_path / "kept"), "access"), name


JAIL = """[DEFAULT]
backend = polling
usedns = no
[miniproxy]
enabled = true
filter = miniproxy[mode=alerts]
logpath = {log}
maxretry = 1
action = note
"""
SERVER = """[Definition]
loglevel = INFO
logtarget = {here}/messages
syslogsocket = auto
socket = {here}/socket
pidfile = {here}/pid
dbfile = None
dbpurgeage = 1d
dbmaxmatches = 10
allowipv6 = auto
[Thread]
stacksize = 0
"""


@pytest.mark.req("A14", "G02")
@pytest.mark.parametrize("log_format", ["clf", "squid", "json"])
def test_fail2ban_bans_whom_alerts_tell_of(watched, origin, tmp_path, log_format):
    """The server itself: its tool to try a filter does not look at lines that begin with #."""
    server = tool("fail2ban-server")
    here = tmp_path / "f2b"
    for name in ("filter.d", "action.d"):
        (here / name).mkdir(parents=True)
    shutil.copy(FILTER, here / "filter.d")
    proxy = watched(log_format, "--alerts", "logins=2")
    (here / "fail2ban.conf").write_text(SERVER.format(here=here))
    (here / "jail.conf").write_text(JAIL.format(log=proxy.log))
    (here / "action.d" / "note.conf").write_text(f"[Definition]\nactionban = echo <ip> >> {here}/bans\n")
    command = [server, "-xf", "-c", str(here), "-s", str(here / "socket"), "-p", str(here / "pid"), "start"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        hostile_world(proxy, origin)
        deadline = time.monotonic() + 6 * PATIENCE
        while not (here / "bans").exists() or len((here / "bans").read_text().split()) < 2:
            assert time.monotonic() < deadline and running.poll() is None, (here / "messages").read_text()
            time.sleep(0.1)
        time.sleep(2)
        assert sorted((here / "bans").read_text().split()) == ["127.7.7.2", "127.7.7.3"]
    finally:
        running.terminate()
        running.wait(PATIENCE * 2)


@pytest.mark.req("G02")
def test_json_lines_are_json(watched, origin):
    proxy = watched("json", "--alerts", "logins=2")
    hostile_world(proxy, origin)
    for line in log_lines(proxy, 28):
        assert isinstance(json.loads(line), dict)


@pytest.mark.req("G01", "C01")
def test_requests_that_went_nowhere_name_no_origin(start, origin):
    """Also where the client's connection has one to an origin that an earlier request left."""
    o, proxy = origin(), start("--allow-private")
    client = proxy.client()
    assert client.ask("GET", o.url + "/1").status == 200
    assert client.ask("OPTIONS", "*", host="proxy.example").status == 200
    assert client.ask("GET", o.url + "/2").status == 200
    assert client.ask("GET", o.url + "/3").status == 200
    assert client.ask("GET", "ftp://127.0.0.1/").status == 501
    events = proxy.events(client, 5)
    assert [e["address"] for e in events] == [o.authority, None, o.authority, o.authority, None]
    assert [e["reused"] for e in events] == [False, False, False, True, False]


@pytest.mark.req("A14", "G02")
def test_alerts_are_not_about_watchers_nor_about_logins_that_are_asked_for(start, origin):
    """Health checks make no errors fewer, and those who wait to be asked for a login make none."""
    o = origin(answer(*[response(b"x")] * 20))
    proxy = start("--allow-private", "--user", "u:sesame", "--alerts", "server-errors=50,client-errors=50,least=10")
    for path in (o.url + "/", f"http://127.0.0.1:{unused_port()}/"):
        for _ in range(10):
            client = proxy.client()
            assert client.ask("GET", o.url + "/").status == 407
            client.send(request("GET", path, credentials("u:sesame")))
            assert client.response().status == (200 if path.startswith(o.url) else 502)
            client.send(request("GET", "/health", host="127.0.0.1"))
            assert client.response().status == 200
            client.close()
    for _ in range(20):
        client = proxy.client()
        client.send(request("GET", path, credentials("u:sesame")))
        assert client.response().status == 502
        client.close()
    proxy.line("alert threshold=server_errors state=raised value=50 limit=50")
    assert "client_errors" not in proxy.stderr()


# ---- Syslog

@pytest.fixture
def syslog():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock


@pytest.mark.req("G01", "G02")
def test_syslog(start, origin, syslog):
    o, proxy = origin(), start("--allow-private", "--syslog", f"127.0.0.1:{syslog.getsockname()[1]}", "--alerts",
                               "client-errors=1,least=2")
    client = proxy.client()
    client.ask("GET", o.url + '/"a"b?c')
    match, words = receive(syslog)
    assert (match["priority"], match["app"], match["id"]) == (str(3 * 8 + 6), "miniproxy", "transaction")
    assert match["process"].isdigit()
    event = proxy.event(client)
    assert words["target"] == o.url + r"/\x22a\x22b?c" and words["method"] == "GET"
    for key in ("client", "client_port", "status", "bytes_up", "bytes_down", "by", "address"):
        assert words[key] == str(event[key])
    client.ask("CONNECT", "127.0.0.1:22")
    match, words = receive(syslog)
    assert (match["priority"], words["cause"]) == (str(3 * 8 + 5), "connect_port_denied")
    match, words = receive(syslog)
    assert (match["priority"], match["id"], words["threshold"]) == (str(3 * 8 + 4), "alert", "client_errors")


@pytest.mark.req("G01")
def test_syslog_lines_are_cut_to_what_a_datagram_holds(start, origin, syslog):
    o, proxy = origin(), start("--allow-private", "--syslog", f"127.0.0.1:{syslog.getsockname()[1]}")
    client = proxy.client()
    client.ask("GET", o.url + "/" + "t" * 500 + '"' * 450)
    client.ask("GET", o.url + "/next")
    match, words = receive(syslog)
    assert len(match[0]) <= 2048 and words["target"].startswith(o.url + "/ttt")
    assert receive(syslog)[1]["target"] == o.url + "/next"


@pytest.mark.req("G01", "Z03")
def test_nobody_listens_to_syslog(start, origin):
    o, proxy = origin(), start("--allow-private", "--syslog", f"127.0.0.1:{unused_port()}")
    client = proxy.client()
    for i in range(20):
        assert client.ask("GET", f"{o.url}/{i}").status == 200
    assert len(proxy.events(client, 20)) == 20
    assert "syslog_dropped" in proxy.counters()


@pytest.mark.req("G01", "Z03")
def test_syslog_that_cannot_be_reached(start, origin, isolated):
    """Lines are dropped and counted, and nobody waits."""
    o, proxy = origin(), start("--allow-private", "--syslog", "203.0.113.9:514")
    client = proxy.client()
    for i in range(5):
        assert client.ask("GET", f"{o.url}/{i}").status == 200
    assert len(proxy.events(client, 5)) == 5
    assert proxy.counters()["syslog_dropped"] >= 5


@pytest.mark.req("G01", "Z04")
def test_syslog_by_ipv6(start, origin, ipv6):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        sock.settimeout(PATIENCE)
        o, proxy = origin(), start("--allow-private", "--syslog", f"[::1]:{sock.getsockname()[1]}")
        proxy.client().ask("GET", o.url + "/")
        assert receive(sock)[1]["target"] == o.url + "/"


# ---- Alerts

def alerts(proxy, count, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while proxy.records() is not None and len(proxy.alerts) < count:
        assert time.monotonic() < deadline, proxy.alerts
        time.sleep(0.01)
    return [(a["threshold"], a["state"]) for a in proxy.alerts]


@pytest.mark.req("G04")
def test_alert_of_errors_is_told_once_and_once_over(start, origin):
    o = origin()
    proxy = start("--allow-private", "--alerts", "server-errors=30,least=5,window=2")
    client, dead = proxy.client(), f"http://127.0.0.1:{unused_port()}/"
    for _ in range(30):
        assert client.ask("GET", dead).status == 502
    assert alerts(proxy, 1) == [("server_errors", "raised")]
    assert alerts(proxy, 2) == [("server_errors", "raised"), ("server_errors", "over")]  # by time alone
    proxy.line("miniproxy: alert threshold=server_errors state=over value=0 limit=30$")
    for _ in range(30):
        assert client.ask("GET", o.url + "/").status == 200
    client.ask("GET", dead)
    time.sleep(0.3)
    assert len(alerts(proxy, 2)) == 2


@pytest.mark.req("G04", "S05")
def test_alert_of_sessions(small):
    proxy = small("--alerts", "sessions=75,buffers=0")
    clients = [proxy.client() for _ in range(3)]
    for client in clients:
        client.send(b"GET ")
    assert alerts(proxy, 1) == [("sessions", "raised")]
    clients[0].close()
    clients[1].close()
    assert alerts(proxy, 2) == [("sessions", "raised"), ("sessions", "over")]


@pytest.mark.req("A14")
def test_alert_of_failed_logins(start):
    proxy = start("--allow-private", "--user", "anna:sesame", "--alerts", "logins=4,window=1,client-errors=0")
    one, other = proxy.client(), proxy.client()
    for _ in range(10):
        one.ask("GET", "http://127.0.0.1:1/", credentials("anna:wrong"))
        other.ask("GET", "http://127.0.0.1:1/")
    assert alerts(proxy, 2) == [("failed_logins", "raised"), ("failed_logins", "over")]
    assert {a["client"] for a in proxy.alerts} == {one.address[0]}


@pytest.mark.req("G05")
def test_alert_of_a_parent(start, origin):
    port = unused_port()
    proxy = start("--parent", f"http://127.0.0.1:{port}", "--check", "1", "--alerts", "server-errors=0")
    assert alerts(proxy, 1, 6 * PATIENCE) == [("hop_down", "raised")]
    assert proxy.alerts[0]["parent"] == f"127.0.0.1:{port}"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        assert alerts(proxy, 2, 12 * PATIENCE) == [("hop_down", "raised"), ("hop_down", "over")]


@pytest.mark.req("G04")
def test_no_alerts(start):
    proxy = start("--allow-private", "--alerts", "off")
    client = proxy.client()
    for _ in range(60):
        assert client.ask("GET", "http://127.0.0.1:1/").status == 502
    assert "alert" not in proxy.stderr() and not alerts(proxy, 0)


@pytest.mark.req("G04", "A14")
def test_workers_share_their_alerts(start):
    proxy = start("--allow-private", "--workers", "3", "--user", "anna:sesame", "--alerts", "logins=30,client-errors=0")
    source = "127.7.7.9"
    for _ in range(30):
        client = proxy.client(source=source)
        client.ask("GET", "http://127.0.0.1:1/", credentials("anna:wrong"))
        client.close()
    assert alerts(proxy, 1) == [("failed_logins", "raised")]


# ---- Readers that are slow, or stop

def fifo(tmp_path):
    """A FIFO and a descriptor of its reader, who reads nothing of himself."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def read_for(fd, enough):
    """What comes, until it is enough."""
    data, deadline = b"", time.monotonic() + PATIENCE
    while not enough(data):
        assert time.monotonic() < deadline, f"{len(data)} octets came"
        try:
            data += os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.01)
    return data


def ask_often(proxy, count):
    """By lines of all sizes: some do not go into a pipe in one piece."""
    for i in range(count):
        client = proxy.client()
        assert client.ask("GET", "http://127.0.0.1:1/" + "t" * (100, 5000, 30000)[i % 3]).status == 403
        client.close()


@pytest.mark.req("G01", "Z08")
@pytest.mark.parametrize("workers", [1, 3])
def test_nobody_reads_the_log(start, tmp_path, workers):
    """It serves, and ends by signals. What comes out is whole lines; the others are counted."""
    path, reader = fifo(tmp_path)
    proxy = start("--log", path, "--workers", str(workers), "--alerts", "off")
    ask_often(proxy, 300)
    proxy.wait_idle()
    lost = proxy.counters()["log_lines_lost"]
    assert 0 < lost < 300 and "cannot write the log: nobody reads it" in proxy.stderr()
    data = read_for(reader, lambda data: data.count(b"\n") == 300 - lost)  # nothing more has to be logged for that
    assert data.endswith(b"\n") and all(json.loads(line)["status"] == 403 for line in data.splitlines())
    ask_often(proxy, 3)
    assert read_for(reader, lambda data: data.count(b"\n") == 3).endswith(b"\n")
    ask_often(proxy, 300)
    proxy.wait_idle()
    assert proxy.counters()["log_lines_lost"] > lost
    proxy.stop()
    os.close(reader)


@pytest.mark.req("G01")
def test_a_slow_reader_misses_nothing(start, tmp_path):
    """It takes a while to begin, and the pipe is full by then."""
    path, reader = fifo(tmp_path)
    proxy = start("--log", path, "--alerts", "off")
    ask_often(proxy, 30)
    proxy.terminate()
    data = read_for(reader, lambda data: data.count(b"\n") == 30)
    assert [json.loads(line)["status"] for line in data.splitlines()] == [403] * 30
    assert proxy.wait() == 0 and "log_lines_lost" not in proxy.stderr()
    os.close(reader)


@pytest.mark.req("G01", "Z08")
def test_the_reader_of_a_log_leaves(start, tmp_path):
    path, reader = fifo(tmp_path)
    proxy = start("--log", path)
    ask_often(proxy, 1)
    read_for(reader, lambda data: data.endswith(b"\n"))
    os.close(reader)
    ask_often(proxy, 1)
    proxy.line("cannot write the log: Broken pipe")
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line(f"cannot write the log {path}: nobody reads it")
    proxy.line("reloaded")
    assert proxy.counters()["log_lines_lost"] == 1
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    ask_often(proxy, 1)
    read_for(reader, lambda data: data.endswith(b"\n"))
    os.close(reader)


@pytest.mark.req("G01", "R07")
def test_a_log_that_nobody_reads_yet(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    done = subprocess.run([BINARY, "--listen", "127.0.0.1:0", "--log", path], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and done.stderr == f"miniproxy: cannot write the log {path}: nobody reads it\n".encode()


@pytest.mark.req("G04", "Z08")
@pytest.mark.parametrize("policy", [False, True])
def test_nobody_reads_standard_error(tmp_path, policy):
    """Counters, and what is wrong with a policy, are not waited for either."""
    (tmp_path / "policy").write_text("allow from any methods pages\n", encoding="ascii")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    port = unused_port()
    process = subprocess.Popen([BINARY, "--listen", f"127.0.0.1:{port}", "--log", str(tmp_path / "log"), *(
        ["--policy", str(tmp_path / "policy")] if policy else [])], stderr=writer)
    os.close(writer)
    try:
        assert b"try: curl" in read_for(reader, lambda data: b"try: curl" in data)
        (tmp_path / "policy").write_text("nonsense\n", encoding="ascii")
        for _ in range(30 if not policy else 200):
            process.send_signal(signal.SIGHUP if policy else signal.SIGUSR1)
            time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


@pytest.mark.req("R07")
def test_a_start_that_waits_ends_by_a_signal(tmp_path):
    os.mkfifo(tmp_path / "users")
    process = subprocess.Popen([BINARY, "--listen", "127.0.0.1:0", "--users", str(tmp_path / "users")])
    time.sleep(0.5)
    process.terminate()
    assert process.wait(PATIENCE) == -signal.SIGTERM


# ---- Options

@pytest.mark.req("R07")
@pytest.mark.parametrize("options", [["--log-format", "Squid"], ["--syslog", "localhost:514"], ["--syslog", "127.0.0.1"],
                                     ["--syslog", "127.0.0.1:0"], ["--syslog", "::1:514"], ["--alerts", ""],
                                     ["--alerts", "x=1"], ["--alerts", "logins"], ["--alerts", "logins=-1"],
                                     ["--alerts", "server-errors=101"], ["--alerts", "window=0"],
                                     ["--alerts", "logins=1,"], ["--alerts", "parents=2"],
                                     ["--alerts", "logins=65536"]])
def test_wrong_options(options):
    done = subprocess.run([BINARY, *options], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.startswith(b"miniproxy: --") and done.stderr.count(b"\n") == 1


@pytest.mark.req("G01")
def test_heads_may_be_asked_for(start, origin):
    o, proxy = origin(), start("--allow-private", "--log-heads")
    client = proxy.client()
    assert client.ask("GET", o.url + "/", credentials("anna:s3cret")).status == 200
    proxy.event(client)
    assert all(head["client"] == client.address[0] for head in proxy.heads)
    with open(proxy.log, "rb") as f:
        assert credentials("anna:s3cret").split()[-1] not in f.read()
