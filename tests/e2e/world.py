# SPDX-License-Identifier: MIT
"""A world of its own for the tests: a network of loopback alone, and a name server that follows a script.

Nothing the proxy does, right or wrong, can reach another machine: the process moves into a network namespace in which
only `lo` exists. Public and private addresses of the tests are addresses of that `lo`. In a mount namespace the
resolver's files are replaced, so that getaddrinfo asks the server below.
"""
import ctypes
import os
import socket
import struct
import subprocess
import tempfile
import threading

PUBLIC = "93.184.216.34"          # not special-purpose: reachable by the default policy
PUBLIC_OTHER = "93.184.216.35"
PUBLIC6 = "2606:2800:220:1::1"
PRIVATE = "10.20.30.40"
ADDRESSES = (PUBLIC + "/32", PUBLIC_OTHER + "/32", PUBLIC6 + "/128", PRIVATE + "/32", "172.16.5.5/32", "192.168.7.7/32",
             "100.64.3.3/32", "169.254.169.254/32", "198.18.0.9/32", "fd12:3456::1/128")

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

FILES = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}

isolated = False  # set by enter()


def _mount(libc, source, target, flags):
    if libc.mount(source.encode(), target.encode(), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def _unshare(libc):
    flags, uid, gid = CLONE_NEWNET | CLONE_NEWNS, os.getuid(), os.getgid()
    if os.geteuid() != 0:
        flags |= CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return False
    if flags & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as f:
                f.write(text)
    return True


def enter():
    """Move this process and its future children into the isolated world. False where the system does not let us."""
    global isolated
    libc = ctypes.CDLL(None, use_errno=True)
    if os.environ.get("MINIPROXY_ISOLATE") == "no" or not _unshare(libc):
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        subprocess.run(["ip", "addr", "add", address, "dev", "lo"], check=True)
    _mount(libc, "none", "/", MS_REC | MS_PRIVATE)
    for path, text in FILES.items():
        with tempfile.NamedTemporaryFile("w", delete=False) as f:
            f.write(text)
        os.chmod(f.name, 0o644)
        _mount(libc, f.name, path, MS_BIND)
        os.unlink(f.name)  # the mount keeps it
    isolated = True
    return True


class Names(threading.Thread):
    """DNS over UDP on 127.0.0.1:53. `zone` maps a name to addresses, or to "silent" or "servfail"; what is missing does
    not exist. `queries` records (name, type)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.zone, self.queries = {}, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 53))
        self.start()

    def run(self):
        while True:
            query, peer = self.sock.recvfrom(4096)
            answer = self.answer(query)
            if answer is not None:
                self.sock.sendto(answer, peer)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1").lower())
            at += 1 + query[at]
        question = query[12:at + 5]
        name, kind = ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0]
        self.queries.append((name, {1: "A", 28: "AAAA"}.get(kind, str(kind))))
        what = self.zone.get(name, "nxdomain")
        if what == "silent":
            return None
        code, records = {"nxdomain": 3, "servfail": 2}.get(what, 0) if isinstance(what, str) else 0, []
        if code == 0:
            family, size = {1: (socket.AF_INET, 4), 28: (socket.AF_INET6, 16)}.get(kind, (None, 0))
            matching = [a for a in what if (":" in a) == (kind == 28)] if family else []
            records = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, size) + socket.inet_pton(family,
                                                                                                a) for a in matching]
        return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0) + question + b"".join(records)

    def asked(self, name):
        return sum(1 for asked, _ in self.queries if asked == name)
