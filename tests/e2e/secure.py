# SPDX-License-Identifier: MIT
"""TLS for the peers: a socket that speaks it by OpenSSL, and an authority that issues certificates, good and bad.

With MINIPROXY_OVER_TLS=1 it is between the proxy and all clients of tests that do not know of it.
"""
import functools
import os
import socket
import ssl
import subprocess
import tempfile
import threading

import peers
import world

OVER_TLS = os.environ.get("MINIPROXY_OVER_TLS") == "1"


class TlsSocket:
    """What a Wire needs of a socket. Unlike ssl.SSLSocket it closes one direction alone, one thread may send while
    another receives, and `ragged` says whether the other side ended without close_notify."""

    def __init__(self, sock, context, name=None, server=False, session=None):
        self.raw, self.ragged, self.notified, self.ended = sock, False, False, False
        self.lock, self.sending, self.unsent = threading.Lock(), threading.Lock(), b""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default would hide what `ragged` is for
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server, name, session)
        while not self._try(self.tls.do_handshake)[0]:
            self._fill()

    def _try(self, call, *arguments):
        """Whether it could be done with what has come, and its result."""
        try:
            with self.lock:
                return True, call(*arguments)
        except ssl.SSLWantReadError:
            return False, None
        finally:
            self._flush()

    def _flush(self):
        """Send what is encrypted. A thread that finds another one at it leaves its own to that."""
        while (self.unsent or self.outgoing.pending) and self.sending.acquire(blocking=False):
            try:
                with self.lock:
                    self.unsent += self.outgoing.read()
                self.unsent = self.unsent[self.raw.send(self.unsent):]
            finally:
                self.sending.release()

    def _fill(self):
        data = self.raw.recv(262144)
        with self.lock:
            self.incoming.write(data) if data else self.incoming.write_eof()
            self.ended = not data

    def recv(self, size):
        while True:
            try:
                done, data = self._try(self.tls.read, size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                if error.reason != "UNEXPECTED_EOF_WHILE_READING":
                    raise
                self.ragged = True
                return b""
            if done:
                return data
            self._fill()

    def send(self, data):
        """One record, which is taken whole: if it takes too long the next one is late."""
        self._flush()
        with self.lock:
            count = self.tls.write(data[:16384])
        try:
            self._flush()
        except socket.timeout:
            pass
        return count

    def sendall(self, data):
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest):]

    def notify(self):
        """close_notify: the end of what this side sends."""
        if self.notified:
            return
        self.notified = True
        with self.lock:
            # OpenSSL looks for the other side's end in the same call, and gives up for good if it finds data
            aside = b"" if self.ended else self.incoming.read()
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            if aside:
                self.incoming.write(aside)
        self._flush()

    def shutdown(self, how):
        if how == socket.SHUT_WR:
            self.notify()
        self.raw.shutdown(how)

    def __getattr__(self, name):
        return getattr(self.raw, name)


def openssl(*arguments, text=None):
    done = subprocess.run(("openssl", *arguments), input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """Issues certificates. `file` is what trusts it. One whose file and key are in the directory already is that."""

    def __init__(self, directory, name):
        self.directory, self.name = str(directory), name
        self.file, self.key = self.path("pem"), self.path("key")
        if os.path.exists(self.key):
            return
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out",
                self.file)

    def path(self, suffix):
        return os.path.join(self.directory, f"{self.name}.{suffix}")

    def issue(self, name, san=",".join(f"{'IP' if a[-1].isdigit() else 'DNS'}:{a}" for a in world.PROXIES), days=30,
              purpose=None, algorithm="ec", trusted=True, authority=False, digest="sha256", more=None):
        """Paths of a certificate and its key. trusted=False: it is signed by itself. authority: it may issue others.
        purpose: for servers, if nothing is said and it is no authority. more: another extension."""
        stem = os.path.join(self.directory, name)
        kind = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256") if algorithm == "ec" else (algorithm,)
        purpose = purpose or (None if authority else "serverAuth")
        extensions = ["basicConstraints=critical,CA:FALSE"]
        extensions = ["keyUsage=critical,keyCertSign", "basicConstraints=critical,CA:TRUE"] if authority else extensions
        extensions += [f"extendedKeyUsage={purpose}"] if purpose else []
        extensions += [more] if more else []
        extensions += [f"subjectAltName={san}"] if san else []
        signer = ("-CA", self.file, "-CAkey", self.key) if trusted else ("-signkey", stem + ".key")
        openssl("req", "-new", "-newkey", *kind, "-nodes", "-subj", f"/CN={name}", "-keyout", stem + ".key", "-out",
                stem + ".csr")
        with open(stem + ".ext", "w", encoding="ascii") as f:
            f.write("\n".join(extensions) + "\n")
        openssl("x509", "-req", f"-{digest}", "-in", stem + ".csr", "-days", str(days), *signer, "-set_serial",
                str(int.from_bytes(os.urandom(8), "big")), "-extfile", stem + ".ext", "-out", stem + ".pem")
        return stem + ".pem", stem + ".key"


@functools.cache
def own():
    """What all proxies of a run show that stand behind TLS, whom their clients trust, and a directory for both, which
    goes when this process does."""
    directory = tempfile.TemporaryDirectory(prefix="miniproxy-")
    authority = Authority(directory.name, "authority")
    return authority.issue("proxy"), authority.file, client_context(authority.file), directory


def over_tls(arguments):
    """The command line, with all listeners for TLS."""
    certificate, key = own()[0]
    return [*("--tls-listen" if word == "--listen" else word for word in arguments), "--tls-cert", certificate, "--tls-key",
            key]


def client_context(trusted, certificate=None, version=None, alpn=("http/1.1",)):
    context = ssl.create_default_context(cafile=trusted)
    if certificate:
        context.load_cert_chain(*certificate)
    if version:
        context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class TlsClient(peers.Client):
    """A client of the proxy's TLS listener."""

    def __init__(self, proxy, context, port, name="localhost", session=None, **kind):
        super().__init__(proxy, port=port, **kind)
        self.sock.settimeout(peers.PATIENCE)
        self.sock = TlsSocket(self.sock, context, name, session=session)

    def ended_well(self):
        """The stream has ended with close_notify."""
        assert self.ended == "eof" and not self.sock.ragged, (self.ended, self.sock.ragged)


def serve(certificate, script=None, failures=None, versions=None, alpn=None, weak=False):
    """A script for peers.Origin that speaks TLS around another one. It ends with close_notify, unless that one has set
    peer.cut. A handshake that fails is put into the list `failures`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if weak:
        context.set_ciphers("ALL:@SECLEVEL=0")  # to show what it would not itself take
    context.load_cert_chain(*certificate)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE  # port/README.md says what becomes of RSA otherwise
    if versions:
        context.minimum_version = context.maximum_version = versions
    if alpn:
        context.set_alpn_protocols(alpn)
    script = script or peers.answer(peers.response())

    def run(peer):
        peer.cut = False
        peer.sock.settimeout(peers.PATIENCE)
        try:
            peer.sock = TlsSocket(peer.sock, context, server=True)
        except (ssl.SSLError, ConnectionError) as error:
            if failures is not None:
                failures.append(error)
            return
        try:
            script(peer)
        finally:
            if not peer.cut:
                peer.sock.notify()
    return run
