# SPDX-License-Identifier: MIT
"""A browser behind the firmware: headless Chromium logs in at the proxy of an emulated board and loads a page full of
images, over HTTP and through a tunnel; of boards with TLS, as an https:// proxy. Writes
build/results/firmware-chromium.tsv and build/BOARD-chromium.png.

A board that has one session of TLS is hardly one for browsers: they open several connections at once, and what is turned
away is missing in the page. There the browser asks the proxy for nothing but the page, and for one image after another; and
if something was turned away all the same, the page is loaded again, as a user would.

Chromium is driven by its DevTools protocol over a pair of pipes: JSON messages that end with a NUL.
"""
import base64
import fcntl
import functools
import http.server
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
sys.path.insert(0, HERE)

import world  # noqa: E402
from board import HOST, ROOT, Board  # noqa: E402
from boot import Server, certificate  # noqa: E402

BOARDS = ("lm3s6965-raw", "lm3s6965-raw-tls", "mps2_an385-raw-tls", "mps2_an385-sockets-tls")
ONE_SESSION = ("lm3s6965-raw-tls",)
TLS_PORT = 3129
IMAGES = 24
USER, PASSWORD = "operator", "swordfish"
PATIENCE = 90
# Nothing but what the test asks for goes over the network.
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--no-default-browser-check",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--disable-default-apps", "--disable-domain-reliability",
         "--disable-features=OptimizationHints,MediaRouter,NetworkTimeServiceQuerying", "--disable-dev-shm-usage",
         "--hide-scrollbars", "--window-size=820,640",
         "--ignore-certificate-errors", "--remote-debugging-pipe")


# ---- The page

