# SPDX-License-Identifier: MIT
"""README's "Setting up clients", line by line, as it stands there: in the isolated world a proxy is at 127.0.0.1:3128, and
example.com is a server of this test. What a line sets up is tried by a program that knows nothing else of the proxy."""
import base64
import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile

import pytest

import proxy as proxies
import secure
import world
from test_real_peers import digest, need, run

sys.path.append(os.path.join(proxies.ROOT, "tests", "tools"))
import readme  # noqa: E402

README = readme.read("README.md")
GUIDE = readme.section(README, "Setting up clients")
BLOCKS = {name: (kind, body) for kind, name, body in readme.blocks(GUIDE)}
TLS_BINARY = os.environ.get("MINIPROXY_TLS_BIN", os.path.join(proxies.ROOT, "build", "tls", "miniproxy"))
MARKER = "The page of example.com"
INSIDE = "192.168.7.7"  # an address of the isolated world's lo
NAMES = ("example.com", "git.example.com", "packages.example.com", "deb.corp.example", "corp.example", "www.corp.example")
CONTENT_TYPE = {"": "application/json", ".html": "text/html"}

pytestmark = [pytest.mark.usefixtures("isolated"), pytest.mark.req("H10")]


# ---- What stands in README

def lines(name):
    """The commands of a block, one at a time."""
    text = BLOCKS[name][1].replace("\\\n", "")
    return [pytest.param(name, line, id=f"{name}: {line.split('  #')[0].strip()}") for line in text.splitlines() if line.strip()]


def table(name):
    """The cells of a table's rows, without its head."""
    rows = re.search(rf"^<!-- {name} -->\n(.*?)^<!-- /{name} -->", README, re.S | re.M)[1].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


# ---- Servers

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = CONTENT_TYPE

    def do_GET(self):
        self.server.origin.note(self)
        super().do_GET()

    def log_message(self, *_):
        pass


class Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 100

    def __init__(self, origin, address, certificate=None):
        self.origin = origin
        super().__init__(address, functools.partial(Handler, directory=str(origin.directory)))
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        if self.context:
            self.origin.tunnels += 1
            request.settimeout(30)
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except OSError:
                return
        with contextlib.suppress(OSError):
            super().finish_request(request, client_address)

    def handle_error(self, *_):
        pass


class Origin:
    """example.com and all others, by http and https. `direct` are requests that no proxy has passed on, `tunnels` counts
    connections by TLS."""

    def __init__(self, directory, certificate):
        self.directory, self.direct, self.tunnels = directory, [], 0
        self.listeners = [Listener(self, (host, port), certificate if port == 443 else None)
                          for host in (world.PUBLIC, INSIDE) for port in (80, 443)]

    def note(self, handler):
        if not handler.server.context and "tester" not in handler.headers.get("Via", ""):
            self.direct.append(handler.path)

    def reset(self):
        self.direct, self.tunnels = [], 0

    def stop(self):
        for one in self.listeners:
            one.shutdown()
            one.server_close()


def fill(root):
    """Everything that the clients ask for, as files."""
    (root / "index.html").write_text(f"<!doctype html><title>example</title><p>{MARKER}</p>")
    fill_git(root)
    fill_pip(root)
    fill_npm(root)
    fill_apt(root)


def fill_git(root):
    work, env = root / "work", {"GIT_CONFIG_NOSYSTEM": "1"}
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
    run(*git, "init", "-q", "-b", "main", str(work), env=env)
    (work / "file").write_text("text\n")
    run(*git, "add", ".", cwd=work, env=env)
    run(*git, "commit", "-q", "-m", "one", cwd=work, env=env)
    run(*git, "clone", "-q", "--bare", str(work), str(root / "x.git"), env=env)
    run("git", "update-server-info", cwd=root / "x.git", env=env)


def fill_pip(root):
    """A wheel without anything in it, and its index."""
    place = root / "simple" / "name"
    place.mkdir(parents=True)
    wheel = "name-1.0-py3-none-any.whl"
    with zipfile.ZipFile(place / wheel, "w") as z:
        z.writestr("name.py", "")
        z.writestr("name-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: name\nVersion: 1.0\n")
        z.writestr("name-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("name-1.0.dist-info/RECORD", "name.py,,\nname-1.0.dist-info/METADATA,,\nname-1.0.dist-info/WHEEL,,\n"
                                                "name-1.0.dist-info/RECORD,,\n")
    (place / "index.html").write_text(f'<!doctype html><a href="{wheel}">{wheel}</a>')


