# SPDX-License-Identifier: MIT
"""What can be seen of a board from inside, in the emulator: its pages for operators, metrics read by a strict parser, the
status page in headless Chromium, maintenance by the console. Writes build/results/firmware-status.tsv and
build/status-BOARD-*.png."""
import base64
import functools
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), part) for part in ("e2e", "status")] + [HERE]

import watch  # noqa: E402
from board import HOST, Board  # noqa: E402
from chromium import PASSWORD, USER, run_suite, serve  # noqa: E402
import peers  # noqa: E402

BOARDS = ("lm3s6965-raw", "mps2_an385-sockets")
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PROXY_LOGIN = f"Proxy-Authorization: Basic {LOGIN}\r\n"


def curl(*arguments):
    """(status, body)"""
    got = subprocess.run(["curl", "-sS", "-m", "20", "-w", "\n%{http_code}", *arguments], capture_output=True, check=True,
                         env={})
    body, _, status = got.stdout.rpartition(b"\n")
    return int(status), body.decode(errors="replace")


class Pages:
    def __init__(self, board):
        self.board, self.url = board, f"http://127.0.0.1:{board.port}/"

    def get(self, path, login=True):
        return curl(*["-u", f"{USER}:{PASSWORD}"] * login, self.url + path)

    def ask(self, url):
        return curl("-x", self.url, "-U", f"{USER}:{PASSWORD}", url)[0]

    def metrics(self):
        status, body = self.get("metrics")
        assert status == 200
        return watch.strictly(body)


def are_for_operators(pages):
    for path in ("", "health", "metrics", "log"):
        status, body = pages.get(path, login=False)
        assert status == 401 and "page_login_missing" in body, (path, status, body)
    assert pages.get("health") == (200, "ok\n")
    assert curl("-u", "display:wrong", pages.url + "health")[0] == 401
    assert pages.get("")[1].startswith("<!doctype html>")


def metrics_are_what_was_sent(pages, port):
    before = pages.metrics()
    for path, wanted in (("/0.png", 200), ("/missing", 404), ("/1.png", 200)):
        assert pages.ask(f"http://{HOST}:{port}{path}") == wanted
    assert pages.ask("http://tracker.example/") == 403 and pages.ask(f"http://{HOST}:{peers.unused_port()}/") == 502
    after = pages.metrics()

    def more(name, *labels):
        return after[f"miniproxy_{name}"][labels] - before[f"miniproxy_{name}"][labels]

    assert [more("codes_total", code) for code in ("200", "404", "403", "502")] == [2, 1, 1, 1]
    assert more("requests_total") == 5 and more("transaction_seconds_count") == 5
    assert more("causes_total", "policy_denied", "403") == more("causes_total", "connection_refused", "502") == 1
    assert more("pages_total") == 1
    assert more("pages_sent_bytes_total") > 5000


def metrics_of_the_board(pages):
    found, console = pages.metrics(), pages.board.counters()
    pools = {pool for pool, in found["lwip_pool_used"]}
    assert pools >= {"tcp_pcb", "tcp_seg", "pbuf_pool", "heap"}, pools
    for (pool,), limit in found["lwip_pool_limit"].items():
        assert console[f"{pool}.of"] == limit and 0 <= found["lwip_pool_used"][pool,] <= found["lwip_pool_peak"][pool,]
        assert found["lwip_pool_peak"][pool,] <= limit and found["lwip_pool_failures_total"][pool,] == 0, pool
    assert found["board_stack_bytes"][()] == console["stack.size"]
    assert 0 < found["board_frames_received_total"][()] <= console["net.received"]
    assert 0 <= found["board_uptime_seconds"][()] < 600


def log_is_json_lines(pages):
    records = [json.loads(line) for line in pages.get("log")[1].splitlines()]
    assert any(r["cause"] == "policy_denied" and r["rule"] == 0 and r["user"] == USER and r["status"] == 403 for r in records)
    assert any(r["by"] == "origin" and r["status"] == 404 and r["target"].endswith("/missing") for r in records), records
    assert not any(r["target"] == "/metrics" and r["status"] == 200 for r in records)


