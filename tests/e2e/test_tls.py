# SPDX-License-Identifier: MIT
"""TLS on both sides of the command: clients of --tls-listen, and https:// origins. Only for builds that have it."""
import base64
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import proxy as proxies
import secure
import world
from peers import Cut, answer, request, response, unused_port
from proxy import OPEN, refused
from secure import TlsClient, client_context, serve
from test_real_peers import need, run

MEGABYTES = 10
VERSIONS = os.environ["MINIPROXY_TLS"].split()  # that the library under test has
SMALL = os.environ["MINIPROXY_TLS_SMALL_BIN"]  # a build with two sessions of TLS, and no more memory than each must have
PYTHONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """An authority that the proxy and its clients trust, and one that nobody does."""
    class Pki:
        pass

    pki, directory = Pki(), tmp_path_factory.mktemp("pki")
    pki.ca, pki.other = secure.Authority(directory, "authority"), secure.Authority(directory, "other")
    pki.proxy, pki.origin = pki.ca.issue("proxy"), pki.ca.issue("origin")
    pki.client, pki.stranger = pki.ca.issue("client", purpose="clientAuth"), pki.other.issue("stranger", purpose="clientAuth")
    pki.directory = directory
    return pki


@pytest.fixture
def tls(start, pki):
    """tls(option, …) runs a proxy with a plain and a TLS listener that trusts the authority; .client() speaks TLS."""
    def run_one(*options, **kind):
        certificate, key = kind.pop("certificate", pki.proxy)
        proxy = start(*kind.pop("rules", OPEN), "--tls-listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key,
                      "--ca", kind.pop("ca", pki.ca.file), *options, **kind)
        proxy.tls_port = int(proxy.line(r":(\d+) \(TLS\)")[1])
        proxy.tls_at = proxy.at[0], proxy.tls_port
        proxy.tls_url = f"https://{proxy.at[0] if proxy.cable else 'localhost'}:{proxy.tls_port}"
        proxy.secure = lambda context=None, **more: proxy.clients.append(
            TlsClient(proxy, context or client_context(pki.ca.file), proxy.tls_port, **more)) or proxy.clients[-1]
        return proxy
    return run_one


@pytest.fixture
def https(origin, pki):
    """https(script, certificate) is an origin that speaks TLS, with .secure_url for 127.0.0.1."""
    def run_one(script=None, certificate=None, **kind):
        o = origin(serve(certificate or pki.origin, script, **kind))
        o.secure_url = f"https://127.0.0.1:{o.port}"
        return o
    return run_one


def tls_records(proxy, cause, count=1, patience=10):
    deadline = time.monotonic() + patience
    while True:
        mine = [r for r in proxy.tls_records() if r["cause"] == cause]
        if len(mine) >= count:
            return mine
        assert time.monotonic() < deadline, f"{len(mine)} of {count} lines with {cause}: {proxy.tls_records()}"
        time.sleep(0.01)


def s_client(proxy, pki, *options, text="", ok=True):
    """Standard output and error of openssl s_client, which gets `text` and then the end of its input."""
    need("openssl")
    done = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % proxy.tls_at, "-servername",
                           "localhost", "-CAfile", pki.ca.file, "-verify_return_error", *options], input=text.encode(),
                          capture_output=True, timeout=30)
    if ok is not None:
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return (done.stdout + done.stderr).decode("utf-8", "replace")


# ---- Clients

@pytest.mark.req("L03")
def test_curl_through_a_tls_proxy(tls, origin, pki, tmp_path):
    need("curl")
    o, proxy = origin(), tls("--user", "anna:sesame")
    at = ("curl", "-sS", "-m", "20", "-x", proxy.tls_url, "--proxy-cacert", pki.ca.file)
    assert run(*at, "-U", "anna:sesame", o.url + "/").stdout == b"ok"
    assert run(*at, "-U", "anna:sesame", "-d", "x" * 100000, o.url + "/").stdout == b"ok"
    assert o.requests[-1].body == b"x" * 100000
    done = run(*at, "-o", "/dev/null", "-w", "%{http_code}", o.url + "/")
    assert done.stdout == b"407"
    done = run(*at, "--proxy-anyauth", "-U", "anna:sesame", "-v", o.url + "/")
    assert done.stdout == b"ok" and b" 407 " in done.stderr
    assert run("curl", "-sS", "-x", proxy.tls_url, o.url + "/", ok=False).returncode == 60  # nobody vouches for it


@pytest.mark.parametrize("name", ["origin", "rsa"])
def test_tls_in_tls(tls, https, pki, tmp_path, name):
    need("curl")
    certificate = pki.origin if name == "origin" else pki.ca.issue("rsa", algorithm="rsa:2048")
    o, proxy = https(certificate=certificate), tls(certificate=certificate)
    done = run("curl", "-sS", "-m", "20", "-x", proxy.tls_url, "--proxy-cacert", pki.ca.file, "--cacert", pki.ca.file,
               o.secure_url + "/1", o.secure_url + "/2")
    assert done.stdout == b"okok"
    assert [r.target for r in o.requests] == [b"/1", b"/2"]


@pytest.mark.req("L03")
@pytest.mark.parametrize("version", VERSIONS)
def test_versions_and_alpn(tls, origin, pki, version):
    o, proxy = origin(), tls()
    context = client_context(pki.ca.file, version=PYTHONS[version], alpn=("h2", "http/1.1"))
    client = proxy.secure(context)
    assert client.sock.tls.version() == "TLSv" + version
    assert client.sock.tls.selected_alpn_protocol() == "http/1.1"
    assert client.sock.tls.compression() is None
    assert any(word in client.sock.tls.cipher()[0] for word in ("GCM", "CHACHA20", "CCM"))
    assert client.ask("GET", o.url + "/").body == b"ok"


def test_a_client_without_alpn_is_served(tls, origin, pki):
    o, proxy = origin(), tls()
    client = proxy.secure(client_context(pki.ca.file, alpn=None))
    assert client.sock.tls.selected_alpn_protocol() is None
    assert client.ask("GET", o.url + "/").body == b"ok"


