# SPDX-License-Identifier: MIT
"""Ways to origins that lead through other people's proxies, and through this one's: chains of them, logins, programs
that people use, and parents that die and come back under load."""
import http.client
import os
import signal
import subprocess
import time
import urllib.request

import pytest

import secure
import world
from comings_and_goings import Play, Traffic, contents, echo, policy
from parents import KINDS
from peers import answer, request, response, unused_port
from proxy import OPEN, refused
from test_real_peers import CGI, Files, GitServer, digest, need, run

CHAINS = [
    ("tinyproxy", "squid", "miniproxy"), ("tinyproxy", "miniproxy", "squid"), ("squid", "tinyproxy", "miniproxy"),
    ("squid", "miniproxy", "tinyproxy"), ("miniproxy", "tinyproxy", "squid"), ("miniproxy", "squid", "tinyproxy"),
    ("tls", "tls", "miniproxy"), ("tls", "miniproxy", "socks5"), ("miniproxy", "tls", "socks5"),
    ("tls", "tinyproxy", "socks5"), ("tls", "squid", "miniproxy"), ("socks5",),
]


@pytest.fixture
def parent(tmp_path):
    """parent(kind, login, parent) starts one."""
    running = []

    def run_one(kind, login=None, way=None):
        need(KINDS[kind].program)
        running.append(KINDS[kind](tmp_path, login, way))
        return running[-1]

    yield run_one
    for one in running:
        one.stop()


@pytest.fixture
def chain(parent):
    """The first of a chain of parents, each of which is the next one's client, and all of them. With logins each has
    another one."""
    def run_all(kinds, logins=False):
        servers, way = [], None
        for i, kind in reversed(list(enumerate(kinds))):
            way = parent(kind, f"user{i}:word{i}" if logins else None, way)
            servers.insert(0, way)
        return servers
    return run_all


@pytest.fixture
def front(start):
    """The proxy under test, with parents."""
    def run_one(*servers, options=()):
        ways = [word for server in servers for word in ("--parent", server.url)]
        return start(*OPEN, "--ca", secure.own()[1], *ways, *options)
    return run_one


@pytest.fixture
def https(origin):
    """An origin that speaks TLS, for curl with what trusts it."""
    def run_one(script):
        server = origin(secure.serve(secure.own()[0], script))
        server.url = f"https://{server.authority}"
        return server
    return run_one


def curl(proxy, *options, login=None, ok=True):
    need("curl")
    who = ["--proxy-user", login] if login else []
    return run("curl", "-sS", "--cacert", secure.own()[1], *who, *options, proxy=proxy, ok=ok)


def nodes_of(message):
    """Who has passed it on."""
    return [part.split()[1].decode() for value in message.all("Via") for part in value.split(b",")]


def nodes_expected(servers):
    """What tinyproxy is given of Via after the first line it loses."""
    lines = [["tester"]]
    for server in servers:
        if server.program == "tinyproxy":
            lines = [lines[0] + [server.via]]
        elif server.program == "squid":
            lines = [[name for line in lines for name in line] + [server.via]]
        elif server.via:
            lines.append([server.via])
    return [name for line in lines for name in line]


def passed_on(messages, servers):
    """Nobody's login is there, and whoever should have passed them on has."""
    names = nodes_expected(servers)
    for message in messages:
        assert "Proxy-Authorization" not in message, message.fields
        assert nodes_of(message) == names, message.fields