def fill_npm(root):
    """A package of one file, and what a registry says of it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        text = json.dumps({"name": "name", "version": "1.0.0"}).encode()
        info = tarfile.TarInfo("package/package.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    (root / "npm" / "-").mkdir(parents=True)
    (root / "npm" / "-" / "name-1.0.0.tgz").write_bytes(data.getvalue())
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    dist = {"tarball": "https://packages.example.com/npm/-/name-1.0.0.tgz", "integrity": integrity}
    (root / "npm" / "name").write_text(json.dumps({"name": "name", "dist-tags": {"latest": "1.0.0"}, "versions": {
        "1.0.0": {"name": "name", "version": "1.0.0", "dist": dist}}}))


def fill_apt(root):
    tree, place = root / "tree", root / "deb"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: name\nVersion: 1\nArchitecture: all\nMaintainer: t <t@t>\nDescription: t\n"
    (tree / "DEBIAN" / "control").write_text(control)
    place.mkdir()
    run("dpkg-deb", "-b", str(tree), str(place / "name.deb"))
    (place / "Packages").write_text(f"{control}Filename: ./name.deb\nSize: {(place / 'name.deb').stat().st_size}\n"
                                    f"SHA256: {digest(place / 'name.deb')}\n\n")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    authority = secure.Authority(directory, "authority")
    names = [f"DNS:{name}" for name in NAMES] + [f"IP:{INSIDE}"]
    authority.origin = authority.issue("origin", san=",".join(names))
    authority.proxy = authority.issue("proxy.example", san="DNS:proxy.example")
    return authority


@pytest.fixture(scope="session")
def servers(tmp_path_factory, pki):
    if not world.isolated:
        pytest.skip("NOT ISOLATED: this system lets the tests have no network namespace of their own")
    need("git", "dpkg-deb", "openssl")
    root = tmp_path_factory.mktemp("www")
    fill(root)
    origin = Origin(root, pki.origin)
    yield origin
    origin.stop()


@pytest.fixture
def origin(servers, names):
    servers.reset()
    names.zone.update({name: [world.PUBLIC] for name in NAMES})
    names.zone["proxy.example"] = ["127.0.0.1"]
    return servers


@pytest.fixture
def ssh_server(home, tmp_path):
    """A dropbear at git.example.com; the users root and git have the client's home."""
    need("ssh", "ssh-keygen", "dropbear", "dropbearkey", "nc.openbsd")
    with open("/proc/self/setgroups", encoding="ascii") as f:
        if f.read().strip() == "deny":
            pytest.skip("NOT ROOT: an SSH server cannot change to a user's groups here")
    host_key, at = str(tmp_path / "host_key"), home.path / ".ssh"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(at / "id_ed25519"))
    (at / "authorized_keys").write_bytes((at / "id_ed25519.pub").read_bytes())
    run("dropbearkey", "-t", "ed25519", "-f", host_key)
    public = next(line for line in run("dropbearkey", "-y", "-f", host_key).stdout.decode().splitlines()
                  if line.startswith("ssh-"))
    (at / "known_hosts").write_text(f"git.example.com {public}\n")
    (tmp_path / "passwd").write_text(f"root:x:0:0:root:{home.path}:/bin/sh\ngit:x:0:0:git:{home.path}:/bin/sh\n")
    (home.path / "x.git").symlink_to(home.origin.directory / "x.git")
    with world.in_place_of("/etc/passwd", str(tmp_path / "passwd")):
        process = subprocess.Popen(["dropbear", "-F", "-E", "-s", "-r", host_key, "-P", str(tmp_path / "pid"), "-p",
                                    f"{world.PUBLIC}:22"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield
        process.terminate()
        process.wait(10)


# ---- The client's machine

APT = """Dir::State "{0}/apt"; Dir::State::status "{0}/apt/status"; Dir::State::lists "{0}/apt/lists"; Dir::Cache "{0}/apt/cache";
Dir::Etc "{0}/etc/apt"; Dir::Etc::parts "{0}/etc/apt/apt.conf.d"; Dir::Etc::sourcelist "{0}/etc/apt/sources.list";
Dir::Etc::sourceparts "-"; Dir::Etc::netrcparts "{0}/etc/apt/auth.conf.d"; APT::Sandbox::User "root"; APT::Architecture "amd64";
Acquire::Languages "none"; Acquire::Retries "0"; Acquire::https::CaInfo "{1}"; Debug::NoLocking "1";
Acquire::http::Timeout "20"; Acquire::https::Timeout "20";
"""

# Nothing but what a line asks for, and no window.
CHROMIUM = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--disable-default-apps", "--disable-domain-reliability", "--disable-dev-shm-usage", "--ignore-certificate-errors",
            "--disable-features=OptimizationHints,MediaRouter,NetworkTimeServiceQuerying")


class Home:
    """A home directory, its programs, and an environment that says of the network only where packages are and which
    authority is trusted."""

    def __init__(self, path, authority, origin):
        self.path, self.origin, self.authority = path, origin, authority
        for name in (".ssh", "bin", "etc/apt/apt.conf.d", "etc/apt/auth.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d",
                     "apt/lists/partial", "apt/cache/archives/partial"):
            (path / name).mkdir(parents=True)
        (path / ".ssh").chmod(0o700)
        (path / "apt" / "status").write_text("")
        self.sources("http://packages.example.com", "https://example.com")
        (path / "apt.conf").write_text(APT.format(path, authority))
        (path / "wgetrc").write_text(f"ca_certificate = {authority}\n")
        shutil.copy(authority, path / "proxy.pem")
        self.program("pip", f'exec {sys.executable} -m pip "$@"')
        (path / "bin" / "nc").symlink_to(shutil.which("nc.openbsd") or "/nonexistent")
        self.browse("https://example.com/")

    def sources(self, *servers):
        """Of apt."""
        text = "".join(f"deb [trusted=yes] {server}/deb/ ./\n" for server in servers)
        (self.path / "etc" / "apt" / "sources.list").write_text(text)

    def place(self, name):
        """A file of README's here: that of a user, or of /etc."""
        file = self.path / name.removeprefix("~/").lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def browse(self, url):
        """What `chromium` opens."""
        self.program("chromium", f'exec /usr/bin/chromium {" ".join(CHROMIUM)} --user-data-dir={self.path}/chromium "$@" '
                                 f'--dump-dom {url}')

    def program(self, name, text):
        file = self.path / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def environment(self):
        ca = self.authority
        return {"PATH": f"{self.path}/bin:{os.environ['PATH']}", "HOME": str(self.path), "LC_ALL": "C.UTF-8",
                "XDG_CONFIG_HOME": f"{self.path}/.config", "CURL_CA_BUNDLE": ca, "GIT_SSL_CAINFO": ca, "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0", "SYSTEM_WGETRC": f"{self.path}/wgetrc", "PIP_CERT": ca, "REQUESTS_CA_BUNDLE": ca,
                "PIP_INDEX_URL": "https://packages.example.com/simple/", "PIP_TARGET": f"{self.path}/target", "PIP_RETRIES": "0",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1", "PIP_NO_WARN_SCRIPT_LOCATION": "1",
                "npm_config_cafile": ca, "npm_config_registry": "https://packages.example.com/npm/",
                "npm_config_update_notifier": "false", "npm_config_fetch_retries": "0", "APT_CONFIG": f"{self.path}/apt.conf"}

    def shell(self, *commands, ok=True, **env):
        done = subprocess.run(["sh", "-c", "set -e\n" + "\n".join(commands)], cwd=self.path, env={**self.environment(), **env},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=80, check=False)
        assert not ok or done.returncode == 0, f"{commands}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done


@pytest.fixture
def home(tmp_path, pki, origin):
    return Home(tmp_path / "client", pki.file, origin)


PYTHON = f"{sys.executable} -c 'import requests; requests.get(\"https://example.com/\")'"

# What a program does that has been set up.
PROBES = {
    "curl": "curl -sSf -o page https://example.com/",
    "wget": "wget -q --tries=1 -O page https://example.com/",
    "git": "git ls-remote https://git.example.com/x.git",
    "ssh": "ssh git@git.example.com",
    "apt": "apt-get update -o APT::Update::Error-Mode=any",
    "pip": "pip install NAME",
    "npm": "npm install name",
    "python": PYTHON,
    "chromium": "chromium",
}
PROGRAMS = {"apt": "apt-get", "python": sys.executable, "pip": sys.executable}


def probe_of(name, line):
    return "git ls-remote ssh://git@git.example.com/~/x.git" if "sshCommand" in line else PROBES[name]


def installed(client):
    need(PROGRAMS.get(client, client))
    module = {"python": "requests", "pip": "pip"}.get(client)
    if module and subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        pytest.skip(f"MISSING PROGRAM: python3-{module}")


@pytest.fixture
def proxy(start, origin):
    return start("--connect-ports", "22,443", "--pac", "--name", "tester", listen="127.0.0.1:3128")


def asks(name, line):
    """Whether a line is a request of its own, not only a setting."""
    return name == "ssh" and "printf" not in line or re.search(r"https://example\.com/| clone | install ", line)


def asked(proxy):
    """How many requests it has had. Unlike the log, which is written a little later, this is exact."""
    return proxy.counters()["requests"]


def went_through(proxy, origin, login=None):
    """Everything that reached the servers came by the proxy. The records."""
    expected = ("example.com:443", "packages.example.com:80", "packages.example.com:443", "http://packages.example.com",
                "git.example.com:443", "git.example.com:22")
    deadline = time.monotonic() + 10
    while True:
        records = [r for r in proxy.records() if r["target"].startswith(expected)]
        good = [r for r in records if r["status"] == 200 and r["user"] == login]
        tunnels = [r for r in good if r["target"].endswith(":443")]
        if good and len(tunnels) >= origin.tunnels or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert good, json.dumps(proxy.records())
    assert all(r["status"] in (200, 404, 304) or (login and r["status"] == 407) for r in records), records
    assert not origin.direct, origin.direct
    assert len(tunnels) == origin.tunnels, (origin.tunnels, records)
    return good


# ---- The tests

TRIED = {"environment", "curl", "wget", "git", "ssh", "apt", "pip", "npm", "python", "docker", "chromium", "firefox",
         "firefox-pac", "gnome", "kde", "dnsmasq", "dhcpd", "kea"}


def test_every_block_is_tried():
    assert set(BLOCKS) == TRIED


@pytest.mark.parametrize("client", PROBES)
def test_without_any_setting(home, proxy, request, client):
    """So that the tests below show that it is the line that does it."""
    installed(client)
    if client == "ssh":
        request.getfixturevalue("ssh_server")
    home.shell(PROBES[client])
    assert home.origin.direct or home.origin.tunnels or client == "ssh"
    assert not asked(proxy)



@pytest.mark.parametrize("name, line", [case for name in ("curl", "wget", "git", "ssh", "pip", "npm") for case in lines(name)
                                        if "noproxy" not in case.values[1]])
def test_line(home, proxy, request, name, line):
    installed(name)
    if "ssh" in line:
        request.getfixturevalue("ssh_server")
    done = home.shell(*([line] if asks(name, line) else [line, probe_of(name, line)]))
    went_through(proxy, home.origin)
    if asks("", line) and name == "curl":
        assert MARKER in done.stdout


@pytest.mark.parametrize("client", [name for name in PROBES if name != "ssh"])
def test_environment(home, proxy, client):
    installed(client)
    home.shell(*(case.values[1] for case in lines("environment")), PROBES[client])
    went_through(proxy, home.origin)


AT = "http://127.0.0.1:3128"
CLAIMS = {
    "wget without https_proxy": (PROBES["wget"], {"http_proxy": AT}),
    "curl --noproxy": (PROBES["curl"] + " --noproxy '*'", {"https_proxy": AT}),
    "Python without https": (PYTHON.replace('.com/"', f'.com/", proxies={{"http": "{AT}"}}'), {}),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_goes_directly(home, proxy, claim):
    """As README warns."""
    command, env = CLAIMS[claim]
    installed(claim.split()[0].lower())
    home.shell(command, **env)
    assert home.origin.tunnels and not asked(proxy)


@pytest.mark.parametrize("scheme, target", [("socks5", f"{world.PUBLIC}:443"), ("socks5h", "example.com:443")])
def test_who_looks_names_up(home, proxy, scheme, target):
    installed("curl")
    home.shell(f"curl -sSf -o page -x {scheme}://127.0.0.1:3128 https://example.com/")
    assert [r["target"] for r in ends(proxy, target)] == [target]


@pytest.mark.parametrize("client", ["curl", "wget"])
def test_upper_case(home, proxy, client):
    installed(client)
    home.shell(PROBES[client].replace("https:", "http:"), HTTP_PROXY=AT)
    assert home.origin.direct and not asked(proxy)


HEAD = [cell.strip() for cell in re.search(r"^\| in `no_proxy` \|.*$", GUIDE, re.M)[0].strip("|").split("|")][2:]
FETCH = {
    "curl": "curl -sSf -o page http://{}/",
    "wget": "wget -q --tries=1 -O page http://{}/",
    "git": "git ls-remote http://{}/x.git",
    "Python, pip": f"{sys.executable} -c 'import requests; requests.get(\"http://{{}}/\")'",
    "npm": "npm --registry=http://{}/npm/ view name",
}


@pytest.mark.parametrize("row", table("no_proxy"), ids=lambda row: f"{row[0]} {row[1]}")
@pytest.mark.parametrize("client", HEAD)
def test_no_proxy(home, proxy, client, row):
    entry, target, *cells = (cell.strip("`") for cell in row)
    installed({"Python, pip": "python"}.get(client, client))
    home.shell(FETCH[client].format(target), ok=target != INSIDE, http_proxy=AT, https_proxy=AT, no_proxy=entry)
    went = bool(home.origin.direct)
    assert went == (cells[HEAD.index(client)] == "yes"), "directly" if went else "by the proxy"
    assert bool(asked(proxy)) != went


def test_no_proxy_of_npm(home, proxy):
    installed("npm")
    line = next(case.values[1] for case in lines("npm") if "noproxy" in case.values[1])
    home.shell("npm config set proxy http://127.0.0.1:3128", line, "npm --registry=http://corp.example/npm/ view name")
    assert home.origin.direct and not asked(proxy)


def test_npm_takes_one_for_all(home, proxy):
    """README: https-proxy, or else proxy, whatever the registry's scheme."""
    installed("npm")
    home.shell("npm config set https-proxy http://127.0.0.1:3128", "npm config set proxy http://127.0.0.1:1",
               "npm --registry=http://packages.example.com/npm/ view name")
    went_through(proxy, home.origin)


def test_apt(home, proxy):
    installed("apt")
    home.place("/etc/apt/apt.conf.d/80proxy").write_text(BLOCKS["apt"][1])
    home.shell(PROBES["apt"])
    went_through(proxy, home.origin)
    home.sources("http://deb.corp.example")
    count = asked(proxy)
    home.shell(PROBES["apt"])
    assert home.origin.direct and asked(proxy) == count


def test_apt_takes_the_first_for_both(home, proxy):
    installed("apt")
    home.place("/etc/apt/apt.conf.d/80proxy").write_text(BLOCKS["apt"][1].splitlines()[0])
    home.shell(PROBES["apt"])
    assert {r["method"] for r in went_through(proxy, home.origin)} == {"GET", "CONNECT"}


def test_python(home, proxy):
    installed("python")
    (home.path / "program.py").write_text(BLOCKS["python"][1])
    home.shell(f"{sys.executable} program.py")
    went_through(proxy, home.origin)


# ---- Browsers and desktops

PAC = """function FindProxyForURL(url, host) { return "PROXY 127.0.0.1:3128"; }"""


def ends(proxy, *targets):
    """Records of these targets; there is one at least."""
    deadline = time.monotonic() + 10
    while not (found := [r for r in proxy.records() if r["target"].startswith(targets)]):
        assert time.monotonic() < deadline, json.dumps(proxy.records())
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("name, line", lines("chromium"))
def test_chromium(home, proxy, name, line):
    installed(name)
    assert MARKER in home.shell(line.split("  #")[0]).stdout
    went_through(proxy, home.origin)
    if "bypass" in line:
        home.browse("http://www.corp.example/")
        assert MARKER in home.shell(line).stdout and "/" in home.origin.direct


DESKTOPS = {"gnome": {"XDG_CURRENT_DESKTOP": "GNOME", "GSETTINGS_BACKEND": "keyfile"},
            "kde": {"XDG_CURRENT_DESKTOP": "KDE", "KDE_SESSION_VERSION": "5"}}


@pytest.mark.parametrize("desktop", DESKTOPS)
def test_desktop(home, proxy, desktop):
    """Chromium there reads the desktop's own settings."""
    need("gsettings", "chromium")
    kind, text = BLOCKS[desktop]
    if kind == "sh":
        home.shell(text, **DESKTOPS[desktop])
    else:
        home.place("~/.config/kioslaverc").write_text(text)
    assert MARKER in home.shell("chromium", **DESKTOPS[desktop]).stdout
    went_through(proxy, home.origin)


@pytest.mark.parametrize("name", ["firefox", "firefox-pac"])
def test_firefox(home, proxy, name):
    need("firefox-esr")
    profile = home.path / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(BLOCKS[name][1])
    home.shell(f"timeout 60 firefox-esr --headless --no-remote --profile {profile} --screenshot {home.path}/shot.png "
               "http://example.com/")
    assert any(r["status"] == 200 for r in ends(proxy, "http://example.com/", "example.com:443"))
    assert "/" not in home.origin.direct
    if name == "firefox":
        home.shell(f"timeout 60 firefox-esr --headless --no-remote --profile {profile} --screenshot {home.path}/shot.png "
                   "http://www.corp.example/")
        assert "/" in home.origin.direct


# ---- Docker, DHCP

class Daemon(http.server.BaseHTTPRequestHandler):
    """As much of Docker's as `docker create` asks for."""
    protocol_version = "HTTP/1.1"
    asked = []

    def answer(self, body=b"OK"):
        length = int(self.headers.get("Content-Length") or 0)
        Daemon.asked.append((self.path, self.rfile.read(length)))
        if "/containers/create" in self.path:
            body = json.dumps({"Id": "0" * 64, "Warnings": []}).encode()
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_):
        pass


def test_docker(home):
    """What `docker` tells the daemon to give a new container."""
    need("docker")
    home.place("~/.docker/config.json").write_text(BLOCKS["docker"][1])
    daemon = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Daemon)
    threading.Thread(target=daemon.serve_forever, daemon=True).start()
    home.shell("docker create image", DOCKER_HOST=f"tcp://127.0.0.1:{daemon.server_address[1]}")
    daemon.shutdown()
    created = json.loads(next(body for path, body in Daemon.asked if "/containers/create" in path))
    assert {"http_proxy=http://172.17.0.1:3128", "https_proxy=http://172.17.0.1:3128", "HTTP_PROXY=http://172.17.0.1:3128",
            "no_proxy=localhost,127.0.0.1,corp.example"} <= set(created["Env"]), created["Env"]