@pytest.mark.req("L03")
@pytest.mark.parametrize("options", [
    ("-tls1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
    ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"),
    ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256"),
    ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"), ("-alpn", "h2"),
], ids=["1.0", "1.1", "cbc", "no forward secrecy", "null", "h2 alone"])
def test_weak_handshakes_are_refused(tls, origin, pki, options):
    proxy = tls(certificate=pki.ca.issue("proxy-rsa", algorithm="rsa:2048"))
    out = s_client(proxy, pki, *options, ok=False)
    assert "alert" in out, out
    event = tls_records(proxy, "tls_protocol")[-1]
    assert event["client"] == "127.0.0.1" and event["error"].startswith("mbedTLS -0x")


@pytest.mark.req("L03")
def test_openssl_talks_through_it(tls, origin, pki):
    o, proxy = origin(), tls()
    out = s_client(proxy, pki, "-tls1_2", "-ign_eof", text=request("GET", o.url + "/", "Connection: close").decode())
    assert "HTTP/1.1 200 OK" in out and "\nok" in out
    assert "Compression: NONE" in out and "Secure Renegotiation IS supported" in out
    # R on a line of its own asks for a new handshake
    out = s_client(proxy, pki, "-tls1_2", text="R\n", ok=None)
    assert "RENEGOTIATING" in out and "Verify return code: 0" in out
    assert "alert" in out or "error" in out or "no renegotiation" in out, out
    proxy.wait_idle()


@pytest.mark.req("L03")
@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed(tls, origin, pki, tmp_path, version):
    o, proxy = origin(), tls()
    text = request("GET", o.url + "/", "Connection: close").decode()
    file, version = str(tmp_path / "session"), "-tls" + version.replace(".", "_")
    assert "\nNew, TLSv1." in s_client(proxy, pki, version, "-ign_eof", "-sess_out", file, text=text)
    assert "\nReused, TLSv1." in s_client(proxy, pki, version, "-ign_eof", "-sess_in", file, text=text)
    other = tls()  # its tickets are sealed with another key
    assert "\nNew, TLSv1." in s_client(other, pki, version, "-ign_eof", "-sess_in", file, text=text)


@pytest.mark.req("L01")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["close", "refusal", "idle", "tunnel", "half"])
def test_close_notify_comes_before_the_end(tls, origin, pki, what, version):
    proxy = tls("--timeout", "idle=0.3")
    client = proxy.secure(client_context(pki.ca.file, version=PYTHONS[version]))
    if what == "tunnel":
        client.send(request("CONNECT", origin(lambda peer: peer.send(b"all")).authority))
        assert client.response("CONNECT").status == 200
        assert client.rest() == b"all"
    elif what == "refusal":
        client.send(b"GET / HTTP/7.0\r\n\r\n")
        assert client.response().status in (400, 505)
    elif what == "half":
        client.finish()
    else:
        fields = ("Connection: close",) if what == "close" else ()
        assert client.ask("GET", origin().url + "/", *fields).status == 200
    client.rest()
    client.ended_well()


@pytest.mark.req("L02", "P12")
def test_clients_may_go_without_close_notify(tls, origin):
    o, proxy = origin(), tls()
    client = proxy.secure()
    assert client.ask("GET", o.url + "/").status == 200
    client.sock.raw.shutdown(socket.SHUT_WR)
    client.rest()
    client = proxy.secure()
    client.ask("GET", o.url + "/")
    client.reset()
    client = proxy.secure()
    client.send(request("GET", o.url + "/"))
    client.finish()  # and who has sent all is still answered
    assert client.response().body == b"ok"
    proxy.wait_idle()


@pytest.mark.req("L01", "C04")
def test_half_closed_tunnels(tls, origin):
    def last_word(peer):
        heard = peer.rest()
        peer.send(b"heard %d" % len(heard))

    def first_word(peer):
        peer.send(b"mine is said")
        peer.finish()
        assert peer.rest() == b"z" * 1000

    proxy = tls()
    client = proxy.secure()
    client.send(request("CONNECT", origin(last_word).authority) + b"x" * 5000)
    client.response("CONNECT")
    client.finish()
    assert client.rest() == b"heard 5000"
    client.ended_well()
    client = proxy.secure()
    client.send(request("CONNECT", origin(first_word).authority))
    client.response("CONNECT")
    assert client.rest() == b"mine is said"
    client.ended_well()
    client.send(b"z" * 1000)
    client.finish()
    proxy.wait_idle()


@pytest.mark.req("S01")
def test_plain_http_at_the_tls_port(tls, origin):
    proxy = tls()
    client = proxy.client(port=proxy.tls_port)
    client.send(request("GET", origin().url + "/"))
    message = refused(proxy, client, "plain_on_tls_port")
    assert b"https://" in message.body


def test_tls_at_the_plain_port(tls, pki):
    proxy = tls()
    client = proxy.client()
    with pytest.raises((ssl.SSLError, OSError)):
        secure.TlsSocket(client.sock, client_context(pki.ca.file), "localhost")
    assert proxy.event(client)["cause"] == "tls_on_plain_port"


@pytest.mark.req("L05")
def test_handshakes_that_do_not_end(tls, origin, pki):
    proxy = tls("--tls-handshake", "0.4")
    silent, part = (socket.create_connection(proxy.tls_at) for _ in range(2))
    part.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    for sock in (silent, part):
        sock.settimeout(10)
        began = time.monotonic()
        try:
            while sock.recv(1000):
                pass
        except ConnectionResetError:
            pass
        assert time.monotonic() - began < 3
        sock.close()
    assert len(tls_records(proxy, "tls_timeout", 2)) == 2
    assert proxy.secure().ask("GET", origin().url + "/").status == 200


ALERT, CIPHER_CHANGE = b"\x15\x03\x03\x00\x02\x01\x5a", b"\x14\x03\x03\x00\x01\x01"  # user_canceled, a warning


class Flood:
    """Sends a record again and again until the other side ends the connection, or it is told to."""

    def __init__(self, sock, record):
        self.sock, self.record, self.count, self.stopped = sock, record, 0, False
        sock.settimeout(0.2)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped:
            try:
                self.count += self.sock.send((self.record * 9000)[self.count % len(self.record):])
            except socket.timeout:
                pass
            except OSError:
                break

    def stop(self):
        self.stopped = True
        self.thread.join(10)
        self.sock.close()

    def runs(self):
        return self.thread.is_alive()


