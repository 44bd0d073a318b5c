# SPDX-License-Identifier: MIT
"""The log, the counters and the signals of the program."""
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from peers import PATIENCE, answer, request, response, unused_port
from proxy import BINARY, refused


@pytest.mark.req("G01")
def test_record_of_a_transaction(proxy, origin):
    o, client = origin(answer(response(b"x" * 5000))), proxy.client()
    client.ask("POST", o.url + "/path?query", body=b"y" * 3000)
    event = proxy.event(client)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert (event["client"], event["client_port"]) == client.address
    assert (event["method"], event["target"], event["status"]) == ("POST", o.url + "/path?query", 200)
    assert (event["by"], event["cause"], event["user"], event["address"]) == ("origin", None, None, o.authority)
    assert event["bytes_up"] > 3000 and event["bytes_down"] > 5000
    assert event["bytes_down"] == len(client.received)
    for name in ("dns_ms", "connect_ms", "first_byte_ms", "total_ms"):
        assert 0 <= event[name] < 5000
    assert event["rule"] == 1 and event["reused"] is False


@pytest.mark.req("G01")
def test_one_record_for_each_transaction(proxy, origin):
    o, client = origin(), proxy.client()
    for i in range(5):
        client.ask("GET", f"{o.url}/{i}")
    client.send(b"junk\r\n\r\n")
    client.rest()
    events = proxy.events(client, 6)
    assert [e["target"] for e in events] == [f"{o.url}/{i}" for i in range(5)] + [None]
    assert [e["cause"] for e in events] == [None] * 5 + ["bad_request_line"]
    time.sleep(0.05)
    assert len(proxy.events(client)) == 6


@pytest.mark.req("G01")
def test_record_of_a_tunnel(proxy, origin):
    o, client = origin(lambda peer: peer.send(peer.exactly(1000) * 3)), proxy.client()
    client.send(request("CONNECT", o.authority) + b"x" * 1000)
    client.response("CONNECT")
    assert len(client.rest()) == 3000
    client.close()
    event = proxy.event(client)
    assert (event["method"], event["target"], event["status"], event["cause"]) == ("CONNECT", o.authority, 200, None)
    assert event["bytes_up"] >= 1000 and event["bytes_down"] == len(client.received)


@pytest.mark.req("G01")
@pytest.mark.parametrize("size", [100, 127, 128, 129, 1000, 30000])
def test_targets_are_logged_whole(proxy, origin, size):
    o, client = origin(), proxy.client()
    url = o.url + "/" + "t" * size
    client.ask("GET", url)
    assert proxy.event(client)["target"] == url


@pytest.mark.req("G01", "S14")
def test_record_when_the_client_goes_away(proxy, origin):
    o, client = origin(lambda peer: (peer.request(), peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
                                     peer.rest())), proxy.client()
    client.send(request("GET", o.url + "/"))
    client.until(b"\r\n\r\n")
    client.reset()
    event = proxy.event(client)
    assert (event["cause"], event["status"]) == ("client_gone", 200)


@pytest.mark.req("G02", "R08")
@pytest.mark.parametrize("path", ['/"quoted"', "/back\\slash", "/\\u0000", '/","status":500,"x":"', "/%0d%0aforged",
                                  "/'", "/\xe4\xff", "/\xc3\xa4",
                                  "/\\", "/\x80"])
def test_nothing_breaks_the_json_log(proxy, origin, path):
    """Every line stays one object (records() insists on that) with the members it should have."""
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + path))
    client.response()
    event = proxy.event(client)
    assert event["status"] in (200, 400)
    if event["status"] == 200 and max(path) < "\x7f":
        assert event["target"] == o.url + path
    with open(proxy.log, "rb") as f:
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", f.read())


@pytest.mark.req("G02", "R08", "G01")
def test_common_log_format(start, origin, tmp_path):
    log = tmp_path / "clf.log"
    o = origin()
    proxy = start("--allow-private", "--user", 'an"na:sesame', "--log-format", "clf", "--log", str(log))
    import base64
    login = "Proxy-Authorization: Basic " + base64.b64encode(b'an"na:sesame').decode()
    client = proxy.client()
    for path in ("/plain", '/"quote" 200 1 - origin', "/\xe4"):
        client.send(request("GET", (o.url + path).replace(" ", "+"), login))
        client.response()
    deadline = time.monotonic() + PATIENCE
    while len(lines := log.read_bytes().split(b"\n")[:-1]) < 3:
        assert time.monotonic() < deadline
    form = (rb'127\.\d+\.\d+\.\d+ - (an\\x22na|-) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] '
            rb'"[^"]*" \d{3} \d+ \S+ \S+ \d+ \S+ -?\d+( id=\d+)?')
    for line in lines:
        assert re.fullmatch(form, line), line
    assert b"sesame" not in b"".join(lines)