@pytest.mark.parametrize("name, program, command, around", [
    ("dnsmasq", "dnsmasq", "dnsmasq --test -C {}", "{}"),
    ("dhcpd", "dhcpd", "dhcpd -t -cf {}", "{}"),
    ("kea", "kea-dhcp4", "kea-dhcp4 -t {}", '{{"Dhcp4": {{\n{}"valid-lifetime": 600}}}}')])
def test_dhcp_option(home, name, program, command, around):
    """Their own check of a configuration takes it, and does not take everything."""
    if not os.path.exists(f"/usr/sbin/{program}"):
        pytest.skip(f"MISSING PROGRAM: {program}")
    file = home.path / "dhcp.conf"
    path = f"{os.environ['PATH']}:/usr/sbin"
    file.write_text(around.format(BLOCKS[name][1]))
    home.shell(command.format(file), PATH=path)
    file.write_text(around.format(BLOCKS[name][1].replace("option", "potion")))
    assert home.shell(command.format(file), PATH=path, ok=False).returncode != 0


# ---- Logins

@pytest.fixture
def private(start, origin):
    return start("--connect-ports", "22,443", "--name", "tester", "--user", "anna:secret", listen="127.0.0.1:3128")


FILES = {"curl": "curlrc", "wget": "wgetrc", "git": "gitconfig", "pip": "pip.conf", "npm": "npmrc", "apt": "auth.conf"}