def others_are_served(proxy, url, flood):
    for _ in range(5):
        before, deadline = flood.count, time.monotonic() + 10
        assert proxy.client().ask("GET", url).status == 200
        while flood.count == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert flood.runs() and flood.count > before, "the flood has ended too early to show anything"


@pytest.mark.req("L05")
def test_records_without_end_instead_of_a_handshake(tls, origin):
    """All of it comes in time for mbedTLS to look at, and is nothing: others are served, and the deadline holds."""
    if "1.3" not in VERSIONS:
        pytest.skip("mbedTLS 2.28 takes nothing but a ClientHello there")
    o, proxy = origin(), tls("--tls-handshake", "4")
    flood = Flood(socket.create_connection(proxy.tls_at), ALERT)
    others_are_served(proxy, o.url + "/", flood)
    assert len(tls_records(proxy, "tls_timeout")) == 1
    flood.thread.join(10)
    assert not flood.runs()


@pytest.mark.req("L05")
@pytest.mark.parametrize("side", ["client", "origin"])
def test_records_without_end_behind_a_handshake(tls, https, origin, side):
    if "1.3" not in VERSIONS:
        pytest.skip("in TLS 1.3 alone they mean nothing")
    floods, told, o, proxy = [], threading.Event(), origin(), tls()

    def script(peer):
        peer.request()
        floods.append(Flood(peer.sock.raw, CIPHER_CHANGE))
        told.set()
        floods[0].thread.join(60)

    if side == "client":
        client = proxy.secure()
        floods.append(Flood(client.sock.raw, CIPHER_CHANGE))
    else:
        client = proxy.client()
        client.send(request("GET", https(script).secure_url + "/"))
        assert told.wait(10)
    others_are_served(proxy, o.url + "/", floods[0])
    floods[0].stop()


def test_garbage_instead_of_a_handshake(tls):
    proxy = tls()
    for junk in (b"\x16\x03\x01\xff\xff" + b"\x00" * 100, b"\x16\x03\x03\x00\x04\x01\xff\xff\xff" + b"\x80" * 30,
                 b"\x00" * 50, b"\x15\x03\x01\x00\x02\x02\x28", b"\xff" * 200, b"\x16"):
        with socket.create_connection(proxy.tls_at) as sock:
            sock.settimeout(10)
            sock.sendall(junk)
            try:
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass
            except OSError:
                pass  # it may have closed or reset the connection already
    proxy.wait_idle()


@pytest.mark.req("P13")
def test_all_sessions_of_tls_in_use(tls, origin, pki):
    o, proxy = origin(), tls(binary=SMALL)
    first, second = proxy.secure(), proxy.secure()
    began = time.monotonic()
    with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
        proxy.secure()
    assert time.monotonic() - began < 2 and "alert" in str(caught.value).lower(), caught.value
    assert tls_records(proxy, "tls_full")
    assert proxy.client().ask("GET", o.url + "/").status == 200  # who speaks plain HTTP is not concerned
    assert first.ask("GET", o.url + "/").status == 200 and second.ask("GET", o.url + "/").status == 200
    second.close()
    proxy.clients.remove(second)
    for _ in range(100):
        try:
            third = proxy.secure()
            break
        except (ssl.SSLError, ConnectionError):
            time.sleep(0.05)
    assert third.ask("GET", o.url + "/").status == 200


@pytest.mark.req("P13")
def test_who_idles_gives_way_to_a_newcomer_by_tls(tls, origin, pki):
    binary = os.environ.get("MINIPROXY_TLS_SMALL_BIN")
    if not binary:
        pytest.fail("MINIPROXY_TLS_SMALL_BIN names no build with two sessions of TLS")
    o, proxy = origin(), tls(binary=binary)
    clients = [proxy.secure(), proxy.secure()]
    for c in clients:
        assert c.ask("GET", o.url + "/").status == 200
    for _ in range(3):
        clients.append(proxy.secure())
        assert clients[-1].ask("GET", o.url + "/").status == 200
        first = clients.pop(0)  # who idled longest
        assert first.rest() == b""
        first.ended_well()
    for c in clients:
        assert c.ask("GET", o.url + "/").status == 200


def chained(pki, name, authority, leaf, purpose):
    """A certificate that an intermediate authority has issued, with that one's own behind it."""
    certificate, key = secure.Authority(pki.directory, name).issue(leaf, purpose=purpose)
    with open(certificate, "a", encoding="ascii") as f, open(authority[0], encoding="ascii") as more:
        f.write(more.read())
    return certificate, key


@pytest.mark.req("L04")
def test_client_certificates(tls, origin, pki):
    o, proxy = origin(), tls("--tls-client-ca", pki.ca.file)
    assert proxy.secure(client_context(pki.ca.file, pki.client)).ask("GET", o.url + "/").status == 200
    own = pki.ca.issue("own", purpose="clientAuth", trusted=False)
    server_ca = pki.ca.issue("servers", purpose="serverAuth", authority=True)
    wrong_branch = chained(pki, "servers", server_ca, "branch", "clientAuth")
    for certificate, cause in ((None, "tls_bad_certificate"), (pki.stranger, "tls_unknown_issuer"),
                               (own, "tls_self_signed"), (wrong_branch, "tls_bad_certificate")):
        with pytest.raises((ssl.SSLError, ConnectionError, Cut)):
            proxy.secure(client_context(pki.ca.file, certificate)).ask("GET", o.url + "/")
        tls_records(proxy, cause)
    assert len(o.requests) == 1


@pytest.fixture
def devices(tls, origin, pki, tmp_path):
    """A proxy whose policy knows `client` by its certificate and anna by her password. .first is an origin for the one,
    .both one for either of them."""
    policy = tmp_path / "p.policy"
    first, both = origin(), origin()
    policy.write_text('user client = certificate\nuser anna = clear "sesame"\ngroup known = client, anna\n'
                      f"allow users client to loopback ports {first.port}\n"
                      f"allow from 10.0.0.0/8 or users known to loopback ports {both.port}\n")
    proxy = tls("--tls-client-ca", pki.ca.file, rules=("--policy", str(policy), "--name", "tester"))
    proxy.first, proxy.both, proxy.policy = first, both, policy
    return proxy


