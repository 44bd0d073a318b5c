# SPDX-License-Identifier: MIT
"""The status page in headless Chromium: what it shows, what it asks for, whether it fits."""
import base64
import json
import os
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [os.path.join(TESTS, "e2e"), os.path.join(TESTS, "firmware")]

from board import ROOT  # noqa: E402
from chromium import Browser, expect  # noqa: E402
from prometheus_client.openmetrics import parser  # noqa: E402

SIZES = {"phone": (375, 700), "desk": (1200, 800)}
HOSTILE = "/<img/src=x/onerror=window.stung=1>\"'&lt;/td><script>window.stung=2</script>"
PATIENCE = 30

# What is wider than the window; of every text how it stands out against what is behind it (WCAG 2, 4.5 is enough).
WIDTH = "[document.documentElement.scrollWidth, innerWidth, " \
    "Math.max(0, ...[...document.querySelectorAll('section')].map(e => e.scrollWidth - e.clientWidth))]"
CONTRAST = """(() => {
    const rgb = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = c => c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const dark = matchMedia('(prefers-color-scheme: dark)').matches, canvas = dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
    let least = [21, ''];
    for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.checkVisibility() ||
            /SCRIPT|NOSCRIPT/.test(e.tagName)) continue;
        let opacity = 1, layers = [];
        for (let p = e; p; p = p.parentElement) {
            const s = getComputedStyle(p);
            opacity *= s.opacity;
            layers.unshift(rgb(s.backgroundColor));
        }
        const back = layers.reduce((below, top) => over(top, below), canvas), front = rgb(getComputedStyle(e).color);
        front[3] *= opacity;
        const [a, b] = [light(over(front, back)), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
        if (ratio < least[0]) least = [ratio, e.textContent];
    }
    return least;
})()"""


class Watcher(Browser):
    """Remembers what its page asked for and complained of."""
    asked_by = "Server"

    def __init__(self, directory, proxy="direct://"):
        super().__init__(directory, proxy)
        self.asked, self.complaints, self.connections = [], [], []

    def message(self, deadline):
        m = super().message(deadline)
        what, p = m.get("method", ""), m.get("params", {})
        if what == "Network.requestWillBeSent":
            self.asked.append(p["request"]["url"])
        elif what == "Network.responseReceived" and p["response"]["url"].startswith("http"):
            self.connections.append(p["response"]["connectionId"])
        elif what in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(p)
        return m

    def open_page(self):
        super().open_page()
        for domain in ("Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def value(self, expression):
        found = self.call("Runtime.evaluate", returnByValue=True, expression=f"JSON.stringify({expression})")
        return json.loads(found["result"]["value"])

    def wait(self, expression, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not (found := self.value(expression)):
            assert time.monotonic() < deadline, f"never: {expression}: {self.text()}"
            time.sleep(0.2)
        return found

    def text(self):
        return self.value("document.body.innerText")

    def size(self, name, dark=False):
        width, height = SIZES[name]
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=name == "phone")
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def picture(self, name):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(os.path.join(ROOT, "build", f"status-{name}.png"), "wb") as f:
            f.write(base64.b64decode(data))


def rows(title):
    """JavaScript: the rows of a table of the page."""
    return f"[...([...document.querySelectorAll('section')].find(s => s.querySelector('h2').textContent == {title!r}) || " \
        "document).querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))"


def hostile_request(port, authority, fields=""):
    """What no tidy client would send; the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(f"GET http://{authority}{HOSTILE} HTTP/1.1\r\nHost: {authority}\r\n{fields}Connection: close\r\n\r\n".encode())
        return int(s.makefile("rb").readline().split()[1])


# ---- Cases, each with the browser that shows the page

def fits(browser, name):
    for size in SIZES:
        for dark in (False, True):
            browser.size(size, dark)
            time.sleep(0.3)
            document, window, inside = browser.value(WIDTH)
            ratio, text = browser.value(CONTRAST)
            browser.picture(f"{name}-{size}{'-dark' if dark else ''}")
            assert document <= window == SIZES[size][0], (size, document, window)
            assert inside == 0, f"{size}: {inside} pixels of a table are out of sight"
            assert ratio >= 4.5, (size, dark, ratio, text)


class Client(Watcher):
    """A browser that goes by the proxy, and logs in there."""
    asked_by = "Proxy"

    def __init__(self, directory, proxy):
        os.makedirs(directory)
        super().__init__(directory, proxy)


def explains_a_refusal(client, url, token, name):
    """S11: the page of a refusal says what happened, who can help and what to try, at every width."""
    client.open_page()
    client.load(url)
    text = client.text()
    for words in (token, "Who can help", "What to try", "Number", url):
        assert words in text, text
    assert client.value("document.querySelectorAll('script, img, link').length") == 0
    fits(client, name)


def stays_text(browser):
    text = browser.wait("document.body.innerText.includes('onerror=') && document.body.innerText")
    assert HOSTILE[:20] in text, text
    assert browser.value("[document.images.length, document.querySelectorAll('main script').length, window.stung || 0]") \
        == [0, 0, 0]


def asks_only_its_proxy(browser, url):
    wanted = {url, url + "metrics", url + "log"}
    assert {u for u in browser.asked if not u.startswith("data:")} == wanted, set(browser.asked)
    assert browser.asked.count(url) == 1
    times = browser.value("performance.getEntriesByType('resource').map(e => [e.startTime, e.responseEnd])")
    assert len(times) > 5 and all(a[1] <= b[0] for a, b in zip(times, times[1:])), times
    assert len(set(browser.connections)) <= 2, browser.connections
    assert not browser.complaints, browser.complaints


def pauses_while_hidden(browser):
    def hide(hidden):
        browser.value("[Object.defineProperty(document, 'hidden', {configurable: true, get: () => " +
                      f"{json.dumps(hidden)}}}), document.dispatchEvent(new Event('visibilitychange'))].length")

    def settle(seconds):
        browser.call("Runtime.evaluate", awaitPromise=True,
                     expression=f"new Promise(r => setTimeout(r, {seconds * 1000}))")
        return len(browser.asked)

    hide(True)
    before = settle(1)
    assert settle(5) == before
    hide(False)
    assert settle(1) > before


def says_no_answer(browser):
    browser.wait("/^no answer since .*\\d/.test(document.getElementById('z').textContent)")
    assert browser.value("getComputedStyle(document.querySelector('main')).opacity") < "1"


def is_live(browser):
    browser.wait("document.getElementById('z').textContent == 'live'", 60)


def strictly(text):
    """{name: {labels' values: value}} of a text that a strict parser accepts."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation or family.type == "info", family.name
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            key = tuple(sample.labels.values())
            assert key not in labels, sample
            labels[key] = sample.value
    return found


__all__ = ["Watcher", "asks_only_its_proxy", "expect", "fits", "hostile_request", "is_live", "pauses_while_hidden", "rows",
           "says_no_answer", "stays_text", "strictly"]
