# SPDX-License-Identifier: MIT
"""Programs that people use, through the proxy: curl, wget, git, apt-get, nginx, openssl. Byte for byte."""
import functools
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import threading

import pytest

import secure
import world
from peers import unused_port

CGI = "/usr/lib/git-core/git-http-backend"


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"MISSING PROGRAM: {program}")


def run(*command, proxy=None, ok=True, **kind):
    """Run a client program; its proxy comes from the environment."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **kind.pop("env", {})}
    if proxy:
        env.update(http_proxy=proxy.url, https_proxy=proxy.url, HTTPS_PROXY=proxy.url)
    if proxy and proxy.over_tls:
        env["GIT_PROXY_SSL_CAINFO"] = secure.own()[1]
        command = (*command, *(("--proxy-cacert", secure.own()[1]) if command[0] == "curl" else ()))
    done = subprocess.run(command, env=env, capture_output=True, timeout=60, **kind)
    assert not ok or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


class Files(http.server.ThreadingHTTPServer):
    """Python's own file server."""
    daemon_threads = True

    def __init__(self, directory, handler=http.server.SimpleHTTPRequestHandler, certificate=None):
        class Quiet(handler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass
        super().__init__(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_address[1]}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def certificate(tmp_path):
    need("openssl")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out",
        str(tmp_path / "cert"))
    return tmp_path / "cert", tmp_path / "key"