ANNA = "Proxy-Authorization: Basic " + base64.b64encode(b"anna:sesame").decode()


@pytest.mark.req("L04", "A07")
@pytest.mark.parametrize("version", VERSIONS)
def test_users_by_certificate(devices, pki, version):
    """No password: neither asked for nor taken."""
    context = client_context(pki.ca.file, pki.client, PYTHONS[version])
    client = devices.secure(context)
    for o in (devices.first, devices.both, devices.first):
        assert client.ask("GET", o.url + "/").status == 200
    assert [event["user"] for event in devices.events(client, 3)] == ["client"] * 3
    client.send(request("CONNECT", devices.first.authority))
    assert client.response("CONNECT").status == 200
    client.send(request("GET", "/", host=devices.first.authority))
    assert client.response().status == 200
    for secret in (b"client:", b"client:client", b"nobody:x"):
        client = devices.secure(context)
        login = "Proxy-Authorization: Basic " + base64.b64encode(secret).decode()
        client.send(request("GET", devices.first.url + "/", login))
        refused(devices, client, "login_failed", closes=None)
    client = devices.secure(context)
    client.send(request("GET", devices.first.url + "/", ANNA))  # who logs in is who that is
    refused(devices, client, "policy_denied", closes=None)
    assert client.ask("GET", devices.both.url + "/", ANNA).status == 200
    assert client.ask("GET", devices.first.url + "/").status == 200  # and for that request alone
    assert [event["user"] for event in devices.events(client, 3)] == ["anna", "anna", "client"]


@pytest.mark.req("L04", "S02")
@pytest.mark.parametrize("name", ["another", "anna", None], ids=["another", "anna's name", "none, in clear"])
def test_other_certificates(devices, pki, name):
    """Who is nobody is asked for a password where that could help, and told what is missing where it could not. A
    certificate gives nobody a name that has a password."""
    context = client_context(pki.ca.file, pki.ca.issue(name, purpose="clientAuth")) if name else None
    for method, target in (("CONNECT", devices.first.authority), ("GET", devices.first.url + "/")):
        client = devices.secure(context) if name else devices.client()
        client.send(request(method, target))
        refused(devices, client, "certificate_missing", method=method, closes=None)
        assert devices.event(client)["user"] is None
    client.send(request("GET", devices.both.url + "/"))
    assert b"Basic" in refused(devices, client, "login_missing", closes=None).get("Proxy-Authenticate")
    assert client.ask("GET", devices.both.url + "/", ANNA).status == 200
    client.send(request("GET", devices.first.url + "/", ANNA))
    refused(devices, client, "policy_denied", closes=None)
    client.send(request("GET", "http://nowhere.invalid:1/"))
    refused(devices, client, "policy_denied", closes=None)
    assert not devices.first.requests and len(devices.both.requests) == 1


@pytest.mark.req("L04")
def test_a_policy_learns_of_a_certificate(devices, pki):
    """SIGHUP: the user's name decides at the next request, on the same connection."""
    client = devices.secure(client_context(pki.ca.file, pki.client))
    assert client.ask("GET", devices.first.url + "/").status == 200
    text = devices.policy.read_text()
    devices.policy.write_text(text.replace("client", "device"))
    reload(devices, r"reloaded: 2 users, 2 rules$")
    deadline = time.monotonic() + 10
    while (status := client.ask("GET", devices.first.url + "/").status) == 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == 403 and devices.event(client, 403)["cause"] == "certificate_missing"
    devices.policy.write_text(text)
    reload(devices, r"reloaded: 2 users, 2 rules$")
    while (status := client.ask("GET", devices.first.url + "/").status) == 403 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == 200


def test_users_that_nobody_can_be_are_told(start, tls, pki, tmp_path):
    policy = tmp_path / "p.policy"
    policy.write_text("user kiosk = certificate\nallow users kiosk\n")
    rules = ("--policy", str(policy))
    words = "warning: user kiosk comes by a certificate, which no client is asked for without --tls-client-ca"
    start(*rules).line(words)
    tls(rules=rules).line(words)
    assert "warning" not in tls("--tls-client-ca", pki.ca.file, rules=rules).stderr()
    start(*rules, listen="0.0.0.0:0").line(words)  # there are no passwords that anybody could read


@pytest.mark.req("G01")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_does_not_trust_the_proxy(tls, pki, version):
    proxy = tls()
    with pytest.raises(ssl.SSLCertVerificationError):
        client = proxy.client(port=proxy.tls_port)  # stays open: a reset could overtake the alert
        secure.TlsSocket(client.sock, client_context(pki.other.file, version=PYTHONS[version]), "localhost")
    assert tls_records(proxy, "tls_alert")[-1]["error"] == "the peer sent alert 48"  # unknown_ca


# ---- Certificates that are replaced

@pytest.fixture
def files(pki, tmp_path):
    """Files that a proxy reads, .certificate, .client_ca and .ca; .put copies others over them."""
    class Files:
        certificate, client_ca, ca = (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")), *(
            str(tmp_path / name) for name in ("clients.pem", "ca.pem"))

        @staticmethod
        def put(pair=None, **others):
            for source, target in (*zip(pair or (), files.certificate), *((v, getattr(files, k)) for k, v in others.items())):
                shutil.copyfile(source, target + ".new")
                os.replace(target + ".new", target)

    files = Files()
    files.put(pki.proxy, client_ca=pki.ca.file, ca=pki.ca.file)
    os.chmod(files.certificate[1], 0o600)
    return files


def reload(proxy, pattern=r"reloaded: certificates, that of --tls-cert is valid until \d{4}-\d\d-\d\d$"):
    after = len(proxy.lines)
    proxy.process.send_signal(signal.SIGHUP)
    return proxy.line(pattern, after=after)


def shown(client):
    return ssl.DER_cert_to_PEM_cert(client.sock.tls.getpeercert(True))


def pem(pair):
    with open(pair[0], encoding="ascii") as f:
        return f.read()


