# SPDX-License-Identifier: MIT
"""Real programs as parents of the proxy under test: tinyproxy, squid, microsocks, and miniproxy itself. Each listens
at a port of loopback that it keeps, may ask for a login, may have a parent of its own, may be killed and revived."""
import os
import signal
import socket
import subprocess
import threading
import time

import peers
import proxy as proxies
import secure

REALM = "parents"


class Parent:
    """A process. `login` is "name:password" or None, `parent` another Parent or None."""
    scheme, program, via = "http", None, None

    def __init__(self, directory, login=None, parent=None, port=None):
        self.login, self.parent, self.port = login, parent, port or peers.unused_port()
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"{self.scheme}://{login + '@' if login else ''}{self.authority}"
        self.program_name = os.path.basename(self.program)
        self.directory = os.path.join(str(directory), f"{self.program_name}-{self.port}")
        os.mkdir(self.directory)
        self.process = None
        self.revive()

    def path(self, name, text=None):
        path = os.path.join(self.directory, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return path

    def revive(self):
        """Start it; when this returns, it accepts connections."""
        with open(self.path("output"), "ab") as output:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + peers.PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.said()
                time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def said(self):
        with open(self.path("output"), encoding="utf-8", errors="replace") as f:
            return f"{self.program} (exit {self.process.poll()}): {f.read()[-2000:]}"

    def stop(self):
        if self.process.poll() is None:
            self.kill()


class Tinyproxy(Parent):
    program, via = "tinyproxy", "tinyproxy.test"

    def command(self):
        login = f"BasicAuth {self.login.replace(':', ' ')}\n" if self.login else ""
        way = f"Upstream {self.parent.url.replace('://', ' ')}\n" if self.parent else ""
        path = self.path("conf", f"Port {self.port}\nListen 127.0.0.1\nMaxClients 300\nTimeout 60\nLogLevel Error\n"
                                 f"ViaProxyName \"{self.via}\"\n{login}{way}")
        return ["tinyproxy", "-d", "-c", path]


class Squid(Parent):
    """In a user namespace in which it is not root, as which it refuses to run."""
    program, via = "squid", "squid.test"

    def command(self):
        login, way = "http_access allow all\n", ""
        if self.login:
            name, password = self.login.split(":")
            hashed = secure.openssl("passwd", "-apr1", password).strip()
            users = self.path("users", f"{name}:{hashed}\n")
            login = (f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}\n"
                     f"auth_param basic realm {REALM}\nacl known proxy_auth REQUIRED\nhttp_access allow known\n")
        if self.parent:
            own = f" login={self.parent.login}" if self.parent.login else ""
            way = f"cache_peer 127.0.0.1 parent {self.parent.port} 0 no-query default{own}\nnever_direct allow all\n"
        path = self.path("conf", f"http_port 127.0.0.1:{self.port}\nvisible_hostname {self.via}\n{login}{way}"
                                 f"pid_filename none\naccess_log none\ncache_log {self.path('cache.log')}\n"
                                 "cache deny all\nnetdb_filename none\npinger_enable off\ncoredump_dir none\n"
                                 "max_filedescriptors 1024\n")
        return ["unshare", "--user", "--map-user=13", "--map-group=13", "squid", "-N", "-f", path]


class Microsocks(Parent):
    scheme, program = "socks5", "microsocks"

    def command(self):
        login = [word for pair in zip(("-u", "-P"), self.login.split(":")) for word in pair] if self.login else []
        return ["microsocks", "-i", "127.0.0.1", "-p", str(self.port), *login]


class Miniproxy(Parent):
    """`options`: more of them."""
    program, listen, options = proxies.BINARY, "--listen", ()

    @property
    def via(self):
        return f"mini-{self.port}"

    def command(self):
        login = ["--user", self.login] if self.login else []
        way = ["--parent", self.parent.url] if self.parent else []
        way += ["--ca", secure.own()[1]] if "https" in (self.scheme, self.parent and self.parent.scheme) else []
        return [self.program, self.listen, self.authority, "--allow-private", "--connect-ports", "any", "--name",
                self.via, "--log", self.path("log"), *login, *way, *self.options]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(peers.PATIENCE) == 0, self.said()
        assert "ERROR: " not in self.said() and "runtime error" not in self.said(), self.said()


class MiniproxyByTls(Miniproxy):
    scheme, listen = "https", "--tls-listen"

    @property
    def options(self):
        return secure.over_tls([])


KINDS = {"tinyproxy": Tinyproxy, "squid": Squid, "socks5": Microsocks, "miniproxy": Miniproxy, "tls": MiniproxyByTls}


class Load:
    """Threads that each do one thing again and again. Each counts what went well, and keeps what went wrong."""

    def __init__(self):
        self.stop, self.counts, self.errors, self.threads = threading.Event(), {}, [], []

    def add(self, name, once):
        def run():
            try:
                while not self.stop.is_set():
                    once()
                    self.counts[name] = self.counts.get(name, 0) + 1
            except Exception as error:  # pylint: disable=broad-except
                self.errors.append((name, error))
        self.counts[name] = 0
        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def goes_on(self, rounds=3, patience=4 * peers.PATIENCE):
        """Each of the threads has gone `rounds` times round since this was called."""
        before, deadline = dict(self.counts), time.monotonic() + patience
        while any(self.counts[name] < count + rounds for name, count in before.items()):
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, (before, self.counts)
            time.sleep(0.01)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self.threads)