@pytest.mark.req("T03", "H06", "K11", "V01", "L04")
@pytest.mark.parametrize("logins", [False, True], ids=["open", "logins"])
@pytest.mark.parametrize("kinds", CHAINS, ids="-".join)
def test_curl_through_a_chain(chain, front, origin, https, kinds, logins):
    body = os.urandom(70000)
    plain, tls = origin(answer(response(body))), https(answer(response(body)))
    servers = chain(kinds, logins)
    own = "client:own" if logins else None
    proxy = front(servers[0], options=["--user", own] if own else [])
    done = curl(proxy, "-w", "%{num_connects} ", plain.url + "/1", plain.url + "/2", login=own)
    assert done.stdout == body + b"1 " + body + b"0 "
    assert b"Content-Length: 70000\r\n" in curl(proxy, "-I", plain.url + "/head", login=own).stdout
    assert curl(proxy, "--data-binary", "posted", plain.url + "/post", login=own).stdout == body
    assert curl(proxy, tls.url + "/1", tls.url + "/2", login=own).stdout == 2 * body
    assert curl(proxy, "--data-binary", "posted", tls.url + "/post", login=own).stdout == body
    assert curl(proxy, f"http://localhost:{plain.port}/name", login=own).stdout == body
    assert curl(proxy, "-p", plain.url + "/tunnel", login=own).stdout == body
    asked = [(message.method, message.target) for message in plain.requests]
    assert asked == [("GET", b"/1"), ("GET", b"/2"), ("HEAD", b"/head"), ("POST", b"/post"), ("GET", b"/name"),
                     ("GET", b"/tunnel")]
    assert plain.requests[3].body == tls.requests[2].body == b"posted"
    passed_on(plain.requests[:5], servers)
    for message in plain.requests[5:] + tls.requests:
        assert "Proxy-Authorization" not in message and "Via" not in message, "what is in a tunnel is nobody's"
    served = [r for r in proxy.records() if r["status"] != 407]
    assert {(r["status"], r["via"]) for r in served} == {(200, servers[0].authority)}
    assert {r["cause"] for r in served if r["method"] != "CONNECT"} == {None}  # curl may leave a tunnel by reset
    assert proxy.hop_records(0) == []


@pytest.mark.req("T03", "H06", "K11", "C01", "E01")
@pytest.mark.parametrize("kinds", [("squid", "tinyproxy", "miniproxy"), ("tls", "miniproxy", "socks5")], ids="-".join)
def test_python_through_a_chain(chain, front, origin, https, kinds):
    """urllib, and http.client on one connection with bodies of both framings."""
    plain, tls = origin(), https(answer(response()))
    servers = chain(kinds, logins=True)
    proxy = front(servers[0])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"http": proxy.url, "https": proxy.url}),
        urllib.request.HTTPSHandler(context=secure.client_context(secure.own()[1])))
    assert opener.open(plain.url + "/a", timeout=20).read() == opener.open(tls.url + "/a", timeout=20).read() == b"ok"
    connection = http.client.HTTPConnection(*proxy.at, timeout=20)
    pieces = [os.urandom(50000) for _ in range(5)]
    for body in (b"".join(pieces), iter(pieces), None):
        connection.request("POST" if body else "GET", plain.url + "/b", body=body)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"ok")
    assert [m.body for m in plain.requests] == [b"", b"".join(pieces), b"".join(pieces), b""]
    passed_on(plain.requests, servers)
    assert len({r["client_port"] for r in proxy.records() if r["target"] == plain.url + "/b"}) == 1


@pytest.mark.req("H06", "H07", "K11", "S05")
@pytest.mark.parametrize("kind, login", [
    ("tinyproxy", None),  # to wrong ones it says 401, as origins do
    ("squid", None), ("squid", "user:wrong"), ("miniproxy", None), ("miniproxy", "user:wrong"), ("tls", "user:wrong")])
def test_a_parent_that_refuses_the_login(parent, start, origin, kind, login):
    server, o = parent(kind, "user:word"), origin()
    url = server.url.replace("user:word@", login + "@" if login else "")
    for method, target in (("GET", o.url + "/"), ("CONNECT", o.authority)):
        proxy = start(*OPEN, "--ca", secure.own()[1], "--parent", url)
        client = proxy.client()
        client.send(request(method, target))
        message = refused(proxy, client, "parent_login", method=method, closes=None)
        assert message.status == 502 and "Proxy-Authenticate" not in message, message.fields
        client = proxy.client()
        client.send(request(method, target))
        refused(proxy, client, "parent_login", method=method, closes=None)
        if method == "CONNECT":
            assert proxy.hop_state(server.authority, "down")["cause"] == "parent_login"
        else:
            assert proxy.hop_records(0) == [], "an origin may have said that"
    assert o.requests == []


@pytest.mark.req("H06", "K11")
def test_a_socks5_server_that_refuses_the_login(parent, start, origin):
    server, o = parent("socks5", "user:word"), origin()
    for url in (server.url.replace("word", "wrong"), server.url.replace("user:word@", "")):
        proxy = start(*OPEN, "--parent", url)
        for method, target in (("GET", o.url + "/"), ("CONNECT", o.authority)):
            client = proxy.client()
            client.send(request(method, target))
            refused(proxy, client, "no_parent", method=method, closes=None)
        assert proxy.hop_state(server.authority, "down")["cause"] == "parent_login"
    assert o.requests == []