def wait_until_shown(proxy, pair):
    """All workers have taken it when each of many new connections sees it; how the kernel spreads them is its own."""
    deadline = time.monotonic() + 10
    while not all(shown(client) == pem(pair) for client in [proxy.secure() for _ in range(8)]):
        assert time.monotonic() < deadline, "the new certificate is not shown"


@pytest.mark.req("L03")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_renewed_certificate(tls, origin, pki, files, workers):
    o, proxy = origin(), tls("--workers", workers, certificate=files.certificate)
    echo, renewed = origin(lambda peer: [peer.send(peer.exactly(3)) for _ in range(4)]), pki.ca.issue("renewed")
    kept, tunnel = proxy.secure(), proxy.secure()
    assert kept.ask("GET", o.url + "/1").status == 200
    tunnel.send(request("CONNECT", echo.authority))
    assert tunnel.response("CONNECT").status == 200
    tunnel.send(b"one")
    assert tunnel.exactly(3) == b"one" and shown(tunnel) == pem(pki.proxy)
    for pair in (renewed, pki.proxy, renewed):
        files.put(pair)
        reload(proxy)
        wait_until_shown(proxy, pair)
        tunnel.send(b"two")
        assert tunnel.exactly(3) == b"two"
        assert kept.ask("GET", o.url + "/2").status == 200
    tunnel.finish()
    assert tunnel.rest() == b""
    tunnel.ended_well()


@pytest.mark.req("L03")
def test_files_that_cannot_be_taken_leave_the_old_ones_in_force(tls, origin, pki, files, tmp_path):
    o, proxy = origin(), tls("--tls-client-ca", files.client_ca, certificate=files.certificate, ca=files.ca)
    context = client_context(pki.ca.file, pki.client)
    empty = str(tmp_path / "empty")
    with open(empty, "w", encoding="ascii"):
        pass
    for broken, words in ((dict(pair=(empty, pki.proxy[1])), "--tls-cert .*cert.pem: no certificate in it"),
                          (dict(pair=(pki.proxy[0], empty)), "--tls-key .*key.pem: no key in it"),
                          (dict(pair=(pki.proxy[0], pki.origin[1])), "it is not the key of the certificate"),
                          (dict(pair=pki.proxy, client_ca=empty), "--tls-client-ca .*clients.pem: no certificate in it"),
                          (dict(client_ca=pki.ca.file, ca=empty), "--ca .*ca.pem: no certificate in it")):
        files.put(**broken)
        after = len(proxy.lines)
        reload(proxy, "the old certificates stay in force")
        proxy.line(words, after=after)
        client = proxy.secure(context)
        assert shown(client) == pem(pki.proxy) and client.ask("GET", o.url + "/").status == 200
    os.remove(files.certificate[0])
    reload(proxy, "the old certificates stay in force")
    proxy.line(f"--tls-cert {files.certificate[0]}: cannot be read: No such file")
    files.put(pki.proxy, ca=pki.ca.file)
    after = len(proxy.lines)
    reload(proxy, r"reloaded: \d+ users")
    reload(proxy, r"reloaded: \d+ users")
    assert "certificates" not in "\n".join(proxy.lines[after:])  # nothing is new
    files.put(pki.ca.issue("mended"))
    reload(proxy)
    assert proxy.secure(context).ask("GET", o.url + "/").status == 200


@pytest.mark.req("L04")
def test_renewed_authorities(tls, origin, https, pki, files):
    o, hidden = origin(), https(certificate=pki.other.issue("hidden"))
    proxy = tls("--tls-client-ca", files.client_ca, ca=files.ca)
    known, new = (client_context(pki.ca.file, pair) for pair in (pki.client, pki.stranger))
    client = proxy.secure(known)
    client.send(request("GET", hidden.secure_url + "/"))
    refused(proxy, client, "tls_unknown_issuer", closes=None)
    files.put(client_ca=pki.other.file, ca=pki.other.file)
    reload(proxy)
    assert client.ask("GET", hidden.secure_url + "/").status == 200  # open connections stay open
    assert proxy.secure(new).ask("GET", o.url + "/").status == 200
    with pytest.raises((ssl.SSLError, ConnectionError, Cut)):
        proxy.secure(known).ask("GET", o.url + "/")
    tls_records(proxy, "tls_unknown_issuer")


@pytest.mark.req("L03")
@pytest.mark.parametrize("version", VERSIONS)
def test_tickets_of_an_older_certificate(tls, origin, pki, files, tmp_path, version):
    o, proxy = origin(), tls(certificate=files.certificate)
    text = request("GET", o.url + "/", "Connection: close").decode()
    file, version = str(tmp_path / "session"), "-tls" + version.replace(".", "_")
    assert "\nNew, TLSv1." in s_client(proxy, pki, version, "-ign_eof", "-sess_out", file, text=text)
    files.put(pki.ca.issue("later"))
    reload(proxy)
    out = s_client(proxy, pki, version, "-ign_eof", "-sess_in", file, text=text)
    assert "\nNew, TLSv1." in out and "HTTP/1.1 200 OK" in out
    assert not proxy.tls_records()


@pytest.mark.req("L03")
def test_renewals_under_load_lose_nothing(tls, origin, pki, files):
    o, proxy = origin(), tls("--workers", "1" if world.STACK else "2", certificate=files.certificate)
    pairs, over = [pki.proxy, pki.ca.issue("second")], threading.Event()
    errors, counts, seen = [], [0] * 4, set()

    def go(number):
        """New connections, each with one request or, every other thread, one that is kept for some."""
        context = client_context(pki.ca.file)
        try:
            while not over.is_set():
                client = TlsClient(proxy, context, proxy.tls_port)
                seen.add(shown(client))
                for _ in range(1 + number % 2 * 20):
                    assert client.ask("GET", o.url + "/").body == b"ok"
                    counts[number] += 1
                client.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for i in range(100):
        files.put(pairs[(i + 1) % 2])
        reload(proxy)
    over.set()
    for thread in threads:
        thread.join(30)
    assert not errors, errors[0]
    assert min(counts) >= 10 and seen == {pem(pair) for pair in pairs}, counts
    assert not proxy.tls_records(), proxy.tls_records()[0]
    assert "stay in force" not in proxy.stderr()
    print(f"{sum(counts)} requests during 100 renewals")