@pytest.mark.parametrize("row", table("logins"), ids=lambda row: row[0].strip("`"))
def test_login(home, private, row):
    client = next(client for client, file in FILES.items() if file in row[0])
    installed(client)
    file = home.place(row[0].strip("`"))
    file.write_text("\n".join(re.findall(r"`([^`]*)`", row[1])) + "\n")
    file.chmod(0o600)
    if client == "apt":
        home.place("/etc/apt/apt.conf.d/80proxy").write_text(BLOCKS["apt"][1])
    home.shell(PROBES[client])
    went_through(private, home.origin, "anna")


@pytest.mark.parametrize("client", ["curl", "wget", "git", "pip", "npm", "python", "apt"])
def test_login_in_the_environment(home, private, client):
    installed(client)
    home.shell(PROBES[client], http_proxy="http://anna:secret@127.0.0.1:3128", https_proxy="http://anna:secret@127.0.0.1:3128")
    went_through(private, home.origin, "anna")


def test_git_asks_its_helper(home, private):
    installed("git")
    home.shell("git config --global http.proxy http://anna@127.0.0.1:3128",
               "git config --global credential.helper '!echo password=secret; :'", PROBES["git"])
    went_through(private, home.origin, "anna")


@pytest.mark.parametrize("client", ["curl", "wget", "python"])
def test_netrc_is_not_for_proxies(home, private, client):
    installed(client)
    (home.path / ".netrc").write_text("machine 127.0.0.1 login anna password secret\n")
    (home.path / ".netrc").chmod(0o600)
    home.shell(PROBES[client].replace("curl ", "curl --netrc "), ok=False, http_proxy=AT, https_proxy=AT)
    assert {r["status"] for r in ends(private, "example.com:443")} == {407}


