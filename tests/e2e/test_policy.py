# SPDX-License-Identifier: MIT
"""--policy on the wire: rules, swaps, hits, and what must not happen by accident."""
import os
import re
import signal
import subprocess
import time

import pytest

from peers import PATIENCE, answer, request, response
from proxy import BINARY, refused
from test_login import login

HERE = "allow to loopback, any ports any\n"


@pytest.fixture
def policy(tmp_path):
    """policy(text) writes the file; the same one each time."""
    path = str(tmp_path / "wire.policy")

    def write(text):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path
    return write


def reload(proxy, pattern):
    """SIGHUP, and the line that it leads to."""
    after = len(proxy.lines)
    proxy.process.send_signal(signal.SIGHUP)
    return proxy.line(pattern, after=after)


@pytest.mark.req("G06", "S02")
def test_rules_on_the_wire(start, origin, policy):
    o, picture = origin(), origin(answer(response(b"x", "Content-Type: image/png")))
    proxy = start("--policy", policy(
        "net here = loopback\npaths secret = \"/admin\"\ndeny paths secret\ndeny agents \"Old/\"\n"
        "deny methods DELETE, other\ndeny types image/*\nallow to here, any ports any\n"))
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    assert proxy.event(client)["rule"] in (4, 5)
    for rule, method, path, fields in ((0, "GET", "/admin/x", ()), (1, "GET", "/", ("User-Agent: an old/1",)),
                                       (2, "PATCH", "/", ())):
        client = proxy.client()
        client.send(request(method, o.url + path, *fields))
        refused(proxy, client, "policy_denied", method=method, closes=None)
        assert proxy.event(client)["rule"] == rule
    client = proxy.client()
    client.send(request("GET", picture.url + "/"))
    refused(proxy, client, "type_denied", closes=None)
    assert proxy.event(client)["rule"] == 3


WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.req("G06")
@pytest.mark.parametrize("rules,rule,fields,reply", [
    ("allow types text/html to loopback ports any\n", None, WEBSOCKET, SWITCH),
    ("deny types video/*\n" + HERE, 0, (),
     response(b"x", "Content-Type: video/mp4", "Content-Type: text/html")),
    ("deny types video/*\n" + HERE, 0, (), response(b"x", "Content-Type: text/html, video/mp4")),
    ("deny types video/*\n" + HERE, 0, ("Range: bytes=0-0,1-",),
     response(b"x", "Content-Type: multipart/byteranges; boundary=B", status=206, reason="Partial Content")),
], ids=["websocket", "fields", "list", "ranges"])
def test_what_has_no_single_type(start, origin, policy, rules, rule, fields, reply):
    """What the rules about types cannot see into passes none of them."""
    o = origin(answer(reply))
    proxy = start("--policy", policy(rules))
    client = proxy.client()
    client.send(request("GET", o.url + "/", *fields))
    refused(proxy, client, "type_denied", closes=None)
    assert proxy.event(client)["rule"] == rule


@pytest.mark.req("G06")
def test_no_content_counts_for_the_rule_that_allows_it(start, origin, policy):
    o = origin(answer(response(b"", "Content-Type: application/pdf")))
    proxy = start("--policy", policy("deny types video/*\nallow types text/html to loopback ports any\n"))
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    assert proxy.event(client)["rule"] == 1


@pytest.mark.req("G06", "R07")
def test_banner_shows_the_rules_of_the_policy(start, policy):
    proxy = start("--policy", policy("\n# a comment\ndeny literals\n" + HERE))
    proxy.line("try: curl")
    text = proxy.stderr()
    assert re.search(r"rule 0: .*wire\.policy:3: deny literals\n", text), text
    assert re.search(r"rule 1: .*wire\.policy:4: allow to loopback, any ports any\n", text), text
    assert re.search(r"rule 2: .*wire\.policy:4: ", text) and "everything else is refused" in text
    assert "-U NAME" not in text


@pytest.mark.req("A01", "A05", "G06")
def test_users_of_the_policy(start, origin, policy):
    hashed = subprocess.run([BINARY, "hash", "--rounds", "1000", "ben"], input=b"swordfish\n",
                            capture_output=True, timeout=PATIENCE)
    secret = hashed.stdout.decode().strip().split(":", 1)[1]
    o = origin()
    proxy = start("--policy", policy(
        f"user anna = clear \"sesame\"\nuser ben = {secret}\ngroup few = ben\n"
        "allow users few to loopback paths \"/few\" ports any\nallow users any to loopback paths \"/any\" ports any\n"))
    client = proxy.client()
    client.send(request("GET", o.url + "/any"))
    refused(proxy, client, "login_missing", closes=False)
    assert client.ask("GET", o.url + "/any", login("anna:sesame")).status == 200
    assert client.ask("GET", o.url + "/few", login("anna:sesame")).status == 403
    assert secret.startswith("pbkdf2:1000:")
    assert client.ask("GET", o.url + "/few", login("ben:swordfish")).status == 200
    client.send(request("GET", o.url + "/any", login("ben:sesame")))
    refused(proxy, client, "login_failed", closes=False)
    assert "-U NAME:PASSWORD" in proxy.stderr()


@pytest.mark.req("G06")
def test_the_time_is_known(start, origin, policy):
    """Unknown, no ALLOW with times would match."""
    o, day = origin(), ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(time.localtime().tm_wday + 3) % 7]
    proxy = start("--policy", policy(f"allow to loopback ports any paths \"/never\" times {day} 00:00-24:00\n"
                                     "allow to loopback ports any paths \"/always\" times daily 00:00-24:00\n"))
    assert proxy.client().ask("GET", o.url + "/always").status == 200
    assert proxy.client().ask("GET", o.url + "/never").status == 403