def maintenance_by_the_console(pages):
    def toggle(word):
        after = len(pages.board.lines)
        pages.board.type("m")
        pages.board.line(f"^maintenance {word}$", after=after)

    toggle("begins")
    assert pages.get("health") == (503, "maintenance\n")
    assert pages.ask(f"http://{HOST}:9/") == 503
    toggle("ends")
    assert pages.get("health") == (200, "ok\n") and pages.ask(f"http://{HOST}:9/") == 502


def page_shows_what_is_sent(browser, pages, port):
    browser.size("desk")
    done = browser.wait("/([\\d,]+) in all/.test(document.getElementById('qp').textContent) && RegExp.$1")
    for i in range(4):
        assert pages.ask(f"http://{HOST}:{port}/{i}.png") == 200
    assert pages.ask("http://tracker.example/") == 403
    done = int(done.replace(",", "")) + 5
    browser.wait(f"document.getElementById('qp').textContent.includes(', {done} in all')")
    assert browser.value("document.getElementById('sp').textContent").startswith("of 8, peak ")
    assert "heap" in [row[0].strip() for row in browser.value(watch.rows("lwip pool"))]
    refusals = browser.value(watch.rows("Last refusals and failures"))
    assert any("GET http://tracker.example/\npolicy_denied, rule 0\noperator" in row[2] for row in refusals), refusals
    assert watch.hostile_request(pages.board.port, f"{HOST}:{peers.unused_port()}", PROXY_LOGIN) == 502


def page_shows_maintenance(browser, pages):
    pages.board.type("m")
    browser.wait("document.getElementById('c').textContent == 'maintenance'")
    pages.board.type("m")
    browser.wait("document.getElementById('c').textContent == 'ok'")


def refusal_is_a_page(directory, port, image):
    client = watch.Client(os.path.join(directory, "client"), f"http://127.0.0.1:{port}")
    try:
        watch.explains_a_refusal(client, "http://tracker.example/", "policy_denied", f"{image}-refusal")
    finally:
        client.stop()


def leaves_stack(pages):
    """As tests/firmware/boot.py wants of all images."""
    done = pages.board.counters()
    print(f"stack {done['stack.size'] - done['stack.unused']} of {done['stack.size']} used")
    assert done["stack.unused"] >= done["stack.size"] / 4


def body(results, directory, image):
    port = serve()
    with Board(image) as board:
        board.ready()
        pages, browser = Pages(board), watch.Watcher(directory)

        def run(name, case, *arguments):
            results.run(f"{image}: {name}", case, *arguments)

        try:
            run("pages are for operators", are_for_operators, pages)
            run("the metrics are what was sent", metrics_are_what_was_sent, pages, port)
            run("metrics of pools, stack, frames", metrics_of_the_board, pages)
            run("the last transactions as lines of JSON", log_is_json_lines, pages)
            run("maintenance by the console", maintenance_by_the_console, pages)
            run("the status page opens", lambda: (browser.open_page(), browser.load(pages.url), watch.is_live(browser)))
            run("it shows what is sent", page_shows_what_is_sent, browser, pages, port)
            run("what a hostile client sent stays text", watch.stays_text, browser)
            run("it fits and is legible at 375 and 1200 pixels, light and dark", watch.fits, browser, image)
            run("it shows maintenance", page_shows_maintenance, browser, pages)
            run("it asks its proxy alone, one thing at a time", watch.asks_only_its_proxy, browser, pages.url)
            run("a refusal is a page that helps, at 375 pixels too", refusal_is_a_page, directory, board.port, image)
            run("a quarter of the stack is left", leaves_stack, pages)
        finally:
            browser.stop()
            print(board.console()[-3000:])


if __name__ == "__main__":
    sys.exit(run_suite("firmware-status", *(functools.partial(body, image=image) for image in sys.argv[1:] or BOARDS)))