def test_chromium_takes_no_login(home, private):
    installed("chromium")
    done = home.shell("chromium --proxy-server=http://anna:secret@127.0.0.1:3128", ok=False)
    word = re.search(r"`(ERR_NO_\w+)`", GUIDE)[1]
    assert word in done.stdout + done.stderr and not asked(private), done.stderr[-2000:]


# ---- Proxies by TLS and SOCKS5

@pytest.fixture
def both(start, origin, pki):
    if not os.path.exists(TLS_BINARY):
        pytest.fail(f"{TLS_BINARY} is missing: build it, or name it in MINIPROXY_TLS_BIN")
    certificate, key = pki.proxy
    return start("--connect-ports", "22,80,443", "--name", "tester", "--tls-listen", "127.0.0.1:3129", "--tls-cert", certificate,
                 "--tls-key", key, binary=TLS_BINARY, listen="127.0.0.1:3128")


def ways():
    for client, *cells in table("ways"):
        for scheme, cell in zip(("https", "socks5"), cells):
            if cell.startswith("`"):
                yield pytest.param(re.match(r"\w+", client)[0].lower(), scheme, cell.strip("`"), id=cell.strip("`"))


@pytest.mark.parametrize("client, scheme, line", ways())
def test_way(home, both, client, scheme, line):
    installed(client)
    if client == "npm" and scheme == "https" and int(run("npm", "--version").stdout.split(b".")[0]) < 11:
        pytest.skip("OLD PROGRAM: npm before 11, which offers proxies a protocol that there is not (ALPN)")
    if client == "apt" and scheme == "https":
        home.sources("http://packages.example.com")  # README says why
    home.shell(line)
    if scheme == "socks5":
        home.origin.direct = []  # in a tunnel no request has Via
    for record in went_through(both, home.origin):
        assert record.get("socks", False) == (scheme == "socks5"), record