@pytest.mark.req("L04")
def test_a_tls_parent_has_to_prove_who_it_is(parent, start, origin, tmp_path):
    server, o = parent("tls"), origin()
    other = secure.Authority(tmp_path, "other")
    proxy = start(*OPEN, "--ca", other.file, "--parent", server.url)
    for _ in range(2):
        client = proxy.client()
        client.send(request("GET", o.url + "/"))
        refused(proxy, client, "no_parent", closes=None)
    assert proxy.hop_state(server.authority, "down")["cause"].startswith("tls_")
    assert o.requests == []


@pytest.mark.req("K11", "S05")
@pytest.mark.parametrize("kind", ["tinyproxy", "squid", "miniproxy", "tls", "socks5"])
def test_an_origin_that_cannot_be_reached_by_a_parent(parent, front, kind):
    """That is no fault of the parent's."""
    server = parent(kind)
    proxy = front(server)
    for _ in range(3):
        client = proxy.client()
        client.send(request("CONNECT", f"127.0.0.1:{unused_port()}"))
        assert client.response("CONNECT").status in (502, 503, 504)
        assert proxy.event(client)["cause"] in ("parent_refused", "connection_refused")
        client = proxy.client()
        assert client.ask("GET", f"http://127.0.0.1:{unused_port()}/").status in (500, 502, 503, 504)
    assert proxy.hop_records(0) == []


@pytest.mark.req("L04", "T03", "H06")
def test_https_targets_go_by_tls_alone(parent, front, https):
    """The parent speaks TLS with the origin, if it is spoken to by TLS itself."""
    server, tls = parent("tls", "user:word"), https(answer(response()))
    plain = parent("miniproxy")
    proxy = front(plain, server)
    client = proxy.client()
    assert client.ask("GET", tls.url + "/a").body == b"ok"
    passed_on(tls.requests, [server])
    assert proxy.event(client)["via"] == server.authority
    alone = front(plain)
    client = alone.client()
    client.send(request("GET", tls.url + "/b"))
    refused(alone, client, "scheme_unsupported", closes=None)
    assert len(tls.requests) == 1


@pytest.mark.req("G05", "S07", "H06")
def test_checks_that_ask_for_something(parent, front, origin):
    """By parents of every kind; one that cannot reach it is down, whatever else it can reach."""
    kinds = ("tinyproxy", "squid", "miniproxy", "tls", "socks5")
    servers, checked, o = [parent(kind, "user:word") for kind in kinds], origin(), origin()
    proxy = front(*servers, options=["--check", checked.url + "/alive,1"])
    checked.wait(lambda c: len(c.requests) >= 2 * len(kinds), patience=30)
    assert proxy.hop_records(0) == [] and proxy.client().ask("GET", o.url + "/").status == 200
    assert {(m.method, m.target) for m in checked.requests} == {("HEAD", b"/alive")}
    assert all("Proxy-Authorization" not in m for m in checked.requests)
    checked.stop()
    for server in servers:
        proxy.hop_state(server.authority, "down")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "no_parent", closes=None)
    again = origin(port=checked.port)
    for server in servers:
        proxy.hop_state(server.authority, "up")
    assert proxy.client().ask("GET", o.url + "/").status == 200 and again.requests


@pytest.mark.req("G05", "K11")
def test_a_parent_that_hangs(parent, front, origin):
    """The kernel goes on accepting connections for it: only a check that asks for something finds out."""
    hung, other, o = parent("squid"), parent("tinyproxy"), origin()
    proxy = front(hung, other, options=["--check", o.url + "/alive,1", "--timeout", "check=1"])
    assert proxy.client().ask("GET", o.url + "/").status == 200
    hung.process.send_signal(signal.SIGSTOP)
    try:
        proxy.hop_state(hung.authority, "down")
        for method, target in (("GET", o.url + "/"), ("CONNECT", o.authority)):
            client = proxy.client()
            client.send(request(method, target))
            assert client.response(method).status == 200
    finally:
        hung.process.send_signal(signal.SIGCONT)
    proxy.hop_state(hung.authority, "up")
    client = proxy.client()
    assert client.ask("GET", o.url + "/").status == 200
    assert proxy.event(client)["via"] == hung.authority


# ---- git and ssh


