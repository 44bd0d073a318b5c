# SPDX-License-Identifier: MIT
"""Refusals as HTML: two parsers accept them, a browser shows them on a screen as small as a phone's."""
import email.utils
import html.parser
import json
import os
import re
import shutil
import sys

import pytest

import peers
import secure
import world
from peers import request, unused_port
from proxy import CAUSES, OPEN, ROOT, refused

try:
    import html5lib
except ImportError:
    html5lib = None

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CONTACT = "Ann <ann@example> & the Büro's \"3rd\" floor"
PHONE, DESK = 375, 1280
VOID = {"meta"}


class Strict(html.parser.HTMLParser):
    """Every element is closed, in order; `rows` are those of the lists, `text` all of the text."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.rows, self.text, self.tags = [], {}, "", []
        self.term = ""
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert all(value is not None for _, value in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] == ["dt"]:
            self.term = data
        elif self.open[-1:] == ["dd"]:
            self.rows[self.term] = self.rows.get(self.term, "") + data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def page_of(message):
    """What a refusal in HTML says, after all that can be asked of its form."""
    assert message.get("Content-Type") == b"text/html; charset=utf-8"
    assert message.get("Content-Security-Policy") == b"default-src 'none'; style-src 'unsafe-inline'"
    assert message.get("Cache-Control") == b"no-store"
    assert message.framing == "length"
    text = message.body.decode("utf-8")
    assert not re.search(r"\b(?:src|href|action|on\w+)\s*=|url\(|@import|<script", re.sub(r"<dd>.*?</dd>", "", text))
    if html5lib:
        html5lib.HTMLParser(strict=True).parse(text)
    page = Strict(text)
    assert {tag: page.tags.count(tag) for tag in ("html", "head", "title", "body", "h1")} == dict.fromkeys(
        ("html", "head", "title", "body", "h1"), 1)
    return page


def test_a_strict_parser_is_there():
    if html5lib is None:
        pytest.skip("python3-html5lib is not installed")
    with pytest.raises(Exception):
        html5lib.HTMLParser(strict=True).parse("<!DOCTYPE html><title>x</title><p>a</b>")


def seconds(date):
    return email.utils.parsedate_to_datetime(date).timestamp()


@pytest.fixture
def told(start):
    return start(*OPEN, "--contact", CONTACT)


def ask(client, url, method="GET", accept=BROWSER, *fields):
    client.send(request(method, url, b"Accept: " + accept, *fields))
    return client.response(method)


@pytest.mark.req("S11", "S13", "S17")
def test_what_a_page_says(told):
    client = told.client()
    url = f"http://127.0.0.1:{unused_port()}/a/b?session=secret"
    message = ask(client, url)
    page, event = page_of(message), told.event(client)
    assert message.status == 502 and event["cause"] == "connection_refused"
    assert CAUSES["connection_refused"].text in page.text and "502 Bad Gateway" in page.text
    assert page.rows["Request"] == "GET " + url.split("?")[0]
    assert page.rows["Code"] == "connection_refused"
    assert page.rows["Proxy"] == "tester"
    assert page.rows["Contact of this proxy"] == CONTACT
    assert page.rows["Who can help"] == "The people who run the site" and page.rows["What to try"]
    assert 0 <= seconds(message.get("Date").decode()) - seconds(page.rows["Time"]) <= 1
    assert "secret" not in page.text
    first = int(page.rows["Number"])
    assert int(page_of(ask(client, url)).rows["Number"]) == first + 1


@pytest.mark.req("S11")
@pytest.mark.parametrize("accept,is_html", [
    (BROWSER, True), (b"*/*", False), (b"text/html;q=0, */*", False), (b"TEXT/HTML ; Q=0.5", True),
    (b"application/json", False), (b"text/plain, application/xhtml+xml;q=0.1", True)])
def test_who_gets_one(proxy, accept, is_html):
    client = proxy.client()
    message = ask(client, f"http://127.0.0.1:{unused_port()}/", accept=accept)
    if is_html:
        page_of(message)
    else:
        assert message.get("Content-Type") == b"text/plain; charset=utf-8" and b"<" not in message.body


@pytest.mark.req("S12", "P01")
def test_head_and_what_follows_it(proxy, origin):
    o, client = origin(), proxy.client()
    url = f"http://127.0.0.1:{unused_port()}/"
    whole = ask(client, url)
    alone = ask(client, url, "HEAD")
    assert alone.body == b"" and alone.get("Content-Type") == b"text/html; charset=utf-8"
    assert abs(int(alone.get("Content-Length")) - len(whole.body)) <= 4  # HEAD is longer than GET, a number may be
    assert client.ask("GET", o.url + "/").body == b"ok"


@pytest.mark.req("S11")
def test_tunnels_get_text(proxy):
    client = proxy.client()
    client.send(request("CONNECT", f"127.0.0.1:{unused_port()}", b"Accept: " + BROWSER))
    refused(proxy, client, "connection_refused", method="CONNECT", closes=None)


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": "\"onmouseover='alert(1)'",
    "entities": "&lt;&amp;&amp&",
    "percent": "%3Cscript%3E%00%FF%0d%0a",
    "end": "</dd></dl></body></html>",
    "comment": "<!--",
    "cdata": "]]><![CDATA[",
    "cut": "x" * 80 + "<b>" * 40,
    "cut in a reference": "x" * 60 + "&quot;" * 40,
}


@pytest.mark.req("S13")
@pytest.mark.parametrize("path", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_targets(proxy, path):
    client = proxy.client()
    url = f"http://127.0.0.1:{unused_port()}/{path}"
    shown = page_of(ask(client, url + "?secret")).rows["Request"]
    assert shown == "GET " + url or (shown.endswith("…") and ("GET " + url).startswith(shown[:-1]) and len(shown) > 60)


@pytest.mark.req("S13", "M10")
@pytest.mark.parametrize("octets", [b"\xff<", b"\xc3\xa4", b"\x01", b"\x7f"])
def test_octets_that_no_target_has(proxy, octets):
    client = proxy.client()
    client.send(b"GET http://127.0.0.1/" + octets + b" HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
    refused(proxy, client, "bad_request_line")


@pytest.mark.req("S13")
def test_a_page_for_what_an_origin_does(proxy, origin):
    """The head of the request is long gone from the buffer then."""
    client = proxy.client()
    with origin(peers.answer(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", then_close=True)) as o:
        page = page_of(ask(client, o.url + "/<x>"))
    assert page.rows["Request"].endswith("/<x>") and page.rows["Code"] == "origin_length"


# ---- A browser

SHOWN = {"denied": "http://192.168.7.7/" + "no-place-to-break-a-line" * 9, "refused": f"http://{world.PUBLIC}/path",
         "typing": "http://no-such-name.example/"}


def look(browser, url, width, dark):
    """Load it on a screen of this width; how wide it is there, and what its style has made of it."""
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1,
                 mobile=width == PHONE)
    browser.call("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
    browser.load(url)
    found = browser.call("Runtime.evaluate", returnByValue=True, expression="""JSON.stringify({
        width: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
        title: document.title, font: getComputedStyle(document.querySelector("p")).fontSize,
        small: Math.min(...[...document.querySelectorAll("body *")].map(e => parseFloat(getComputedStyle(e).fontSize))),
        ink: getComputedStyle(document.body).color})""")
    return json.loads(found["result"]["value"])


def test_in_a_browser(start, tmp_path):
    """On a phone and on a desk, by day and by night: nothing is wider than the screen, nothing too small to read. LOOK at
    build/html-*.png."""
    if shutil.which("chromium") is None or not world.isolated or world.STACK or secure.OVER_TLS:
        pytest.skip("needs chromium, a network namespace, or the browser would reach the network, and clients in clear")
    sys.path.insert(0, os.path.join(ROOT, "tests", "firmware"))
    from chromium import Browser  # pylint: disable=import-outside-toplevel
    proxy = start("--name", "box", "--contact", CONTACT + " " + "w" * 70)
    os.makedirs(os.path.join(ROOT, "build", "log"), exist_ok=True)
    browser = Browser(str(tmp_path), f"{proxy.host}:{proxy.port}")
    try:
        browser.open_page()
        for name, url in SHOWN.items():
            for width, dark in ((PHONE, False), (PHONE, True), (DESK, False)):
                found = look(browser, url, width, dark)
                browser.screenshot(os.path.join(ROOT, "build", f"html-{name}-{width}{'-dark' if dark else ''}.png"))
                assert found["width"] == width, found
                assert found["small"] >= 12 and found["font"] != "16px", found
                assert re.match(r"40[0-9] |50[0-9] ", found["title"]), found
                assert (found["ink"] == "rgb(255, 255, 255)") == dark, found
    finally:
        browser.stop()
