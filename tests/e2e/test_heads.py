# SPDX-License-Identifier: MIT
"""Lines of heads in the log, without what lets somebody in: --log-heads."""
import re
import subprocess
import time

import pytest

from peers import PATIENCE, answer, request, response
from proxy import BINARY

MARK = "[...]"
SECRETS = ("c2VzYW1l", "sesame", "c3VwZXI")

if "--log-heads" not in subprocess.run([BINARY, "--help"], capture_output=True, text=True, check=False).stdout:
    pytest.skip("NOT TESTED: this build has no --log-heads", allow_module_level=True)


class Heads:
    """What is told of heads in the log of a proxy."""

    def __init__(self, start, directory, *options):
        self.path = directory / "heads.log"
        self.proxy = start("--allow-private", "--connect-ports", "any", "--log-format", "clf", "--log", str(self.path),
                           *options)

    def text(self):
        return self.path.read_text("utf-8") if self.path.exists() else ""

    def lines(self):
        """[(side, line)]"""
        return re.findall(r"\bhead client=\S+ .*?\bside=(client|origin)(?: ([^\n]*))?\n", self.text())

    def until(self, *line):
        deadline = time.monotonic() + PATIENCE
        while line not in self.lines():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.005)
        return self.lines()


@pytest.fixture(name="heads")
def fixture_heads(start, tmp_path):
    return Heads(start, tmp_path, "--log-heads")


def check_secrets(heads):
    assert not [secret for secret in SECRETS if secret in heads.text()]


@pytest.mark.req("G02")
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_lines_without_secrets(heads, origin, step):
    reply = response(b"ok").replace(b"\r\n", b"\r\nSet-Cookie: id=sesame\r\nX: y\r\n", 1)
    o, client = origin(answer(reply)), heads.proxy.client()
    sent = request("GET", o.url + "/x?y", "Cookie: id=sesame", "Authorization: Basic c2VzYW1l", "Accept: */*",
                   "Referer: http://me:sesame@h.example/")
    for at in range(0, len(sent), step):
        client.send(sent[at:at + step])
    client.response()
    lines = heads.until("origin", "")
    told = [line for side, line in lines if side == "client"]
    assert told[0] == f"GET {o.url}/x?y HTTP/1.1" and told[-1] == ""
    for line in (f"Cookie: {MARK}", f"Authorization: {MARK}", "Accept: */*", f"Referer: http://{MARK}"):
        assert told.count(line) == 1
    told = [line for side, line in lines if side == "origin"]
    assert told[:3] == ["HTTP/1.1 200 OK", f"Set-Cookie: {MARK}", "X: y"] and told.count("") == 1
    assert b"Authorization: Basic c2VzYW1l" in o.peers[0].received and b"Set-Cookie: id=sesame" in client.received
    check_secrets(heads)


@pytest.mark.req("G02", "R08")
@pytest.mark.parametrize("head, last", [
    (b"GET http://me:sesame@h.example/ HTTP/1.1\r\n\r\n", f"GET http://{MARK}"),
    (b"GET http://h.example/ HTTP/1.1\r\nAuthorization : Basic c2VzYW1l\r\n\r\n", "Authorization "),
    (b"GET http://h.example/ HTTP/1.1\r\nCookie: a\r\n sesame\r\n\r\n", MARK),
    (b"GET http://h.example/ HTTP/1.1\r\nProxy-Authorization: Basic c2VzYW1l\r\nX: y\nforged: line\r\n\r\n", None),
    (b"\x16\x03\x01sesame", None),
])
def test_lines_of_refused_requests(heads, head, last):
    client = heads.proxy.client()
    client.send(head)
    assert client.response().status == 400
    if last:
        heads.until("client", last)
    deadline = time.monotonic() + PATIENCE
    while not heads.lines() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert heads.lines() and heads.lines()[-1][1] != "" and "forged" not in heads.text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", heads.text())
    check_secrets(heads)


@pytest.mark.req("G02")
def test_login_to_the_proxy(start, origin, tmp_path):
    heads = Heads(start, tmp_path, "--log-heads", "--user", "me:super")
    o, client = origin(), heads.proxy.client()
    client.send(request("CONNECT", o.authority, "Proxy-Authorization: Basic bWU6c3VwZXI="))
    client.until(b"\r\n\r\n")
    heads.until("client", "")
    assert ("client", f"Proxy-Authorization: {MARK}") in heads.lines()
    check_secrets(heads)


def test_nobody_asked(start, origin, tmp_path):
    heads = Heads(start, tmp_path)
    o, client = origin(), heads.proxy.client()
    client.ask("GET", o.url + "/")
    client.close()
    heads.proxy.wait_idle()
    assert heads.text() != "" and heads.lines() == []