@pytest.mark.req("H10", "K11", "C01", "T05")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_git_through_a_chain(chain, front, tmp_path, scheme):
    """Clone, push and fetch, the second time by tunnels."""
    need("git")
    if not os.path.exists(CGI):
        pytest.skip(f"MISSING PROGRAM: {CGI}")
    proxy = front(chain(("squid", "tinyproxy", "socks5"), logins=True)[0])

    def git(*args, at=None):
        return run("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-c",
                   "http.postBuffer=65536", "-c", f"http.proxy={proxy.url}", "-c", f"http.sslCAInfo={secure.own()[1]}",
                   *args, cwd=at, env={"GIT_CONFIG_NOSYSTEM": "1"})
    work, bare, copy = tmp_path / "work", tmp_path / "srv" / "x.git", tmp_path / "copy"
    git("init", "-q", str(work))
    (work / "big").write_bytes(os.urandom(1000000))
    git("add", ".", at=work)
    git("commit", "-q", "-m", "one", at=work)
    git("clone", "-q", "--bare", str(work), str(bare))
    git("config", "http.receivepack", "true", at=bare)
    server = Files(tmp_path / "srv", GitServer, secure.own()[0] if scheme == "https" else None)
    git("clone", "-q", server.url + "/x.git", str(copy))
    (copy / "more").write_bytes(os.urandom(700000))
    git("add", ".", at=copy)
    git("commit", "-q", "-m", "two", at=copy)
    git("push", "-q", "origin", "main", at=copy)
    git("pull", "-q", server.url + "/x.git", "main", at=work)
    assert digest(work / "big") == digest(copy / "big") and digest(work / "more") == digest(copy / "more")
    assert {r["method"] for r in proxy.records()} == ({"GET", "POST"} if scheme == "http" else {"CONNECT"})
    server.shutdown()


