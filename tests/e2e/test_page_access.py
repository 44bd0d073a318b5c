# SPDX-License-Identifier: MIT
"""Who may see pages of the proxy's own: --pages, --pac, a policy; and what all workers count together."""
import base64
import json
import re
import shutil
import subprocess
import time

import pytest

from peers import request
from proxy import BINARY, OPEN
from secure import OVER_TLS
from test_policy import HERE, policy  # noqa: F401

SPOKEN = "HTTPS" if OVER_TLS else "PROXY"  # with a proxy whose listeners all speak TLS
INSIDE, OUTSIDE = "127.44.0.7", "127.45.0.7"


def page(proxy, path, *fields, source=None, method="GET"):
    client = proxy.client(source=source)
    client.send(request(method, path, *fields, "Connection: close", host=f"{proxy.host}:{proxy.port}"))
    message = client.response(method)
    return message, client


def denied(proxy, path, source=None):
    message, client = page(proxy, path, source=source)
    event = proxy.event(client, 403)
    assert (message.status, event["cause"], event["by"]) == (403, "policy_denied", "proxy")
    return event


def login(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.req("T19")
def test_programs_on_this_machine_may_see_pages(start):
    proxy = start()
    message, client = page(proxy, "/health")
    assert (message.status, message.body) == (200, b"ok\n")
    assert proxy.event(client)["rule"] == 2
    for path in "/", "/metrics", "/log":
        assert page(proxy, path)[0].status == 200
    assert page(proxy, "/proxy.pac")[0].status == 404


@pytest.mark.req("T19", "S02")
def test_networks_of_pages(start):
    proxy = start("--pages", "127.44.0.0/16")
    assert page(proxy, "/metrics", source=INSIDE)[0].status == 200
    for path in "/", "/metrics", "/log", "/health", "/proxy.pac":
        denied(proxy, path, source=OUTSIDE)


@pytest.mark.req("T19", "S02")
def test_no_pages(start):
    proxy = start("--pages", "none")
    for path in "/", "/health":
        denied(proxy, path, source=INSIDE)


def test_pages_have_nothing_to_do_with_who_may_use_the_proxy(start, origin):
    """Neither --clients nor logins: these are for origins."""
    proxy, o = start(*OPEN, "--clients", "127.44.0.0/16", "--user", "anna:sesame", "--pages", "127.45.0.0/16"), origin()
    assert page(proxy, "/metrics", source=OUTSIDE)[0].status == 200
    denied(proxy, "/metrics", source=INSIDE)
    client = proxy.client(source=OUTSIDE)
    client.send(request("GET", o.url + "/"))
    assert client.response().status == 403


@pytest.mark.req("G06", "S02")
def test_a_policy_says_who(start, policy):  # noqa: F811
    proxy = start("--policy", policy(
        "user admin = clear \"sesame\"\nuser guest = clear \"sesame\"\n" + HERE +
        "allow from 127.44.0.0/16 methods pages paths \"/health\"\nallow users admin methods pages\n"))
    assert page(proxy, "/health", source=INSIDE)[0].status == 200
    message, client = page(proxy, "/health", source=OUTSIDE)
    assert message.status == 401 and message.get("WWW-Authenticate").startswith(b"Basic realm=")
    assert proxy.event(client)["cause"] == "page_login_missing"
    message, client = page(proxy, "/metrics", login("admin", "sesame"), source=OUTSIDE)
    assert message.status == 200 and proxy.event(client)["user"] == "admin"
    assert page(proxy, "/metrics", login("guest", "sesame"))[0].status == 403
    message, client = page(proxy, "/metrics", login("admin", "wrong"))
    assert message.status == 401 and proxy.event(client)["cause"] == "page_login_failed"


def test_a_policy_without_pages_shows_none(start, policy):  # noqa: F811
    proxy = start("--policy", policy(HERE + "allow from loopback ports any\n"))
    denied(proxy, "/")


# ---- PAC

@pytest.mark.req("W01", "W02")
def test_pac_for_all_clients(start):
    """Without a login, for whom has one who does not know the proxy yet? But not for clients of other networks."""
    proxy = start("--clients", "127.44.0.0/16", "--user", "anna:sesame", "--pages", "none", "--pac=proxy.example:3128",
                  "--pac-direct", "corp.example,.Other.example", "--pac-fallback")
    for path in "/proxy.pac", "/wpad.dat":
        message, client = page(proxy, path, source=INSIDE)
        assert message.status == 200 and message.get("Content-Type") == b"application/x-ns-proxy-autoconfig"
        assert f"{SPOKEN} proxy.example:3128; DIRECT".encode() in message.body
        assert b'"corp.example"' in message.body and b'"other.example"' in message.body
        assert proxy.event(client)["user"] is None
        denied(proxy, path, source=OUTSIDE)
    denied(proxy, "/log", source=INSIDE)


@pytest.mark.req("W01")
def test_pac_names_the_host_that_was_asked(start):
    proxy = start("--pac")
    assert f"{SPOKEN} {proxy.host}:{proxy.port}\"".encode() in page(proxy, "/proxy.pac")[0].body


@pytest.mark.req("W03")
def test_pac_means_what_it_says(start):
    """The script itself, run."""
    if shutil.which("node") is None:
        pytest.skip("NOT TESTED: node is missing")
    proxy = start("--pac", "--pac-direct", "corp.example", "--pac-fallback")
    through, directly = f"{SPOKEN} {proxy.host}:{proxy.port}; DIRECT", "DIRECT"
    wanted = {"http://example.com/": through, "https://10.example.com/x": through, "wss://fd.example/": through,
              "http://8.8.8.8/": through, "http://172.32.0.1/": through, "http://11.0.0.1/": through,
              "http://[2001:db8::1]/": through, "http://xcorp.example/": through, "http://local.example/": through,
              "http://intranet/": directly, "http://a.local/": directly, "http://A.LOCAL./": directly,
              "http://corp.example/": directly, "https://www.Corp.Example/": directly, "http://10.1.2.3/": directly,
              "http://172.16.0.1/": directly, "http://172.31.9.9/": directly, "http://192.168.7.7/": directly,
              "http://127.0.0.1/": directly, "http://169.254.1.1/": directly, "http://[::1]/": directly,
              "http://[fe80::1]/": directly, "http://[fd00::7]/": directly, "ftp://example.com/": directly}
    script = page(proxy, "/proxy.pac")[0].body.decode() + """
        console.log(JSON.stringify(JSON.parse(process.argv[1]).map(url =>
            FindProxyForURL(url, url.match(/\\/\\/(\\[.*\\]|[^\\/]*)/)[1]))))"""
    done = subprocess.run(["node", "-e", script, json.dumps(list(wanted))], capture_output=True, timeout=30, check=True)
    assert dict(zip(wanted, json.loads(done.stdout))) == wanted


@pytest.mark.req("W02")
def test_there_is_no_pac_unless_it_is_wanted(start):
    proxy = start()
    for path in "/proxy.pac", "/wpad.dat":
        assert page(proxy, path)[0].status == 404


@pytest.mark.parametrize("options,said", [
    (["--pages", "here"], "expected networks"), (["--pages", ""], "expected networks"),
    (["--policy", "x", "--pages", "none"], "--pages: expected it without --policy"),
    (["--pac-fallback"], "--pac-fallback: expected --pac with it"),
    (["--pac-direct", "a.example"], "--pac-direct: expected --pac with it"),
    (["--pac", "--pac-direct", "a b"], "expected domains"), (["--pac=proxy"], "expected HOST:PORT"),
    (["--pac=a b:1"], "expected HOST:PORT"), (["--pac=a:0"], "expected HOST:PORT"), (["--pac=:1"], "expected HOST:PORT"),
    (["--pac=fd00::1:1"], "expected HOST:PORT"), (["--pac=[fd00::1:1"], "expected HOST:PORT"),
    (["--pac=\"x:1"], "expected HOST:PORT"),
    (["--contact", "a\nb"], "expected text without control characters"), (["--maintenance", ""], "expected some text")])
def test_wrong_usage(options, said):
    done = subprocess.run([BINARY, *options], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and said in done.stderr, done.stderr


# ---- What is counted

def value_of(text, name):
    return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M)[1])