@pytest.mark.req("G06", "P07")
def test_swap(start, origin, policy, tmp_path):
    o = origin()
    with open(tmp_path / "included.policy", "w", encoding="utf-8") as f:
        f.write("paths shut = \"/shut\"\n")
    proxy = start("--policy", policy("include \"included.policy\"\ndeny paths shut\n" + HERE))
    client = proxy.client()
    assert client.ask("GET", o.url + "/shut").status == 403
    assert client.ask("GET", o.url + "/open").status == 200
    with open(tmp_path / "included.policy", "w", encoding="utf-8") as f:
        f.write("paths shut = \"/open\"\n")
    reload(proxy, "reloaded: 0 users, 3 rules")
    assert client.ask("GET", o.url + "/shut").status == 200
    assert client.ask("GET", o.url + "/open").status == 403


@pytest.mark.req("G06", "R07")
@pytest.mark.parametrize("text,said", [
    ("deny paths shat\n", r"wire\.policy:1:12: expected .*\"shat\""), ("allow\nx\n", r"wire\.policy:2:1: expected "),
    (None, r"wire\.policy:1:1: expected a file that can be read"),
    ("include \"wire.policy\"\n", r"wire\.policy:1:9: .*cannot include itself"),
])
def test_a_file_with_an_error_changes_nothing(start, origin, policy, text, said):
    o = origin()
    path = policy("deny paths \"/shut\"\n" + HERE)
    proxy = start("--policy", path)
    client = proxy.client()
    if text is None:
        os.unlink(path)
    else:
        policy(text)
    after = len(proxy.lines)
    reload(proxy, "old policy stays in force")
    proxy.line(said, after=after)
    assert client.ask("GET", o.url + "/shut").status == 403
    assert proxy.client().ask("GET", o.url + "/open").status == 200
    policy(HERE)
    reload(proxy, "reloaded")
    assert client.ask("GET", o.url + "/shut").status == 200


@pytest.mark.req("G06")
@pytest.mark.parametrize("workers", [1, 3])
def test_hits(start, origin, policy, workers):
    o = origin()
    proxy = start("--workers", str(workers), "--policy", policy(
        "deny paths \"/shut\"\nallow to loopback paths \"/open\" ports any\ndeny paths \"/dead\"\n"))

    def hits():
        after = len(proxy.lines)
        proxy.counters()
        text = "\n".join(proxy.lines[after:])
        return {rule: int(count) for rule, count in re.findall(r"hits rule=(\w+) count=(\d+)", text)}

    assert hits() == {"0": 0, "1": 0, "2": 0, "none": 0}
    for path, count in (("/shut", 5), ("/open", 7), ("/other", 3)):
        for _ in range(count):
            client = proxy.client()
            client.ask("GET", o.url + path)
            client.close()
            proxy.events(client)
    assert hits() == {"0": 5, "1": 7, "2": 0, "none": 3}
    assert re.search(r"hits rule=1 count=7 .*wire\.policy:2: allow to loopback paths \"/open\"", proxy.stderr())
    policy("allow to loopback ports any\n")
    reload(proxy, "reloaded")
    assert proxy.client().ask("GET", o.url + "/shut").status == 200
    deadline = time.monotonic() + PATIENCE
    while hits() != {"0": 1, "none": 0}:  # the event may be a moment behind the answer
        assert time.monotonic() < deadline


@pytest.mark.req("A15", "R07")
def test_logins_on_public_addresses(start, origin, policy):
    """A policy may listen anywhere, but not ask for passwords there unless told so."""
    users = "user anna = clear \"sesame\"\n"
    path = policy(users + HERE)
    done = subprocess.run([BINARY, "--listen", "0.0.0.0:0", "--policy", path], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and b"expected --insecure-auth" in done.stderr
    proxy = start("--policy", policy(HERE), listen="0.0.0.0:0")
    policy(users + "deny paths \"/shut\"\n" + HERE)
    after = len(proxy.lines)
    reload(proxy, "old policy stays in force")
    proxy.line("expected --insecure-auth", after=after)
    o = origin()
    assert proxy.client().ask("GET", o.url + "/shut").status == 200
    proxy = start("--policy", policy(users + HERE), "--insecure-auth", listen="0.0.0.0:0")
    proxy.line("warning: logins at ")


@pytest.mark.req("R07")
@pytest.mark.parametrize("options", [["--users", "x"], ["--user", "a:b"], ["--clients", "10.0.0.0/8"],
                                     ["--allow-private"], ["--connect-ports", "22"], ["--allow-private=10.0.0.0/8"]])
@pytest.mark.parametrize("first", [True, False])
def test_policy_stands_alone(policy, options, first):
    own = ["--policy", policy(HERE)]
    done = subprocess.run([BINARY, "--listen", "127.0.0.1:0", *(own + options if first else options + own)],
                          capture_output=True, timeout=PATIENCE)
    assert done.returncode == 2 and b"expected it without --policy" in done.stderr


@pytest.mark.req("R07")
def test_a_file_with_an_error_ends_the_program(policy):
    done = subprocess.run([BINARY, "--listen", "127.0.0.1:0", "--policy", policy("alow\n\nnett\n")],
                          capture_output=True, timeout=PATIENCE)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1 and len(lines) == 2
    assert re.search(r"wire\.policy:1:1: expected \"allow\"", lines[0]) and "wire.policy:3:1: " in lines[1]