@pytest.fixture
def nginx(tmp_path, certificate):
    """An nginx with plain and TLS ports, files, uploads to a file, and a slow place."""
    need("nginx")
    root, plain, tls = tmp_path / "www", unused_port(), unused_port()
    (root / "up").mkdir(parents=True)
    root.chmod(0o755)
    (root / "20m").write_bytes(os.urandom(20 << 20))
    (root / "small").write_bytes(b"small file\n")
    (root / "text").write_bytes(b"some text that gzip likes\n" * 5000)
    temp = "\n".join(f"{name}_temp_path {tmp_path}/t_{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi",
                                                                           "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "conf").write_text(f"""
{user} pid {tmp_path}/pid; error_log {tmp_path}/error.log; daemon off; worker_processes 1;
events {{ worker_connections 600; }}
http {{
    access_log off; root {root}; client_max_body_size 100m; {temp}
    gzip on; gzip_types text/plain application/octet-stream; default_type application/octet-stream;
    ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]};
    server {{
        listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
        location /up/ {{ dav_methods PUT DELETE; }}
        location /limited/ {{ client_max_body_size 1k; dav_methods PUT; }}
        location /moved {{ return 302 http://127.0.0.1:{plain}/small; }}
        location /none {{ return 204; }}
    }}
}}
""")
    process = subprocess.Popen(["nginx", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-c",
                                str(tmp_path / "conf")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.root, process.plain, process.tls = root, f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{tls}"
    process.tls_by_name = f"https://localhost:{tls}"
    wait = f"until curl -s -o /dev/null {process.plain}/small; do sleep 0.05; done"
    subprocess.run(["timeout", "10", "sh", "-c", wait], check=True, env={"PATH": os.environ["PATH"]})
    yield process
    process.terminate()
    process.wait(10)


@pytest.fixture
def through(start):
    return start("--allow-private", "--connect-ports", "any")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.req("H10", "P01", "P08", "M13")
def test_curl_and_nginx(through, nginx, tmp_path):
    need("curl")
    out = tmp_path / "out"
    run("curl", "-sSf", "-o", str(out), nginx.plain + "/20m", proxy=through)
    assert digest(out) == digest(nginx.root / "20m")
    done = run("curl", "-sSf", "--compressed", nginx.plain + "/text", proxy=through)
    assert done.stdout == (nginx.root / "text").read_bytes()
    done = run("curl", "-sSf", "-r", "100-199", nginx.plain + "/20m", proxy=through)
    assert done.stdout == (nginx.root / "20m").read_bytes()[100:200]
    done = run("curl", "-sSfI", nginx.plain + "/20m", proxy=through)
    assert b"Content-Length: 20971520\r\n" in done.stdout and b"Via: 1.1 " in done.stdout
    done = run("curl", "-sSfL", nginx.plain + "/moved", proxy=through)
    assert done.stdout == b"small file\n"
    done = run("curl", "-sSf", "-w", "%{num_connects} ", nginx.plain + "/small", nginx.plain + "/small",
               nginx.plain + "/none", proxy=through)
    assert done.stdout == b"small file\n1 small file\n0 0 "


@pytest.mark.req("H10", "E01", "B01", "C01")
@pytest.mark.parametrize("way", ["length", "chunked", "http/1.0"])
def test_curl_uploads_20_megabytes(through, nginx, tmp_path, way):
    need("curl")
    options = {"length": [], "chunked": ["-H", "Transfer-Encoding: chunked"], "http/1.0": ["--http1.0"]}[way]
    run("curl", "-sSf", "-T", str(nginx.root / "20m"), *options, nginx.plain + "/up/copy", proxy=through)
    assert digest(nginx.root / "up" / "copy") == digest(nginx.root / "20m")


@pytest.mark.req("E03", "E05", "P11")
@pytest.mark.parametrize("expect", [True, False])
def test_curl_upload_that_nginx_refuses(through, nginx, expect):
    need("curl")
    fields = [] if expect else ["-H", "Expect:"]
    done = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(nginx.root / "20m"), *fields,
               nginx.plain + "/limited/x",
               proxy=through, ok=False)
    assert done.stdout.startswith(b"413"), done


@pytest.mark.req("K03", "K05", "K07")
def test_curl_tls_through_a_tunnel(through, nginx, certificate, tmp_path):
    need("curl")
    out = tmp_path / "out"
    for url in (nginx.tls, nginx.tls_by_name):
        run("curl", "-sSf", "--cacert", str(certificate[0]), "-o", str(out), url + "/20m", proxy=through)
        assert digest(out) == digest(nginx.root / "20m")
    run("curl", "-sSf", "--cacert", str(certificate[0]), "-T", str(nginx.root / "20m"), nginx.tls + "/up/tls",
        proxy=through)
    assert digest(nginx.root / "up" / "tls") == digest(nginx.root / "20m")
    done = run("curl", "-sSf", "--proxytunnel", nginx.plain + "/small", proxy=through)
    assert done.stdout == b"small file\n"


@pytest.mark.req("A01", "A04", "A11", "A12", "K06")
def test_curl_with_logins(start, nginx, certificate):
    need("curl")
    proxy = start("--allow-private", "--connect-ports", "any", "--user", "anna:pass:w\u00f6rd")
    for way in (["-U", "anna:pass:w\u00f6rd"], ["--proxy-anyauth", "-U", "anna:pass:w\u00f6rd"]):
        for url in (nginx.plain, nginx.tls):
            done = run("curl", "-sSf", *way, "--cacert", str(certificate[0]), url + "/small", proxy=proxy)
            assert done.stdout == b"small file\n"
        run("curl", "-sSf", *way, "-T", str(nginx.root / "20m"), nginx.plain + "/up/auth", proxy=proxy)
        assert digest(nginx.root / "up" / "auth") == digest(nginx.root / "20m")
    done = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(nginx.root / "20m"), "-H", "Expect:",
               nginx.plain + "/up/x", proxy=proxy,
               ok=False)
    assert done.stdout.startswith(b"407"), done
    done = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_connect}", nginx.tls + "/small", proxy=proxy, ok=False)
    assert done.returncode == 56 and done.stdout == b"407"


@pytest.mark.req("Z08", "H10")
def test_many_parallel_transfers_of_curl(through, nginx, tmp_path):
    """One process with 200 of them, or as many as the stack takes."""
    need("curl")
    count = min(200, world.transfers)
    (nginx.root / "1m").write_bytes(os.urandom(min(1 << 20, world.megabytes * 500000 // count)))
    config = tmp_path / "urls"
    config.write_text("".join(f'url = "{nginx.plain}/1m"\noutput = "{tmp_path}/o{i}"\n' for i in range(count)))
    run("curl", "-sSf", "-Z", "--parallel-max", str(count), "-K", str(config), proxy=through)
    right = digest(nginx.root / "1m")
    assert all(digest(tmp_path / f"o{i}") == right for i in range(count))


@pytest.mark.req("H10", "P01", "B16", "M15")
def test_wget(through, nginx, certificate, tmp_path):
    need("wget")
    out = tmp_path / "out"
    for url in (nginx.plain, nginx.tls):
        run("wget", "-q", f"--ca-certificate={certificate[0]}", "-O", str(out), url + "/20m", proxy=through)
        assert digest(out) == digest(nginx.root / "20m")
    done = run("wget", "-S", "-O", "/dev/null", "http://127.0.0.1:1/", "--tries=1", proxy=through, ok=False)
    assert b"502 Bad Gateway" in done.stderr and b"error=connection_refused" in done.stderr


@pytest.mark.req("H10", "P03", "B16", "M15")
def test_python_server_of_http_1_0(through, tmp_path):
    """A server that ends each response by closing."""
    need("curl")
    (tmp_path / "file").write_bytes(os.urandom(3000000))
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(http.server.SimpleHTTPRequestHandler,
                                                                                directory=str(tmp_path)))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    done = run("curl", "-sSf", f"http://127.0.0.1:{files.server_address[1]}/file", proxy=through)
    assert done.stdout == (tmp_path / "file").read_bytes()
    files.shutdown()


class GitServer(http.server.BaseHTTPRequestHandler):
    """Just enough CGI for git-http-backend."""
    protocol_version = "HTTP/1.1"

    def __init__(self, *args, directory):
        self.directory = directory
        super().__init__(*args)

    def read_body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        body = self.read_body()
        path, _, query = self.path.partition("?")
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.directory, "GIT_HTTP_EXPORT_ALL": "1",
               "PATH_INFO": path, "QUERY_STRING": query,
               "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "CONTENT_LENGTH": str(len(body)),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
               "REMOTE_USER": "tester", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
               "GIT_CONFIG_VALUE_0": "*"}
        out = subprocess.run([CGI], input=body, env=env, capture_output=True, check=True).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        self.send_response(int(next((v.split()[0] for k, v in fields if k == "Status"), "200")))
        for name, value in fields:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(content), 50000):
            piece = content[at:at + 50000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_POST = do_GET


@pytest.mark.req("H10", "C01", "P01", "T05")
def test_git(through, tmp_path):
    """Clone, push and fetch over plain HTTP."""
    need("git")
    if not os.path.exists(CGI):
        pytest.skip(f"MISSING PROGRAM: {CGI}")

    def git(*args, at=None):
        return run("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-c",
                   "http.postBuffer=65536", *args, cwd=at,
                   proxy=through, env={"GIT_CONFIG_NOSYSTEM": "1"})
    work, bare, copy = tmp_path / "work", tmp_path / "srv" / "x.git", tmp_path / "copy"
    git("init", "-q", str(work))
    (work / "big").write_bytes(os.urandom(2000000))
    git("add", ".", at=work)
    git("commit", "-q", "-m", "one", at=work)
    git("clone", "-q", "--bare", str(work), str(bare))
    git("config", "http.receivepack", "true", at=bare)
    server = Files(tmp_path / "srv", GitServer)
    git("clone", "-q", server.url + "/x.git", str(copy))
    assert digest(copy / "big") == digest(work / "big")
    (copy / "more").write_bytes(os.urandom(1500000))
    git("add", ".", at=copy)
    git("commit", "-q", "-m", "two", at=copy)
    git("push", "-q", "origin", "main", at=copy)
    git("pull", "-q", server.url + "/x.git", "main", at=work)
    assert digest(work / "more") == digest(copy / "more")
    assert any(r["method"] == "POST" for r in through.records())
    server.shutdown()


@pytest.mark.req("H10", "P06", "P01", "B01")
def test_apt_get(through, tmp_path):
    """A repository of one package, downloaded with everything apt does, in directories of its own."""
    need("apt-get", "dpkg-deb")
    repository, tree, state = tmp_path / "repository", tmp_path / "tree", tmp_path / "state"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "data").write_bytes(os.urandom(500000))
    (tree / "DEBIAN" / "control").write_text("Package: dummy\nVersion: 1\nArchitecture: all\nMaintainer: t <t@t>\n"
                                             "Description: dummy\n")
    repository.mkdir()
    run("dpkg-deb", "-b", str(tree), str(repository / "dummy.deb"))
    control = (tree / "DEBIAN" / "control").read_text()
    size = (repository / "dummy.deb").stat().st_size
    (repository / "Packages").write_text(f"{control}Filename: ./dummy.deb\nSize: {size}\n"
                                         f"SHA256: {digest(repository / 'dummy.deb')}\n\n")
    for path in ("lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d"):
        (state / path).mkdir(parents=True)
    (state / "status").write_text("")
    server = Files(repository)
    (state / "sources.list").write_text(f"deb [trusted=yes] {server.url}/ ./\n")
    options = [f"Dir::State={state}", f"Dir::State::status={state}/status", f"Dir::Cache={state}/cache",
               f"Dir::Etc={state}/etc",
               f"Dir::State::lists={state}/lists", f"Dir::Etc::sourcelist={state}/sources.list",
               "Dir::Etc::sourceparts=-", "Debug::NoLocking=1",
               f"Acquire::http::Proxy={through.url}", "APT::Sandbox::User=root", "Acquire::Languages=none",
               "Acquire::Retries=0",
               f"Dir::Etc::parts={state}/etc/apt.conf.d", "APT::Architecture=amd64", "Acquire::http::Timeout=20"]
    options += [f"Acquire::https::CaInfo={secure.own()[1]}"] if through.over_tls else []
    flags = [part for option in options for part in ("-o", option)]
    empty = tmp_path / "empty.conf"
    empty.write_text("")
    run("apt-get", *flags, "update", env={"APT_CONFIG": str(empty)})
    run("apt-get", *flags, "download", "dummy", cwd=str(tmp_path), env={"APT_CONFIG": str(empty)})
    assert digest(next(tmp_path.glob("dummy_1_all.deb"))) == digest(repository / "dummy.deb")
    assert sum(r["target"].startswith(server.url) for r in through.records()) >= 2
    server.shutdown()