@pytest.fixture
def ssh_server(tmp_path, isolated):
    """A dropbear whose only user has its home in the test's directory. ssh's command line but for what says where."""
    need("ssh", "ssh-keygen", "dropbear", "dropbearkey", "nc.openbsd")
    with open("/proc/self/setgroups", encoding="ascii") as f:
        if f.read().strip() == "deny":
            pytest.skip("NOT ROOT: an SSH server cannot change to a user's groups here")
    home, port, host_key = tmp_path / "home", unused_port(), str(tmp_path / "host_key")
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key"))
    (home / ".ssh" / "authorized_keys").write_bytes((home / "key.pub").read_bytes())
    run("dropbearkey", "-t", "ed25519", "-f", host_key)
    public = next(line for line in run("dropbearkey", "-y", "-f", host_key).stdout.decode().splitlines()
                  if line.startswith("ssh-"))
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    (home / "passwd").write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    with world.in_place_of("/etc/passwd", str(home / "passwd")):
        process = subprocess.Popen(["dropbear", "-F", "-E", "-s", "-r", host_key, "-P", str(tmp_path / "pid"), "-p",
                                    f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield ["ssh", "-F", "none", "-i", str(home / "key"), "-o", f"UserKnownHostsFile={home}/known_hosts", "-o",
               "BatchMode=yes", "-p", str(port)]
        process.terminate()
        process.wait(10)


@pytest.mark.req("H10", "K11", "K05", "K07")
@pytest.mark.parametrize("kinds", [("tinyproxy", "squid", "miniproxy"), ("tls", "miniproxy", "socks5")], ids="-".join)
def test_ssh_through_a_chain(chain, front, ssh_server, tmp_path, kinds):
    """A command with a megabyte each way, and git over it."""
    proxy = front(chain(kinds, logins=True)[0])
    ssh = [*ssh_server, "-o", f"ProxyCommand=nc.openbsd -X connect -x {proxy.at[0]}:{proxy.at[1]} %h %p"]
    data = os.urandom(1 << 20)
    assert run(*ssh, "root@127.0.0.1", "cat", input=data).stdout == data
    need("git")
    env = {"GIT_SSH_COMMAND": " ".join(f"'{word}'" for word in ssh), "GIT_CONFIG_NOSYSTEM": "1"}
    work, copy = tmp_path / "work", tmp_path / "copy"
    run("git", "init", "-q", str(work))
    (work / "big").write_bytes(data)
    run("git", "add", ".", cwd=work)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one", cwd=work)
    run("git", "clone", "-q", f"ssh://root@127.0.0.1{work}", str(copy), env=env)
    assert digest(copy / "big") == digest(work / "big")
    assert {(r["method"], r["status"]) for r in proxy.records()} == {("CONNECT", 200)}


# ---- Parents that die and come back


def write(path, text):
    with open(str(path) + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(str(path) + ".new", path)


@pytest.fixture
def traffic(origin):
    """traffic(front) begins it; it ends with the test."""
    running = []

    def run_one(proxy):
        running.append(Traffic(proxy, origin(contents), origin(echo)))
        return running[-1]

    yield run_one
    for one in running:
        one.end()


@pytest.mark.req("S07", "K11", "P08", "G05")
@pytest.mark.parametrize("checks", [False, True], ids=["passive", "checks"])
@pytest.mark.parametrize("in_turn", [False, True], ids=["in-order", "in-turn"])
def test_parents_come_and_go_under_load(parent, start, traffic, tmp_path, in_turn, checks):
    """Whatever died when: no request that may be repeated fails, before it was noticed or after. Only what had begun to
    come through a parent that was killed is cut."""
    servers = [parent(kind) for kind in ("tinyproxy", "squid", "miniproxy")]
    write(tmp_path / "ways", policy(servers, in_turn, checks))
    proxy = start("--name", "tester", "--policy", str(tmp_path / "ways"))
    load = traffic(proxy)
    Play(proxy, servers, load, in_turn, checks).run()
    load.end()
    assert not load.errors, load.errors
    assert not load.failed, load.failed
    assert all(used > 0 for _, used, _ in proxy.hops().values()), proxy.hops()
    gets = [r for r in proxy.records() if r["method"] == "GET"]
    assert {r["status"] for r in gets} == {200}
    assert {r["via"] for r in gets} == {server.authority for server in servers}


@pytest.mark.req("S07", "G05", "K11")
def test_all_parents_down(parent, front, origin):
    servers, o = [parent(kind) for kind in ("tinyproxy", "squid", "socks5")], origin()
    proxy = front(*servers)
    assert proxy.client().ask("GET", o.url + "/").status == 200
    for server in servers:
        server.kill()
    for method, target in (("GET", o.url + "/"), ("POST", o.url + "/"), ("CONNECT", o.authority)):
        client = proxy.client()
        client.send(request(method, target))
        message = refused(proxy, client, "no_parent", method=method, closes=None)
        assert message.status == 503 and int(message.get("Retry-After")) > 0
    for server in servers:
        proxy.hop_state(server.authority, "down")
    assert {state for state, _, _ in proxy.hops().values()} == {"down"}
    servers[1].revive()
    while (status := proxy.client().ask("GET", o.url + "/").status) != 200:  # until the time has come to try again
        assert status == 503
        time.sleep(0.1)
    assert proxy.hop_state(servers[1].authority, "up")["cause"] is None
    assert proxy.hops()[servers[1].authority][0] == "up" and len(o.requests) == 2


@pytest.mark.req("G05", "P08")
def test_another_list_of_parents_under_load(parent, start, traffic, tmp_path):
    """SIGHUP: nothing is lost, tunnels included, and what is known of a parent is not forgotten."""
    servers = [parent(kind) for kind in ("tinyproxy", "squid", "miniproxy")]
    lists = [servers[:2], servers[1:], servers[::-1], servers[:1]]
    write(tmp_path / "ways", policy(lists[-1]))
    proxy = start("--name", "tester", "--policy", str(tmp_path / "ways"))
    load = traffic(proxy)
    load.goes_on()
    for i in range(40):
        after = len(proxy.lines)
        write(tmp_path / "ways", policy(lists[i % len(lists)], in_turn=i % 3 == 0))
        proxy.process.send_signal(signal.SIGHUP)
        proxy.line("reloaded", after=after)
        load.goes_on(1)
    servers[1].kill()  # which the list in force has not
    write(tmp_path / "ways", policy(lists[1]))
    proxy.process.send_signal(signal.SIGHUP)
    proxy.hop_state(servers[1].authority, "down")
    write(tmp_path / "ways", policy(lists[2]))
    proxy.process.send_signal(signal.SIGHUP)
    load.goes_on()
    assert proxy.hops()[servers[1].authority][0] == "down"
    load.end()
    assert not load.errors and not load.failed and not load.cut, (load.errors, load.failed, load.cut)
    assert {r["via"] for r in proxy.records()} == {server.authority for server in servers}
