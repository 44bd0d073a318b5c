# SPDX-License-Identifier: MIT
"""What can be seen of a proxy from inside, on POSIX: the metrics, read by a strict parser and compared with what was sent,
and the status page in headless Chromium. Writes build/results/status.tsv and build/status-posix-*.png.

    status.py SERVER BARE      the same program, and one that remembers no transactions
"""
import functools
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import watch  # noqa: E402
from chromium import run_suite  # noqa: E402
import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import world  # noqa: E402

SERVER, BARE = sys.argv[1:]
BODY = b"x" * 5000


def origin(peer):
    """/STATUS/OCTETS is answered so."""
    while True:
        try:
            message = peers.read_request(peer)
        except peers.Cut:
            return
        status, _, size = message.target.decode().strip("/").partition("/")
        status, body = int(status) if status.isdigit() else 200, BODY[:int(size)] if size.isdigit() else b""
        peer.send(peers.response(body, status=status))


def echo(peer):
    while data := peer.some():
        peer.send(data)


class Server:
    def __init__(self, port=0, program=SERVER):
        self.process = subprocess.Popen([program, str(port), str(peers.unused_port())], stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def get(self, path):
        """(status, Content-Type, body) of a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.getheader("Content-Type"), answer.read()
        connection.close()
        return found

    def ask(self, target, method="GET", body=None):
        """The status of a request for another server, and the octets of it and of its answer."""
        wire = self.connect()
        data = peers.request(method, target, body=body)
        wire.send(data)
        message = peers.read_response(wire, method)
        wire.close()
        return message.status, len(data), len(wire.received)

    def connect(self):
        return peers.Wire(peers.socket.create_connection(("127.0.0.1", self.port), timeout=10))

    def metrics(self):
        """{name: {labels' values: value}}, as a strict parser reads them."""
        status, kind, body = self.get("/metrics")
        assert status == 200 and kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", (status, kind)
        return watch.strictly(body.decode())

    def quiet(self):
        """The metrics when only who asks for them is connected."""
        deadline = time.monotonic() + 10
        while (found := self.metrics())["miniproxy_sessions"][()] > 1:
            assert time.monotonic() < deadline, found["miniproxy_sessions"]
            time.sleep(0.05)
        return found

    def maintain(self):
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10) == 0


class Traffic:
    """What was asked for, and what came of it."""

    def __init__(self, server):
        self.server, self.origin, self.echo = server, peers.Origin(origin), peers.Origin(echo)
        self.at = f"127.0.0.1:{self.origin.port}"
        self.codes, self.causes, self.hits, self.up, self.down = {}, {}, {}, 0, 0

    def ask(self, wanted, target, method="GET", body=None, cause=None, rule=None):
        target = target if "://" in target else f"http://{self.at}{target}"
        status, up, down = self.server.ask(target, method, body)
        assert status == wanted, (target, status)
        self.note(status, up, down, cause, rule)

    def note(self, status, up, down, cause=None, rule=None):
        self.codes[status] = self.codes.get(status, 0) + 1
        if rule:
            self.hits[rule] = self.hits.get(rule, 0) + 1
        if cause:
            self.causes[cause, status] = self.causes.get((cause, status), 0) + 1
        self.up, self.down = self.up + up, self.down + down

    def raw(self, data, cause, rule=None):
        wire = self.server.connect()
        wire.send(data)
        message = peers.read_response(wire)
        wire.close()
        self.note(message.status, len(data), len(wire.received), cause, rule)

    def tunnel(self, size):
        wire = self.server.connect()
        wire.send(data := peers.request("CONNECT", f"127.0.0.1:{self.echo.port}"))
        assert peers.read_response(wire, "CONNECT").status == 200
        wire.send(bytes(size))
        wire.exactly(size)
        wire.close()
        self.note(200, len(data) + size, len(wire.received), rule="3")

    def varied(self):
        for size in (0, 1, 5000):
            self.ask(200, f"/200/{size}", rule="3")
        self.ask(404, "/404/12", rule="3")
        self.ask(418, "/418/0", rule="3")
        self.ask(201, "/201/0", "POST", body=BODY, rule="3")
        self.ask(403, "/200/0", "DELETE", cause="policy_denied", rule="2")
        self.ask(403, "http://www.forbidden.test/", cause="policy_denied", rule="1")
        self.raw(b"TRACE http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nMax-Forwards: 0\r\n\r\n", "trace_refused", "3")
        self.ask(502, f"http://127.0.0.1:{peers.unused_port()}/", cause="connection_refused", rule="3")
        self.ask(502, "http://nowhere.test/", cause="name_not_found", rule="3")
        self.ask(503, "http://www.parent.test/", cause="no_parent", rule="3")
        self.ask(503, "http://www.parent.test/", cause="no_parent", rule="3")
        self.raw(b"GET\r\n\r\n", "bad_request_line")
        self.tunnel(30000)

    def stop(self):
        self.origin.stop()
        self.echo.stop()


# ---- Metrics

def metrics_are_what_was_sent(server):
    traffic = Traffic(server)
    assert server.get("/health")[0] == 200
    traffic.varied()
    found = server.quiet()

    def total(name, labels=()):
        return found[f"miniproxy_{name}_total"][labels]

    def counted(name):
        return {labels: n for labels, n in found[f"miniproxy_{name}_total"].items() if n}

    codes = {(str(code),): n for code, n in traffic.codes.items() if code != 418}  # which has no counter of its own
    assert counted("codes") == codes, (counted("codes"), codes)
    by_class = {}
    for code, n in traffic.codes.items():
        by_class[f"{code // 100}xx",] = by_class.get((f"{code // 100}xx",), 0) + n
    assert counted("responses") == by_class
    assert counted("causes") == {(cause, str(status)): n for (cause, status), n in traffic.causes.items()}, counted("causes")
    assert total("requests") == sum(traffic.codes.values()) == found["miniproxy_transaction_seconds_count"][()]
    hits = counted("rule_hits")
    assert hits.pop(("0",)) == total("pages")
    assert hits == {(rule,): n for rule, n in traffic.hits.items()}, hits
    own = (total("pages_received_bytes"), total("pages_sent_bytes"))
    assert own[0] > 0 and own[1] > 0
    this = total("received_bytes") - own[0] - traffic.up  # the request for these metrics
    assert 0 < this < 200 and total("sent_bytes") - own[1] == traffic.down, (this, traffic.up, traffic.down, found)
    assert total("tunnels") == 1
    (hop,) = found["miniproxy_hop_up"]
    assert found["miniproxy_hop_up"][hop] == 0 and total("hop_failures", hop) == 1 and total("hop_uses", hop) == 0
    assert found["miniproxy_dns_seconds_count"][()] == 1 and found["miniproxy_connect_seconds_count"][()] == 7
    assert found["miniproxy_sessions_limit"][()] == 12 and found["miniproxy_buffers_limit"][()] == 8
    assert found["miniproxy_buffers_peak"][()] >= 1 and found["miniproxy_buffers"][()] <= 2
    assert found["tank_level"] == {("left",): 3, ("right",): 5} and found["board_uptime_seconds"] == {(): 4217.5}
    traffic.stop()


def condition_is_told(server):
    def condition():
        return [labels[0] for labels, value in server.metrics()["miniproxy_condition"].items() if value]

    assert condition() == ["ok"] and server.get("/health") == (200, "text/plain; charset=utf-8", b"ok\n")
    server.maintain()
    assert condition() == ["maintenance"] and server.get("/health")[::2] == (503, b"maintenance\n")
    assert server.ask("http://127.0.0.1:9/")[0] == 503
    server.maintain()
    assert condition() == ["ok"] and server.get("/health")[0] == 200
    assert server.metrics()["miniproxy_causes_total"]["maintenance", "503"] == 1


def log_is_json_lines(server):
    records = [json.loads(line) for line in server.get("/log")[2].splitlines()]
    assert [r["ago_ms"] for r in records] == sorted(r["ago_ms"] for r in records)
    assert not any(r["target"] in ("/metrics", "/log", "/health") for r in records), records
    (denied,) = [r for r in records if r["method"] == "DELETE"]
    assert denied["cause"] == "policy_denied" and denied["rule"] == 2 and denied["status"] == 403
    assert denied["by"] == "proxy" and denied["client"] == "127.0.0.1"


def watchers_change_nothing(server):
    before = server.metrics()
    for _ in range(5):
        server.get("/")
        server.get("/log")
    after = server.metrics()
    for name in ("requests_total", "responses_total", "codes_total", "causes_total", "transaction_seconds_count"):
        assert before[f"miniproxy_{name}"] == after[f"miniproxy_{name}"], name
    assert after["miniproxy_pages_total"][()] - before["miniproxy_pages_total"][()] == 11
    assert server.ask("http://miniproxy.internal/nothing")[0] == 404
    assert server.metrics()["miniproxy_causes_total"]["no_such_page", "404"] == 1


def workers_are_counted_together(directory):
    """The desktop program with two of them: whoever is asked answers for both."""
    proxy = proxies.Proxy(directory, "--workers", "2", "--allow-private", "--connect-ports", "any")
    watched = types.SimpleNamespace(port=proxy.port)
    watched.get, watched.connect = (functools.partial(f, watched) for f in (Server.get, Server.connect))
    watched.ask, watched.metrics = (functools.partial(f, watched) for f in (Server.ask, Server.metrics))
    traffic = Traffic(watched)
    try:
        for _ in range(12):
            traffic.ask(200, "/200/1000")
            assert watched.get("/health")[0] == 200
        deadline, pages = time.monotonic() + 10, 12
        while (found := watched.metrics())["miniproxy_requests_total"][()] < 12 or found["miniproxy_pages_total"][()] < pages:
            assert time.monotonic() < deadline, (pages, found)
            time.sleep(0.1)
            pages += 1
        assert found["miniproxy_codes_total"]["200",] == 12 and watched.get("/")[2].startswith(b"<!doctype html>")
    finally:
        traffic.stop()
        proxy.stop()


# ---- The status page

def shows_what_was_sent(browser, server):
    browser.size("desk")
    traffic = Traffic(server)
    before = server.metrics()
    browser.wait("document.getElementById('qp').textContent.includes('in all')")
    for _ in range(20):
        traffic.ask(200, "/200/5000", rule="3")
    traffic.varied()
    done = before["miniproxy_requests_total"][()] + sum(traffic.codes.values())
    browser.wait(f"document.getElementById('qp').textContent.includes(', {done:.0f} in all')")
    assert browser.value("document.getElementById('c').textContent") == "ok"
    assert browser.value("document.getElementById('sp').textContent").startswith("of 12, peak ")
    assert browser.wait("parseFloat(document.getElementById('q').textContent) > 1")
    errors = browser.value(watch.rows("Errors by cause"))
    counts = [int(row[-1]) for row in errors]
    assert counts == sorted(counts, reverse=True)
    assert ["policy_denied\n403", "2"] in [[row[0].strip(), row[-1]] for row in errors], errors
    assert [row[1] for row in browser.value(watch.rows("Parents"))] == ["down"]
    red = browser.value("[...document.querySelectorAll('td.e')].map(e => e.firstChild.data)")
    assert {"down", "5xx", "403"} <= set(red) and all(re.fullmatch("down|[45](xx|[0-9]{2})", text) for text in red), red
    assert ["left", "3", "8"] in browser.value(watch.rows("tank"))
    refusals = browser.value(watch.rows("Last refusals and failures"))
    assert any(row[1] == "403" and "GET http://www.forbidden.test/\npolicy_denied, rule 1\n127.0.0.1" in row[2]
               for row in refusals), refusals
    assert any("GET http://" in row[2] for row in browser.value(watch.rows("Last transactions")))
    assert watch.hostile_request(server.port, f"127.0.0.1:{peers.unused_port()}") == 502
    assert watch.hostile_request(server.port, traffic.at) == 200
    traffic.stop()


def shows_maintenance(browser, server):
    server.maintain()
    browser.wait("document.getElementById('c').textContent == 'maintenance' && document.title == 'miniproxy: maintenance'")
    server.maintain()
    browser.wait("document.getElementById('c').textContent == 'ok' && document.title == 'miniproxy'")


def does_without_log(browser):
    server = Server(program=BARE)
    try:
        browser.asked.clear()
        browser.load(f"http://127.0.0.1:{server.port}/")
        watch.is_live(browser)
        browser.call("Runtime.evaluate", awaitPromise=True, expression="new Promise(r => setTimeout(r, 5000))")
        paths = [url.rpartition("/")[2] for url in browser.asked if url.startswith("http")]
        assert paths.count("log") == 1 and paths.count("metrics") >= 3, paths
        watch.is_live(browser)
    finally:
        server.stop()


def body(results, directory):
    def metrics(name, case, *arguments):
        results.run(name, case, *arguments)

    world.Names()
    server = Server()
    try:
        metrics("a strict parser reads the metrics, and they are what was sent", metrics_are_what_was_sent, server)
        metrics("the last transactions as lines of JSON, without pages", log_is_json_lines, server)
        metrics("condition, health and maintenance", condition_is_told, server)
        metrics("who watches changes no other counter", watchers_change_nothing, server)
        metrics("two workers count together", workers_are_counted_together, directory)
    finally:
        server.stop()
    server, browser, url = Server(), watch.Watcher(directory), None
    try:
        url = f"http://127.0.0.1:{server.port}/"
        results.run("the status page opens", lambda: (browser.open_page(), browser.load(url), watch.is_live(browser)))
        results.run("it shows what was sent", shows_what_was_sent, browser, server)
        results.run("what a hostile client sent stays text", watch.stays_text, browser)
        results.run("it fits and is legible at 375 and 1200 pixels, light and dark", watch.fits, browser, "posix")
        results.run("it shows maintenance", shows_maintenance, browser, server)
        results.run("it pauses while nobody looks", watch.pauses_while_hidden, browser)
        results.run("it asks its proxy alone, one thing at a time", watch.asks_only_its_proxy, browser, url)
        server.stop()
        results.run("it says that nobody answers", watch.says_no_answer, browser)
        server = Server(server.port)
        results.run("and goes on when somebody does", watch.is_live, browser)
        results.run("it does without /log", does_without_log, browser)
    finally:
        browser.stop()
        server.stop()


if __name__ == "__main__":
    sys.exit(run_suite("status", body))