def png(number):
    """A picture of its own for every number: 90 by 60, with noise, so that it does not compress away."""
    width, height = 90 + number, 60
    rows = b"".join(b"\0" + b"".join(bytes(((number * 40 + x) & 255, (y * 4) & 255, os.urandom(1)[0]))
                                     for x in range(width)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


FILES = {f"/{i}.png": ("image/png", png(i)) for i in range(IMAGES)}
# each when the one before is there
FILES["/one-by-one"] = ("text/html", f"""<!doctype html><title>one by one</title><body><script>
const all = (async () => {{
    for (let i = 0; i < {IMAGES}; i++) {{
        const image = new Image();
        image.src = `/${{i}}.png`;
        await image.decode();
        document.body.append(image);
    }}
}})()
</script>""".encode())
FILES["/"] = ("text/html", ("<!doctype html><title>images</title><h1>Through the proxy of a microcontroller</h1>" +
                            "".join(f'<img src="/{i}.png">' for i in range(IMAGES))).encode())


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    leaked = []

    def do_GET(self):
        if "Proxy-Authorization" in self.headers:
            Origin.leaked.append(self.path)
        kind, body = FILES.get(self.path, ("text/plain", b""))
        self.send_response(200 if self.path in FILES else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(context=None):
    server = Server(("127.0.0.1", 0), Origin)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


# ---- The browser

class Browser:
    asked_by = "Proxy"  # who may want a login

    def __init__(self, directory, proxy, *more):
        to_read, self.to_write = os.pipe()
        self.from_read, from_write = os.pipe()
        # out of the way of 3 and 4, where Chromium expects its ends
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (to_read, from_write)]

        def place():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        # no connections beforehand, for what might come
        os.makedirs(f"{directory}/profile/Default")
        with open(f"{directory}/profile/Default/Preferences", "w", encoding="ascii") as f:
            json.dump({"net": {"network_prediction_options": 2}}, f)
        proxy = f"--proxy-{'pac-url' if proxy.startswith('data:') else 'server'}={proxy}"
        command = ["chromium", *QUIET, f"--user-data-dir={directory}/profile", proxy, *more, "about:blank"]
        environment = dict(os.environ, HOME=directory, XDG_CONFIG_HOME=directory, XDG_CACHE_HOME=directory)
        with open(os.path.join(ROOT, "build", "log", "chromium.log"), "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, close_fds=False,
                                            preexec_fn=place, env=environment, start_new_session=True)
        for fd in (to_read, from_write, *high):
            os.close(fd)
        self.number, self.buffer, self.logins, self.session, self.events = 0, b"", 0, None, []

    def message(self, deadline):
        while b"\0" not in self.buffer:
            if time.monotonic() > deadline:
                raise AssertionError("the browser does not answer in time")
            data = os.read(self.from_read, 1 << 20)
            if not data:
                raise AssertionError("the browser has ended: see build/log/chromium.log")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def post(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        return self.number

    def call(self, method, **parameters):
        return self.until(lambda m: m.get("id") == number, number := self.post(method, **parameters))["result"]

    def until(self, wanted, _=None):
        """The next message that is wanted. Requests go on meanwhile, and who is asked for a login gets it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            m = self.message(deadline)
            if m.get("method") == "Fetch.requestPaused":
                self.post("Fetch.continueRequest", requestId=m["params"]["requestId"])
            elif m.get("method") == "Fetch.authRequired":
                assert m["params"]["authChallenge"]["source"] == self.asked_by, m
                self.logins += 1
                login = {"response": "ProvideCredentials", "username": USER, "password": PASSWORD}
                self.post("Fetch.continueWithAuth", requestId=m["params"]["requestId"], authChallengeResponse=login)
            if wanted(m):
                assert "error" not in m, m
                return m

    def open_page(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Fetch.enable", handleAuthRequests=True)

    def load(self, url):
        """Navigate; the images that were decoded, as [[path, width]]."""
        self.post("Page.navigate", url=url)
        self.until(lambda m: m.get("method") == "Page.loadEventFired")
        if url.endswith("/one-by-one"):
            self.call("Runtime.evaluate", awaitPromise=True, expression="all")
        found = self.call("Runtime.evaluate", returnByValue=True, expression="JSON.stringify([...document.images].map("
                          "i => [new URL(i.src).pathname, i.complete ? i.naturalWidth : -1]))")
        return json.loads(found["result"]["value"])

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, 15)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


# ---- Tests

def check_page(browser, url):
    wanted = {f"/{i}.png": 90 + i for i in range(IMAGES)}
    for again in range(20 if url.endswith("/one-by-one") else 0, -1, -1):
        try:
            found = dict(browser.load(url))
            assert found == wanted, f"images and their widths: {found}"
            return
        except AssertionError as error:
            if not again:
                raise
            print(f"loaded again: {repr(error)[:200]}")
            time.sleep(0.3)


def check_log(board, port, tls_port):
    text = board.console()
    for i in range(IMAGES):
        assert re.search(rf"{USER} GET http://{HOST}:{port}/{i}\.png 200 - origin rule=5 ", text), (i, text)
    assert re.search(rf" - GET http://{HOST}:{port}/[-a-z]* 407 login_missing ", text), text
    # tunnels may still be open: what is logged is what has ended
    assert board.counters()["tunnels"] >= 1 and not re.search(rf"CONNECT {HOST}:{tls_port} [45]", text), text
    assert not re.search("PANIC|FAULT", text), text


def check_foreign(board, port, tls_port):
    """What the browser asks for by itself was answered, by a refusal: no name resolves in this world."""
    asked = re.findall(r" (?:GET|POST|CONNECT|HEAD) (\S+) (\d+) ", board.console())
    foreign = {(t, status) for t, status in asked if not re.match(rf"(http://)?{HOST}:({port}|{tls_port})(/|$)", t)}
    print("asked for by the browser itself:", foreign)
    assert all(status in ("403", "407", "502") for _, status in foreign), foreign


def only_for(host, proxy):
    """A PAC file that knows nobody else."""
    text = f'function FindProxyForURL(url, host) {{ return host == "{host}" ? "HTTPS {proxy}" : "PROXY 127.0.0.1:1"; }}'
    return "data:application/x-ns-proxy-autoconfig;base64," + base64.b64encode(text.encode()).decode()


def through(results, directory, image):
    with_tls = image.endswith("-tls")
    page = "one-by-one" if image in ONE_SESSION else ""
    port, tls_port = serve(), serve(certificate(directory))
    with Board(image, semihosting=with_tls, more_ports=(TLS_PORT,)) as board:
        board.ready()
        proxy = f"https://127.0.0.1:{board.ports[TLS_PORT]}" if with_tls else f"http://127.0.0.1:{board.port}"
        browser = Browser(directory, only_for(HOST, proxy.split("//")[1]) if page else proxy)

        def run(name, function, *arguments):
            results.run(f"{image}: {name}", function, *arguments)

        try:
            run("Chromium starts", browser.open_page)
            run(f"a page with {IMAGES} images", check_page, browser, f"http://{HOST}:{port}/{page}")
            run("Chromium was asked for the login, and once is enough", lambda: expect(browser.logins == 1))
            run("a screenshot of it", browser.screenshot, os.path.join(ROOT, "build", f"{image}-chromium.png"))
            run("the same page through a tunnel", check_page, browser, f"https://{HOST}:{tls_port}/{page}")
            run("the console names user and request of every image", check_log, board, port, tls_port)
            run("the origin sees no Proxy-Authorization", lambda: expect(not Origin.leaked))
            run("what the browser asks for by itself is refused", check_foreign, board, port, tls_port)
        finally:
            browser.stop()
        print(board.console())


def expect(condition):
    assert condition


class Results:
    def __init__(self, suite):
        self.suite, self.found = suite, []

    def run(self, name, function, *arguments):
        try:
            function(*arguments)
            self.found.append(("pass", name))
        except Exception as e:  # pylint: disable=broad-except
            print(f"FAILED {name}: {e!r}")
            self.found.append(("fail", name))

    def write(self):
        directory = os.path.join(ROOT, os.environ.get("MINIPROXY_RESULTS", "build/results"))
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"{self.suite}.tsv"), "w", encoding="utf-8") as f:
            for verdict, name in self.found:
                f.write(f"{verdict}\t{self.suite}\t{name}\t-\n")
        return 1 if any(verdict == "fail" for verdict, _ in self.found) else 0


def run_suite(suite, *bodies):
    """Each body(results, directory), where there is a browser and it cannot reach the network. The exit status."""
    results = Results(suite)
    if shutil.which("chromium") is None:
        results.found.append(("skip", "chromium is installed"))
    elif not world.enter():
        results.found.append(("skip", "needs a network namespace, or the browser would reach the network"))
    else:
        for body in bodies:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                body(results, directory)
    return results.write()


if __name__ == "__main__":
    images = sys.argv[1:] or BOARDS
    sys.exit(run_suite("firmware-chromium", *(functools.partial(through, image=image) for image in images)))