# ---- Amounts

@pytest.mark.parametrize("way", ["body", "tunnel", "https"])
def test_large_transfers(tls, origin, https, way):
    data = os.urandom(1 << 20) * MEGABYTES

    def echo(peer):
        if way == "tunnel":
            peer.send(peer.exactly(len(data)))
        else:
            peer.send(response(peer.request(patience=60).body))

    proxy = tls()
    o = https(echo) if way == "https" else origin(echo)
    client = proxy.secure()
    if way == "tunnel":
        client.send(request("CONNECT", o.authority))
        client.response("CONNECT")
        threading.Thread(target=client.send, args=(data,), daemon=True).start()
        assert client.exactly(len(data), 60) == data
    else:
        client.send(request("POST", (o.secure_url if way == "https" else o.url) + "/", body=data))
        assert client.response(patience=60).body == data


def test_many_requests_on_one_connection(tls, https):
    o, proxy = https(), tls()
    client = proxy.secure()
    for i in range(300):
        assert client.ask("GET", f"{o.secure_url}/{i}", body=b"y" * i).body == b"ok"
    assert [r.target for r in o.requests] == [b"/%d" % i for i in range(300)]
    assert len(o.peers) == 1
    client.send(b"".join(request("GET", f"{o.secure_url}/{i}") for i in range(50)))  # pipelined
    for _ in range(50):
        assert client.response().body == b"ok"


def test_octets_that_come_one_by_one(tls, https):
    o, proxy = https(lambda peer: (peer.request(), peer.drip(response(b"slowly")))), tls()
    client = proxy.secure()
    client.drip(request("GET", o.secure_url + "/"))
    assert client.response().body == b"slowly"


def test_a_slow_reader(tls, https):
    data = os.urandom(1 << 20) * 3
    o, proxy = https(answer(response(data))), tls()
    client = proxy.secure(receive_buffer=8192)
    client.send(request("GET", o.secure_url + "/"))
    time.sleep(0.5)
    assert client.response(patience=60).body == data


# ---- Origins

@pytest.mark.req("L03", "L04")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithm", ["ec", "rsa:2048"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_https_origins(tls, https, pki, version, algorithm, host):
    proxy = tls()
    seen = []
    o = https(lambda peer: (seen.append(peer.sock.tls), answer(response())(peer)), versions=PYTHONS[version], alpn=["h2", "http/1.1"],
              certificate=pki.ca.issue(algorithm[:3], algorithm=algorithm))
    client = proxy.client()
    message = client.ask("GET", f"https://{host}:{o.port}/path?query")
    assert (message.status, message.body) == (200, b"ok")
    assert o.requests[0].target == b"/path?query" and o.requests[0].get("Host") == f"{host}:{o.port}".encode()
    assert seen[0].selected_alpn_protocol() == "http/1.1"
    assert proxy.event(client)["target"] == f"https://{host}:{o.port}/path?query"