@pytest.mark.req("G02")
def test_queries_can_be_left_out(start, origin):
    o, proxy = origin(), start("--allow-private", "--log-query", "no")
    client = proxy.client()
    client.ask("GET", o.url + "/path?token=sesame&x=" + "y" * 500)
    assert proxy.event(client)["target"].rstrip("?") == o.url + "/path"
    assert o.requests[0].target.startswith(b"/path?token=sesame")
    with open(proxy.log, "rb") as f:
        assert b"sesame" not in f.read()


@pytest.mark.req("G03")
def test_clients_are_not_told_on(proxy, origin):
    o, client = origin(), proxy.client()
    client.ask("GET", o.url + "/")
    assert client.address[0].encode() not in o.peers[0].received
    for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Client-IP", "X-Forwarded-Host"):
        assert name not in o.requests[0]
    client.ask("GET", o.url + "/", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4")
    assert o.requests[1].get("X-Forwarded-For") == b"1.2.3.4" and o.requests[1].get("Forwarded") == b"for=1.2.3.4"


@pytest.mark.req("G04")
def test_counters(start, origin):
    o, proxy = origin(), start("--allow-private", "--connect-ports", "any")
    client = proxy.client()
    client.ask("GET", o.url + "/")
    client.ask("GET", o.url + "/")
    client.ask("GET", f"http://127.0.0.1:{unused_port()}/")
    tunnel = proxy.client()
    tunnel.send(request("CONNECT", o.authority))
    tunnel.response("CONNECT")
    proxy.events(client, 3)
    counters = proxy.counters()
    assert counters["accepted"] == 2 and counters["requests"] == 3
    assert counters["tunnels"] == 1 and counters["reused"] == 1
    assert counters["active"] == 2 and counters["status_2xx"] == 2 and counters["status_5xx"] == 1
    assert counters["cause.connection_refused"] == 1
    client.close()
    tunnel.close()
    proxy.wait_idle()


@pytest.mark.req("S07", "P02")
def test_sigterm_drains(start, origin):
    """Idle connections close, what runs is finished, nothing new is accepted, and then the program ends."""
    go = threading.Event()

    def script(peer):
        while True:
            message = peer.request()
            if message.target == b"/slow":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                go.wait(10)
                peer.send(b"lf")
            else:
                peer.send(response())
    o, proxy = origin(script), start("--allow-private")
    idle, busy = proxy.client(), proxy.client()
    assert idle.ask("GET", o.url + "/").status == 200
    busy.send(request("GET", o.url + "/slow") + request("GET", o.url + "/never"))
    busy.until(b"ha")
    proxy.terminate()
    assert idle.closed() == "eof"
    with pytest.raises(OSError):
        proxy.client()
    assert proxy.process.poll() is None
    go.set()
    assert busy.exactly(2) == b"lf"
    busy.rest()
    busy.close()
    assert proxy.wait() == 0


@pytest.mark.req("Z03", "S14")
def test_second_sigterm_stops(start, origin):
    o, proxy = origin(lambda peer: peer.rest()), start("--allow-private", "--connect-ports", "any")
    client = proxy.client()
    client.send(request("CONNECT", o.authority))
    assert client.response("CONNECT").status == 200
    proxy.terminate()
    proxy.line("draining")
    client.quiet(0.2)
    proxy.terminate()
    client.rest()
    assert proxy.wait() == 0
    assert proxy.event(client)["cause"] == "stopped"


@pytest.mark.req("Z03")
def test_drain_has_a_limit(start, origin):
    o, proxy = origin(lambda peer: peer.rest()), start("--allow-private", "--connect-ports", "any", "--drain", "0.5")
    client = proxy.client()
    client.send(request("CONNECT", o.authority))
    assert client.response("CONNECT").status == 200
    proxy.terminate()
    assert proxy.wait() == 0


@pytest.mark.req("G01")
def test_log_is_reopened(start, origin):
    o, proxy = origin(), start("--allow-private")
    first, second = proxy.client(), proxy.client()
    first.ask("GET", o.url + "/1")
    proxy.event(first)
    os.rename(proxy.log, proxy.log + ".old")
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line("reloaded")
    second.ask("GET", o.url + "/2")
    proxy.log_read, proxy.log_records = 0, []
    proxy.event(second)
    assert [record["target"] for record in proxy.records()] == [o.url + "/2"]


@pytest.mark.req("Q03", "S05")
def test_connection_that_fails_in_another_way(proxy, isolated):
    """Broadcast: neither refused nor unreachable."""
    client = proxy.client()
    client.send(request("GET", "http://255.255.255.255/"))
    refused(proxy, client, "connect_failed", "unreachable", closes=False)


@pytest.mark.req("G06", "R07")
def test_banner_shows_the_policy(start):
    proxy = start("--clients", "127.0.0.0/8", "--connect-ports", "443,8000-8100")
    text = proxy.stderr()
    proxy.line("try: curl")
    for word in ("rule 0", "port 443", "8000-8100", "127.0.0.0/8", "refused"):
        assert word in proxy.stderr(), text


@pytest.mark.req("R07")
@pytest.mark.parametrize("options", [["--listen", "127.0.0.1:9", "--proxy-protocol", "127.0.0.1:9"],
                                     ["--listen", "[::1]:9", "--listen", "[::1]:9"],
                                     ["--realm", "r" * 65], ["--pages", "none", "--pages", "127.0.0.0/8"],
                                     ["--pages", "127.0.0.0/8", "--pages", "none"], ["--log", ""], ["--users", ""]])
def test_what_is_wrong_is_named(options):
    is_named(options)


@pytest.mark.req("R07")
@pytest.mark.parametrize("option", ["--contact", "--maintenance"])
def test_texts_that_are_too_long(option):
    is_named([option, "m" * 1001])


def is_named(options):
    done = subprocess.run([BINARY, *options], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.startswith(f"miniproxy: {options[-2]} ".rstrip(" ").encode())
    assert b": expected " in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.req("R07", "A15")
@pytest.mark.parametrize("options", [["--nonsense"], ["--listen"], ["--listen", "localhost:1"],
                                     ["--listen", "127.0.0.1:99999"], ["--listen", "127.0.0.1"],
                                     ["--timeout", "head"], ["--timeout", "head=x"], ["--timeout", "head=0"],
                                     ["--timeout", "nose=1"],
                                     ["--timeout", "head=-1"], ["--connect-ports", "0"], ["--connect-ports", "x"],
                                     ["--connect-ports", ""],
                                     ["--connect-ports", "9-1"], ["--clients", "300.0.0.0/8"],
                                     ["--clients", "10.0.0.0/33"], ["--user", "nocolon"],
                                     ["--user", "anna:"], ["--users", "/nonexistent"], ["--name", "two words"],
                                     ["--name", ""], ["--name", "n" * 33],
                                     ["--name", "9x"], ["--body-max", "-1"], ["--per-client", "0"], ["--workers", "0"],
                                     ["--workers", "x"],
                                     ["--log-format", "xml"], ["--log", "/nonexistent/log"], ["--help=x"],
                                     ["--parent", "proxy.example:3128"], ["--parent", "http://anna@proxy.example"],
                                     ["--parent", "http://proxy.example/x"], ["--parent"], ["--check", "5"],
                                     ["--parent", "http://a", "--check", "0"], ["--parent", "http://a", "--check", "x"],
                                     ["--parent", "http://a", "--check", "https://b/,5"],
                                     [*["--parent", "http://a"] * 17],
                                     ["positional"]])
def test_wrong_options_end_the_program(options):
    done = subprocess.run([BINARY, *options], capture_output=True, timeout=PATIENCE)
    assert done.returncode in (1, 2) and done.stderr.startswith(b"miniproxy: ") and done.stderr.count(b"\n") == 1


@pytest.mark.req("R07")
@pytest.mark.parametrize("option", ["--policy", "--users", "--clients"])
def test_what_says_who_may_is_given_once(tmp_path, option):
    """The last of two would take the place of the first, and nobody would know."""
    given = {"--clients": "127.0.0.0/8", "--policy": str(tmp_path / "policy"), "--users": str(tmp_path / "users")}[option]
    (tmp_path / "policy").write_text("deny\n", encoding="ascii")
    (tmp_path / "users").write_text("", encoding="ascii")
    done = subprocess.run([BINARY, "--listen", "127.0.0.1:0", option, given, option, given], capture_output=True,
                          timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.startswith(f"miniproxy: {option} ".encode())
    assert b": expected once only" in done.stderr


@pytest.mark.req("R07")
def test_signals_close_together(start):
    """Whichever thread could take the last one: it waits until the first is seen to."""
    for _ in range(10):
        proxy = start()
        for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM):
            proxy.process.send_signal(number)
        assert proxy.wait() == 0


@pytest.mark.req("G06")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(option):
    done = subprocess.run([BINARY, option], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stdout.startswith(b"miniproxy ") and not done.stderr


@pytest.mark.req("R07")
def test_port_in_use(start):
    proxy = start()
    done = subprocess.run([BINARY, "--listen", f"127.0.0.1:{proxy.port}"], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and b"cannot listen" in done.stderr


@pytest.mark.req("R07")
@pytest.mark.parametrize("own", ["127.0.0.1", "0.0.0.0"])
def test_port_of_other_workers_in_use(start, own):
    """Workers share a port with each other, and with nobody else. Once that one drains it is free."""
    proxy = start("--workers", "2", "--allow-private", "--connect-ports", "any")
    command = [BINARY, "--workers", "2", "--log", "/dev/null", "--clients", "127.0.0.0/8", "--listen", f"{own}:{proxy.port}"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1 and re.search(rb"cannot listen on .*: Address .*in use", done.stderr)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client = proxy.client()
        client.send(request("CONNECT", f"127.0.0.1:{server.getsockname()[1]}"))
        assert client.response("CONNECT").status == 200
        following = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            time.sleep(0.2)  # it tries already
            proxy.terminate()
            assert b" listens on " in following.stderr.readline()
            assert proxy.process.poll() is None
        finally:
            following.terminate()
            following.communicate(timeout=PATIENCE)
    assert following.returncode == 0


@pytest.mark.req("R07")
def test_listeners_that_contain_each_other(tmp_path):
    port = unused_port()
    for workers in "1", "2":
        done = subprocess.run([BINARY, "--workers", workers, "--clients", "127.0.0.0/8", "--listen", f"0.0.0.0:{port}",
                               "--listen", f"127.0.0.1:{port}"], capture_output=True, timeout=PATIENCE)
        assert done.returncode == 1 and b"cannot listen on 127.0.0.1:" in done.stderr


@pytest.mark.req("Z08")
@pytest.mark.parametrize("workers,descriptors", [(1, 4), (1, 6), (2, 6), (2, 9), (8, 16)])
def test_start_without_descriptors(workers, descriptors):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    done = subprocess.run([BINARY, "--workers", str(workers), "--listen", "127.0.0.1:0"], capture_output=True,
                          timeout=PATIENCE, preexec_fn=limit)
    said = done.stderr.splitlines()[0]  # sanitizers have something to say of that, too; musl has other words
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(rb"miniproxy: .*: (Too many open files|No file descriptors available)", said)


@pytest.mark.req("G01", "Z08")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_standard_descriptors_that_are_closed(tmp_path, closed):
    """Nothing else gets their numbers, and with these what is written there."""
    def close():
        for fd in closed:
            os.close(fd)

    port, log = unused_port(), tmp_path / "log"
    process = subprocess.Popen([BINARY, "--listen", f"127.0.0.1:{port}", *(["--log", str(log)] if 2 in closed else [])],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=close)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", port), PATIENCE)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.01)
        kept = {fd: os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in closed}
        assert set(kept.values()) == {"/dev/null"}, kept
        with client:
            client.sendall(b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 403 ")
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    assert 2 not in closed or b"listens on" not in log.read_bytes()


@pytest.mark.req("G06")
@pytest.mark.parametrize("words,wrong", [(["--help"], 1), (["--version"], 1), (["policy", "help"], 2),
                                         (["policy", "check", "NEW"], 2), (["policy", "diff", "OLD", "NEW"], 2),
                                         (["policy", "lint", "NEW"], 2),
                                         (["policy", "explain", "NEW", "10.0.0.1", "-", "GET", "http://a.example/"], 2)])
def test_texts_that_cannot_be_written(tmp_path, words, wrong):
    (tmp_path / "OLD").write_text("deny\n", encoding="ascii")
    (tmp_path / "NEW").write_text("allow hosts a.example\n", encoding="ascii")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BINARY, *words], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert done.returncode == wrong
    assert done.stderr == b"miniproxy: cannot write to standard output: No space left on device\n"
    done = subprocess.run([BINARY, *words], cwd=tmp_path, stderr=subprocess.PIPE, timeout=PATIENCE,
                          preexec_fn=lambda: os.close(1))
    assert done.returncode == wrong and done.stderr.startswith(b"miniproxy: cannot write to standard output: ")


@pytest.mark.req("P01", "Z04")
def test_many_listeners(start, origin):
    o, proxy = origin(), start("--allow-private", "--listen", "127.0.0.2:0", "--listen", "127.0.0.3:0")
    ports = re.findall(r"(127\.0\.0\.\d):(\d+)", proxy.line("listens on.*")[0])
    assert len(ports) == 3
    for host, port in ports:
        proxy.host, proxy.port = host, int(port)
        assert proxy.client(source="127.0.0.1").ask("GET", o.url + "/").status == 200
    proxy.host, proxy.port = ports[0][0], int(ports[0][1])
    client = proxy.client()
    client.send(request("GET", f"http://{ports[1][0]}:{ports[1][1]}/"))
    refused(proxy, client, "loop", closes=False)


# ---- Parents, as far as the command tells of them

@pytest.mark.req("G02", "A13")
def test_logins_of_parents_are_nowhere_to_be_read(start, origin):
    o = origin(answer(response(b"x")))
    proxy = start("--parent", f"http://anna:op%65n-sesame@{o.authority}",
                  f"--parent=http://anna:open-sesame@127.0.0.1:{unused_port()}")
    client = proxy.client()
    assert client.ask("GET", "http://a.example/").status == 200
    assert proxy.event(client)["via"] == o.authority
    with open(proxy.log, "rb") as log, open(f"/proc/{proxy.process.pid}/cmdline", "rb") as command:
        for text in (log.read(), command.read(), proxy.stderr().encode()):
            assert b"sesame" not in text and b"YW5uYTpvcGVuLXNlc2FtZQ" not in text and b"n-s" not in text


@pytest.mark.req("G06", "R07")
def test_logins_of_wrong_parents_are_not_shown():
    for url in ("http://anna:open-sesame@a/b", "ftp://anna:open-sesame@a", "http://open-sesame@a"):
        done = subprocess.run([BINARY, "--parent", url], capture_output=True, timeout=PATIENCE)
        assert done.returncode == 2 and b"sesame" not in done.stderr


@pytest.mark.req("G01", "G04")
def test_transactions_by_parents_are_told(start, origin):
    o = origin(answer(response(b"x")))
    proxy = start("--parent", f"http://{o.authority}")
    assert f"via {o.authority}" in proxy.stderr()
    client = proxy.client()
    assert client.ask("GET", "http://a.example/").status == 200
    event = proxy.event(client)
    assert (event["via"], event["address"], event["by"]) == (o.authority, o.authority, "origin")
    after = len(proxy.lines)
    proxy.counters()
    assert proxy.line(r"parent=(\S+) state=(\S+) used=(\d+) failed=(\d+)", after=after).groups() == (
        o.authority, "up", "1", "0")


@pytest.mark.req("G01", "G02")
def test_parents_in_the_common_log_format(start, origin):
    o = origin(answer(response(b"x")))
    dead = f"127.0.0.1:{unused_port()}"
    proxy = start("--parent", f"http://{dead}", "--parent", f"http://{o.authority}", "--log-format", "clf")
    client = proxy.client()
    for _ in range(2):
        assert client.ask("GET", "http://a.example/").status == 200
    client.close()
    proxy.wait_idle()
    with open(proxy.log, encoding="ascii") as log:
        lines = log.read().splitlines()
    assert all(re.search(rf" via={o.authority}( id=\d+)?$", line) for line in lines if "GET" in line)
    assert sum("GET" in line for line in lines) == 2
    others = [re.sub(r"\[.*\]", "[]", line) for line in lines if "GET" not in line]
    assert set(others) <= {f'- - - [] "-" 000 0 connection_refused parent 0 - -1 state=down via={dead}'}


@pytest.mark.req("G01", "G04", "R07")
@pytest.mark.parametrize("checks", [[], ["--check", "1"]])
def test_a_reload_remembers_which_parents_are_down(start, checks):
    dead = f"127.0.0.1:{unused_port()}"
    proxy = start("--parent", f"http://{dead}", "--allow-private", *checks)
    client = proxy.client()
    while not proxy.hop_log:
        assert client.ask("GET", "http://a.example/").status in (502, 503)
        proxy.records()
    [change] = proxy.hop_records()
    assert (change["by"], change["via"], change["state"], change["cause"]) == (
        "parent", dead, "down", "connection_refused")
    for _ in range(2):
        after = len(proxy.lines)
        proxy.counters()
        assert proxy.line(r"parent=(\S+) state=(\S+) used=(\d+)", after=after).groups() == (dead, "down", "0")
        proxy.process.send_signal(signal.SIGHUP)
        proxy.line("reloaded", after=after)
    assert client.ask("GET", "http://a.example/").status in (502, 503)
    assert len(proxy.hop_records()) == 1