@pytest.mark.parametrize("way", ["https://proxy.example:3129", "socks5h://127.0.0.1:3128", "socks5://127.0.0.1:3128"])
def test_not_with_wget(home, both, way):
    home.shell(PROBES["wget"], ok=False, http_proxy=way, https_proxy=way)
    assert not home.origin.tunnels


def test_firefox_by_tls(home, both):
    need("firefox-esr")
    profile = home.path / "profile"
    profile.mkdir()
    (home.origin.directory / "proxy.pac").write_text(PAC.replace("PROXY 127.0.0.1:3128", "HTTPS proxy.example:3129"))
    (profile / "user.js").write_text(BLOCKS["firefox-pac"][1].replace("http://127.0.0.1:3128", f"http://{INSIDE}"))
    need("certutil")
    home.shell(f"certutil -N -d sql:{profile} --empty-password",
               f"certutil -A -d sql:{profile} -n test -t C,, -i {home.authority}",
               f"timeout 60 firefox-esr --headless --no-remote --profile {profile} --screenshot shot.png http://example.com/")
    assert any(r["status"] == 200 for r in ends(both, "http://example.com/", "example.com:443"))


# ---- What is seen of a refusal

class Firefox:
    """Driven by its own protocol, Marionette: a length, a colon, JSON."""

    def __init__(self, home, name):
        profile = home.path / "profile"
        profile.mkdir()
        (profile / "user.js").write_text(BLOCKS[name][1] + 'user_pref("marionette.port", 2828);\n')
        self.process = subprocess.Popen(["firefox-esr", "--headless", "--no-remote", "--marionette", "--profile", str(profile)],
                                        env=home.environment(), cwd=home.path, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 40
        while True:
            try:
                self.sock = socket.create_connection(("127.0.0.1", 2828), timeout=60)
                break
            except OSError:
                assert time.monotonic() < deadline, "Firefox does not listen"
                time.sleep(0.1)
        self.stream, self.number = self.sock.makefile("rb"), 0
        self.read()
        assert self.call("WebDriver:NewSession")[0] is None

    def read(self):
        size = b""
        while not size.endswith(b":"):
            size += self.stream.read(1)
        return json.loads(self.stream.read(int(size[:-1])))

    def call(self, command, **parameters):
        """Error and result."""
        self.number += 1
        text = json.dumps([0, self.number, command, parameters]).encode()
        self.sock.sendall(b"%d:%s" % (len(text), text))
        return self.read()[2:]

    def stop(self):
        self.stream.close()
        self.sock.close()
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture
def refusing(start, origin):
    return start("--connect-ports", "9", "--name", "tester", listen="127.0.0.1:3128")


@pytest.fixture
def dead():
    """Nothing listens where the proxy should be."""


SEEN = {row[0].split(",")[0].split(" ")[0].lower(): row[1:] for row in table("tunnel")}
MORE = {"curl": "curl https://example.com/", "wget": "wget --tries=1 https://example.com/", "chromium": None, "firefox": None,
        "ssh": lines("ssh")[0].values[1]}


@pytest.mark.parametrize("column, state", enumerate(["refusing", "dead"]), ids=["refusing", "dead"])
@pytest.mark.parametrize("client", SEEN)
def test_what_is_seen(home, request, client, column, state):
    need({"firefox": "firefox-esr"}.get(client, PROGRAMS.get(client, client)))
    request.getfixturevalue(state)
    text = SEEN[client][column].split("`")[1].replace("…", "")
    if client == "firefox":
        browser = Firefox(home, "firefox")
        try:
            error, _ = browser.call("WebDriver:Navigate", url="https://example.com/")
        finally:
            browser.stop()
        assert error and text in error["message"], error
        return
    done = home.shell(MORE.get(client) or PROBES[client], ok=False, http_proxy=AT, https_proxy=AT, PIP_RETRIES="1")
    assert text in done.stdout + done.stderr, (done.stdout[-2000:], done.stderr[-2000:])


BROWSED = {
    "ERR_TUNNEL_CONNECTION_FAILED": ("refusing", "http://127.0.0.1:3128"),
    "ERR_PROXY_CONNECTION_FAILED": ("dead", "http://127.0.0.1:3128"),
    "ERR_SOCKS_CONNECTION_FAILED": ("refusing", "socks5://127.0.0.1:3128"),
    "ERR_PROXY_CERTIFICATE_INVALID": ("both", "https://proxy.example:3129"),
}


@pytest.mark.parametrize("word", BROWSED)
def test_words_of_chromium(home, request, word):
    assert {row[0].strip("`") for row in table("chromium")} == set(BROWSED)
    installed("chromium")
    state, at = BROWSED[word]
    request.getfixturevalue(state)
    wrapper = home.path / "bin" / "chromium"
    wrapper.write_text(wrapper.read_text().replace("--ignore-certificate-errors", ""))
    done = home.shell(f"chromium --proxy-server={at}", ok=False)
    assert word in done.stdout + done.stderr, done.stderr[-2000:]


def test_the_refusal_itself_by_http(home, refusing):
    """README: a browser shows it for http://."""
    installed("chromium")
    home.browse("http://127.0.0.1:8080/")
    assert "address_denied" in home.shell("chromium --proxy-server=http://127.0.0.1:3128 "
                                            "--proxy-bypass-list='<-loopback>'", ok=False).stdout