def test_openssl_as_origin(tls, pki):
    need("openssl")
    port = unused_port()
    server = subprocess.Popen(["openssl", "s_server", "-accept", str(port), "-cert", pki.origin[0], "-key", pki.origin[1],
                               "-www", "-quiet"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        proxy = tls()
        for _ in range(100):
            message = proxy.client().ask("GET", f"https://localhost:{port}/")
            if message.status == 200:
                break
            time.sleep(0.05)
        assert b"s_server" in message.body
    finally:
        server.kill()
        server.wait()


NAMES = ",".join(["IP:127.0.0.1", *(f"DNS:name-{i}.of-a-large-site.example" for i in range(300))])


@pytest.mark.req("L03", "L04")
@pytest.mark.parametrize("algorithm", ["ec", "rsa:2048"])
def test_certificates_with_many_names(tls, https, origin, pki, algorithm):
    """As those of large sites are; clients' can be as large."""
    certificate = pki.ca.issue("names", san=NAMES, algorithm=algorithm, purpose="serverAuth,clientAuth")
    proxy = tls("--tls-client-ca", pki.ca.file)
    client = proxy.secure(client_context(pki.ca.file, certificate))
    assert client.ask("GET", https(certificate=certificate).secure_url + "/").status == 200


@pytest.mark.req("L04", "Z06", "S05")
def test_a_certificate_that_memory_does_not_suffice_for(tls, https, pki):
    """It is not the certificate that is blamed."""
    proxy = tls(binary=SMALL)
    client = proxy.client()
    client.send(request("GET", https(certificate=pki.ca.issue("names", san=NAMES)).secure_url + "/"))
    refused(proxy, client, "no_resources", closes=False)
    tls_records(proxy, "tls_no_memory")
    assert client.ask("GET", https().secure_url + "/").status == 200


BAD = {
    "wrong name": ("tls_wrong_name", {"san": "DNS:elsewhere.example"}),
    "no san": ("tls_wrong_name", {"san": None}),
    "no address": ("tls_wrong_name", {"san": "DNS:localhost,DNS:127.0.0.1,IP:127.0.0.2"}),
    "expired": ("tls_expired", {"days": -1}),
    "self-signed": ("tls_self_signed", {"trusted": False}),
    "not for servers": ("tls_bad_certificate", {"purpose": "clientAuth"}),
    "signed by SHA-1": ("tls_bad_certificate", {"digest": "sha1"}),
    "unknown extension": ("tls_bad_certificate", {"more": "1.2.3.4.5=critical,ASN1:UTF8String:any"}),
}

INTERMEDIATES = {
    "for any": (200, {}),
    "for servers": (200, {"purpose": "serverAuth,clientAuth"}),
    "for clients alone": (502, {"purpose": "clientAuth"}),
    "for some names": (502, {"more": "nameConstraints=permitted;DNS:elsewhere.example"}),
    "for some names, critical": (502, {"more": "nameConstraints=critical,permitted;DNS:elsewhere.example"}),
}


@pytest.mark.req("L04")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", INTERMEDIATES)
def test_intermediate_authorities(tls, https, pki, what, version):
    status, kind = INTERMEDIATES[what]
    name, proxy = what.replace(" ", "-").replace(",", ""), tls()
    authority = pki.ca.issue(name, authority=True, **{"purpose": None, **kind})
    o = https(certificate=chained(pki, name, authority, "leaf", "serverAuth"), versions=PYTHONS[version])
    client = proxy.client()
    client.send(request("GET", o.secure_url + "/"))
    if status == 200:
        assert client.response().status == 200
        return
    refused(proxy, client, "tls_bad_certificate", closes=False)
    assert o.requests == []


@pytest.mark.req("L04", "S05", "G01")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", [*BAD, "unknown issuer"])
def test_certificates_that_prove_nothing(tls, https, pki, what, version):
    cause, kind = BAD.get(what, ("tls_unknown_issuer", {}))
    failures, proxy = [], tls()
    authority = pki.other if what == "unknown issuer" else pki.ca
    o = https(certificate=authority.issue("bad", **kind), failures=failures, versions=PYTHONS[version],
              weak="digest" in kind)
    client = proxy.client()
    client.send(request("GET", o.secure_url + "/secret", "Authorization: Basic c2VjcmV0"))
    refused(proxy, client, cause, closes=False)
    event = tls_records(proxy, cause)[-1]
    assert (event["address"], event["host"], event["client"]) == (f"127.0.0.1:{o.port}", "127.0.0.1", None)
    assert o.requests == []  # nothing of the request has been sent
    assert client.ask("GET", https().secure_url + "/").status == 200


@pytest.mark.req("L02")
def test_an_end_without_close_notify(tls, https):
    def script(head):
        def run_one(peer):
            peer.request()
            peer.send(head + b"all of it")
            peer.cut = True
        return run_one

    proxy = tls()
    client = proxy.client()
    client.send(request("GET", https(script(b"HTTP/1.1 200 OK\r\n\r\n")).secure_url + "/"))
    message = client.response(whole=False)
    assert not message.complete, "what may have been cut must not look whole"
    client = proxy.client()
    assert client.ask("GET", https(script(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")).secure_url + "/").body \
        == b"all of it"

    def proper(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert proxy.client().ask("GET", https(proper).secure_url + "/").body == b"all of it"


@pytest.mark.req("S05")
def test_an_origin_that_speaks_plain_http(tls, origin):
    def script(peer):
        peer.some()
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.rest()

    o, proxy = origin(script), tls()
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    refused(proxy, client, "tls_protocol", closes=False)


@pytest.mark.req("S05")
def test_an_origin_that_sends_an_alert(tls, origin):
    o, proxy = origin(lambda peer: (peer.some(), peer.send(b"\x15\x03\x03\x00\x02\x02\x70"))), tls()
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    refused(proxy, client, "tls_alert", closes=False)
    assert tls_records(proxy, "tls_alert")[-1]["error"] == "the peer sent alert 112"


@pytest.mark.req("L05", "S06")
def test_an_origin_that_does_not_shake_hands(tls, origin):
    o, proxy = origin(lambda peer: (peer.some(), peer.rest())), tls("--tls-handshake", "0.4")
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    assert refused(proxy, client, "tls_timeout", closes=False).status == 504


@pytest.mark.req("L05", "S06")
def test_the_time_to_connect_ends_in_a_handshake(tls, origin):
    o, proxy = origin(lambda peer: (peer.some(), peer.rest())), tls("--timeout", "connect=0.4")
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    assert refused(proxy, client, "tls_timeout", closes=False).status == 504
    assert tls_records(proxy, "tls_timeout")[-1]["address"] == f"127.0.0.1:{o.port}"


@pytest.mark.req("L05")
def test_the_time_for_a_head_ends_in_a_handshake(tls):
    proxy = tls("--timeout", "head=0.4")
    with socket.create_connection(proxy.tls_at):
        tls_records(proxy, "tls_timeout")


@pytest.mark.req("L05")
def test_a_client_that_leaves_while_an_origin_shakes_hands(tls, origin):
    begun = threading.Event()
    o, proxy = origin(lambda peer: (peer.some(), begun.set(), peer.rest())), tls()
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    assert begun.wait(10)
    client.reset()
    tls_records(proxy, "tls_broken_off")


def test_an_origin_that_hangs_up(tls, origin):
    o, proxy = origin(lambda peer: peer.some()), tls()
    client = proxy.client()
    client.send(request("GET", f"https://127.0.0.1:{o.port}/"))
    assert client.response().status == 502


@pytest.mark.req("P08")
def test_https_and_http_never_share_a_connection(tls, origin, pki):
    def either(peer):
        """Speaks what the other side begins with."""
        script = answer(response())
        (serve(pki.origin, script) if peer.sock.recv(1, socket.MSG_PEEK) == b"\x16" else script)(peer)

    o, proxy = origin(either), tls()
    client = proxy.client()
    for scheme in ("https", "https", "http", "https", "http", "http"):
        assert client.ask("GET", f"{scheme}://127.0.0.1:{o.port}/").status == 200
    assert [r.connection for r in o.requests] == [0, 0, 1, 2, 3, 3]


@pytest.mark.req("L04")
def test_the_systems_authorities_do_not_vouch_for_everybody(start, https):
    client, cause = start(*OPEN).client(), "tls_unknown_issuer"
    client.send(request("GET", https().secure_url + "/"))
    if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
        cause = "tls_not_configured"
    refused(client.proxy, client, cause, closes=None)


# ---- The command

def failure(*options):
    done = subprocess.run([proxies.BINARY, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and done.stdout == "", done
    return done.stderr


def test_options_that_cannot_be(pki, tmp_path):
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.write_text("nothing\n")
    at = ("--tls-listen", "127.0.0.1:0")
    assert "expected --tls-cert with it" in failure(*at)
    assert "expected --tls-listen with it" in failure("--tls-cert", pki.proxy[0])
    assert f"--tls-cert {missing}: cannot be read: No such file" in failure(*at, "--tls-cert", str(missing))
    assert re.search(rf"--tls-cert {empty}: no certificate in it \(mbedTLS -0x[0-9a-f]{{4}}: ",
                     failure(*at, "--tls-cert", str(empty), "--tls-key", pki.proxy[1]))
    assert f"--tls-key {pki.proxy[0]}: no key in it" in failure(*at, "--tls-cert", pki.proxy[0])
    assert "it is not the key of the certificate" in failure(*at, "--tls-cert", pki.proxy[0], "--tls-key", pki.origin[1])
    assert f"--ca {empty}: no certificate in it" in failure("--ca", str(empty))
    assert "--tls-client-ca" in failure(*at, "--tls-cert", pki.proxy[0], "--tls-key", pki.proxy[1], "--tls-client-ca",
                                        str(empty))
    assert "expected seconds" in failure("--tls-handshake", "0")


def test_certificates_that_cannot_be_read_are_told(tls, pki, tmp_path):
    part, junk = tmp_path / "part.pem", base64.b64encode(bytes(45)).decode()
    with open(pki.ca.file, encoding="ascii") as f:
        part.write_text(f"{f.read()}-----BEGIN CERTIFICATE-----\n{junk}\n-----END CERTIFICATE-----\n")
    proxy = tls("--tls-client-ca", str(part))
    proxy.line(r"warning: --tls-client-ca .*part.pem: certificates in it that cannot be read, and are left out: 1")


def test_a_key_from_a_pipe(tls, origin, pki, tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe, 0o600)

    def fill():
        with open(pki.proxy[1], "rb") as key, open(pipe, "wb") as f:
            f.write(key.read())

    threading.Thread(target=fill, daemon=True).start()
    proxy = tls(certificate=(pki.proxy[0], pipe))
    assert proxy.secure().ask("GET", origin().url + "/").status == 200


def test_a_key_that_everybody_can_read(tls, pki):
    os.chmod(pki.origin[1], 0o644)
    tls(certificate=pki.origin).line("warning: --tls-key .* everybody on this machine can read it")
    os.chmod(pki.origin[1], 0o600)
    assert "everybody" not in tls(certificate=pki.origin).stderr()


@pytest.mark.req("A15")
def test_logins_by_tls_need_no_consent(start, pki):
    at = ("--tls-cert", pki.proxy[0], "--tls-key", pki.proxy[1], "--user", "anna:sesame")
    proxy = start("--tls-listen", "0.0.0.0:0", *at)
    proxy.line(r" \(TLS\)")
    assert "warning" not in proxy.stderr()
    assert "--insecure-auth" in failure("--listen", "0.0.0.0:0", "--tls-listen", "127.0.0.1:0", *at)
    assert "expected --clients" in failure("--tls-listen", "0.0.0.0:0", *at[:4])


@pytest.mark.req("W01")
def test_pac_names_the_listener_that_was_asked(tls):
    """Who reads the script by TLS can reach that port in no other way, and who does not may trust no certificate."""
    proxy = tls("--pac")
    for client, port, word in ((proxy.client(), proxy.at[1], "PROXY"), (proxy.secure(), proxy.tls_port, "HTTPS")):
        client.send(request("GET", "/proxy.pac", host=f"127.0.0.1:{port}"))
        assert f'return"{word} 127.0.0.1:{port}";' in client.response().body.decode()


def test_certificates_of_its_own(tls, origin, tmp_path):
    need("openssl")
    stem = str(tmp_path / "mine")
    out = run(proxies.BINARY, "cert", "--name", "localhost", "--name", "127.0.0.1", "--name", "::1", "--days", "3", stem)
    assert b"--proxy-cacert " + stem.encode() + b".pem" in out.stdout
    assert os.stat(stem + ".key").st_mode & 0o777 == 0o600
    secure.openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", stem + ".pem", stem + ".pem")
    text = secure.openssl("x509", "-in", stem + ".pem", "-noout", "-text")
    assert "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1" in text
    secure.openssl("x509", "-in", stem + ".pem", "-noout", "-checkend", str(2 * 86400 - 60))
    proxy = tls(certificate=(stem + ".pem", stem + ".key"))
    for name in ("localhost", "127.0.0.1"):
        assert proxy.secure(client_context(stem + ".pem"), name=name).ask("GET", origin().url + "/").status == 200
    done = run(proxies.BINARY, "cert", stem, ok=False)
    assert done.returncode == 1 and b"File exists" in done.stderr
    assert run(proxies.BINARY, "cert", ok=False).returncode == 2
    assert run(proxies.BINARY, "cert", "--name", "a b", str(tmp_path / "x"), ok=False).returncode == 2


def test_several_workers(tls, https, pki):
    o, proxy = https(), tls("--workers", "3")
    for _ in range(30):
        client = proxy.secure()
        assert client.ask("GET", o.secure_url + "/").body == b"ok"
        client.close()


def test_many_at_the_same_time(tls, https, pki):
    o, proxy = https(answer(response(b"z" * 50000))), tls()
    errors = []

    def go():
        try:
            for _ in range(3):
                client = TlsClient(proxy, client_context(pki.ca.file), proxy.tls_port)
                assert client.ask("GET", o.secure_url + "/").body == b"z" * 50000
                client.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors, errors[0]


# ---- The policy command of these builds


@pytest.mark.req("G06")
def test_explained_as_it_is_answered(tls, https, tmp_path):
    """https:// that the proxy takes itself has a method and a path, in explain too."""
    o, policy = https(), tmp_path / "explain.policy"
    policy.write_text("deny paths \"/admin\"\ndeny methods CONNECT\nallow to loopback, any ports any\n")
    proxy = tls(rules=("--policy", str(policy)))
    for path, status in (("/admin", 403), ("/", 200)):
        assert proxy.client().ask("GET", o.secure_url + path).status == status
        done = subprocess.run([proxies.BINARY, "policy", "explain", str(policy), "127.0.0.1", "-", "GET",
                               o.secure_url + path, "--type", "text/plain"],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (1 if status == 403 else 0), done.stdout
        assert f"GET {o.secure_url}{path}\n" in done.stdout and "A browser would send CONNECT" in done.stdout
    client = proxy.client()
    client.send(request("CONNECT", f"127.0.0.1:{o.port}"))
    refused(proxy, client, "policy_denied", method="CONNECT", closes=None)