@pytest.mark.req("G04")
@pytest.mark.parametrize("workers", [1, 4])
def test_all_workers_are_counted(start, origin, workers):
    """Whichever of them is asked; what they have done is known a moment later, and asking changes nothing of it."""
    proxy, o, pages = start(*OPEN, "--workers", str(workers)), origin(), 0
    for done in range(20, 100, 20):
        for _ in range(20):
            assert proxy.client().ask("GET", o.url + "/" + "x" * 1000, "Connection: close").status == 200
        time.sleep(0.5)  # all workers sleep, and have told before
        for _ in range(6):
            text = page(proxy, "/metrics")[0].body.decode()
            assert value_of(text, 'miniproxy_codes_total{code="200"}') == done == value_of(text, "miniproxy_requests_total")
            octets = value_of(text, "miniproxy_received_bytes_total") - value_of(text, "miniproxy_pages_received_bytes_total")
            assert done * 1000 < octets < done * 1200, octets
        pages += 6
        time.sleep(0.2)
        assert value_of(page(proxy, "/metrics")[0].body.decode(), "miniproxy_pages_total") == pages
        pages += 1
    assert value_of(text, "miniproxy_workers") == workers
    assert value_of(text, "miniproxy_log_lost_lines_total") == 0
    assert text.endswith("# EOF\n") and text.count("# EOF\n") == 1


def test_pages_are_not_told_by_foreign_names(start):
    """DNS rebinding: a browser on this machine is led here by a name of somebody else's."""
    proxy = start("--page-names", "proxy.corp.example,Other.Example", "--log-format", "json")
    for host, status in (("evil.example", 400), ("proxy.corp.example:3128", 200), ("other.example", 200),
                         ("localhost:3128", 200), ("router", 200), ("x.proxy.corp.example", 400)):
        client = proxy.client()
        client.send(request("GET", "/metrics", "Connection: close", host=host))
        message = client.response("GET")
        assert message.status == status, host
        if status == 400:
            assert proxy.event(client)["cause"] == "not_a_proxy_request"
