# SPDX-License-Identifier: MIT
"""A browser whose proxy is an https:// one: headless Chromium logs in over TLS and loads a page full of images, over HTTP
and through a tunnel, which is TLS within TLS.

    chromium.py SUITE PROGRAM       MINIPROXY_STACK says what network stack the program brings, as in tests/e2e

Writes build/results/SUITE.tsv.
"""
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [os.path.join(TESTS, "e2e"), os.path.join(TESTS, "firmware")]

import world  # noqa: E402
from boot import certificate  # noqa: E402
from chromium import IMAGES, PASSWORD, USER, Browser, Origin, check_page, expect, run_suite, serve  # noqa: E402

SUITE, BINARY = sys.argv[1:]


def settle(cable):
    """The other end of the cable is there now. A browser drops what it is at when addresses come or go: wait until the last
    one has come."""
    deadline = time.monotonic() + 20
    while True:
        found = subprocess.run(["ip", "-6", "addr", "show", "dev", cable.tap, "scope", "link"], capture_output=True, text=True,
                               check=True).stdout
        if "fe80" in found and "tentative" not in found:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


class Proxy:
    def __init__(self, directory):
        subprocess.run([BINARY, "cert", os.path.join(directory, "own")], check=True, capture_output=True)
        self.log = os.path.join(directory, "access.log")
        self.host, environment, cable = "127.0.0.1", None, None
        if world.STACK:
            cable = world.cables.pop(0)
            self.host, environment = cable.reach(self.host), dict(os.environ, MINIPROXY_NET=cable.environment())
        self.process = subprocess.Popen(
            [BINARY, "--tls-listen", "127.0.0.1:0", "--tls-cert", f"{directory}/own.pem", "--tls-key", f"{directory}/own.key",
             "--user", f"{USER}:{PASSWORD}", "--allow-private", "--connect-ports", "any", "--log", self.log],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment)
        banner = ""
        while not (match := re.search(r":(\d+) \(TLS\)", banner)):
            line = self.process.stderr.readline()
            if not line:
                raise AssertionError(f"the proxy did not start:\n{banner}")
            banner += line
        self.port = int(match[1])
        if cable:
            settle(cable)

    def records(self):
        with open(self.log, encoding="utf-8") as f:
            return f.read()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()


def check_log(proxy, port, tls_port):
    text = proxy.records()
    for i in range(IMAGES):
        assert re.search(rf'127\.0\.0\.1 - {USER} \[.*\] "GET http://127\.0\.0\.1:{port}/{i}\.png HTTP/1\.1" 200 ', text), (i, text)
    assert re.search(rf'"GET http://127\.0\.0\.1:{port}/ HTTP/1\.1" 407 ', text), text
    assert not re.search(rf'"CONNECT 127\.0\.0\.1:{tls_port} HTTP/1\.1" [45](?!07)', text), text


def check_plain_is_told(proxy, port):
    """The same port with http:// in front of it."""
    got = subprocess.run(["curl", "-sS", "-x", f"http://{proxy.host}:{proxy.port}", f"http://127.0.0.1:{port}/"],
                         capture_output=True, text=True, check=False, env={})
    assert "(plain_on_tls_port)" in got.stdout, got
    deadline = time.monotonic() + 5
    while "plain_on_tls_port" not in proxy.records():
        assert time.monotonic() < deadline, proxy.records()
        time.sleep(0.05)


def through(results, directory):
    port, tls_port = serve(), serve(certificate(directory))
    proxy = Proxy(directory)
    browser = Browser(directory, f"https://{proxy.host}:{proxy.port}", "--proxy-bypass-list=<-loopback>")
    run = results.run
    try:
        run("Chromium starts", browser.open_page)
        run(f"a page with {IMAGES} images through a proxy that speaks TLS", check_page, browser, f"http://127.0.0.1:{port}/")
        run("Chromium was asked for the login, and once is enough", lambda: expect(browser.logins == 1))
        run("the same page through a tunnel, TLS within TLS", check_page, browser, f"https://127.0.0.1:{tls_port}/")
        run("the log names user and request of every image", check_log, proxy, port, tls_port)
        run("the origin sees no Proxy-Authorization", lambda: expect(not Origin.leaked))
        run("a client that speaks plain HTTP there is told", check_plain_is_told, proxy, port)
    finally:
        browser.stop()
        proxy.stop()
    print(proxy.records() if os.path.exists(proxy.log) else "")


if __name__ == "__main__":
    sys.exit(run_suite(SUITE, through))
