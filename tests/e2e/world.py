# SPDX-License-Identifier: MIT
"""A world of its own for the tests: a network of loopback alone, and a name server that follows a script.

Nothing the proxy does, right or wrong, can reach another machine: the process moves into a network namespace in which
only `lo` exists. Public and private addresses of the tests are addresses of that `lo`. In a mount namespace the
resolver's files are replaced, so that getaddrinfo asks the server below.
"""
import contextlib
import ctypes
import itertools
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
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 0x40000, 2

FILES = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\nsearch searched.test\noptions timeout:2 attempts:1\n",
    "/etc/hosts": "127.0.0.1 localhost\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}

# The network stack of the program under test: "" is the kernel's, so is the tests'. Any other one ("lwip-raw", ...) is
# another host, at the end of a tap device. MINIPROXY_NET tells the program which; see tests/lwip/desktop/stack.h.
STACK = os.environ.get("MINIPROXY_STACK", "")
CABLES = 24
THERE = [(f"198.51.100.{4 * n + 2}", f"fd00:6d70:0:{n:x}::2") for n in range(CABLES if STACK else 0)]
PROXIES = ["localhost", "127.0.0.1", "::1", *itertools.chain(*THERE)]  # where a client may find one

# What fits into a stack, by the beginning of its name: sessions, large transfers at the same time, names looked up at once
# (a name takes two lookups), and megabytes that are more than enough to fill every buffer on the way. The cases' own
# numbers hold where there is more. The Ethernet chip of mps2 drops what its 10 KB do not hold, four windows of 2 KB.
SIZES = {
    "lm3s-": (6, 6, 2, 20),
    "mps2-": (100, 12, 50, 20),
    "lwip-raw": (100, 100, 50, 400),
    "lwip-sockets": (200, 200, 50, 400),
}
sessions, transfers, names, megabytes = next((size for stack, size in SIZES.items() if STACK.startswith(stack)),
                                             (10000, 10000, 10000, 400))
is_board = STACK.startswith(("lm3s-", "mps2-"))

isolated = False  # set by enter()
cables = []       # those that are not in use
why_no_cables = "NO NETWORK NAMESPACE: this system lets the tests have none of their own"


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
    with open("/proc/sys/net/ipv4/conf/all/rp_filter", "w", encoding="ascii") as f:
        f.write("0")
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
    if STACK:
        lay_cables()
    return True


@contextlib.contextmanager
def in_place_of(path, file):
    """In the isolated world another file stands at `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    _mount(libc, file, path, MS_BIND)
    try:
        yield
    finally:
        libc.umount2(path.encode(), MNT_DETACH)


def lay_cables():
    global why_no_cables
    try:
        cables.extend(Cable(n) for n in range(CABLES))
    except (OSError, subprocess.CalledProcessError) as error:
        why_no_cables = f"NO TAP DEVICE: {error}"


class Cable:
    """A tap device: at this end the kernel with all the addresses of the tests, at the other one a program that brings
    its own stack. Clients keep their addresses of 127.0.0.0/8, and so do servers; Linux lets that pass where it is told
    to. ::1 it never does: the program takes the address of this end for it."""

    def __init__(self, n):
        self.tap, self.here4, self.here6 = f"mp{n}", f"198.51.100.{4 * n + 1}", f"fd00:6d70:0:{n:x}::1"
        self.there4, self.there6 = THERE[n]
        for command in (f"tuntap add dev {self.tap} mode tap", f"addr add {self.here4}/30 dev {self.tap}",
                        f"link set {self.tap} txqueuelen 20000 up",
                        f"route replace {self.there4}/32 dev {self.tap} src 127.0.0.1",
                        f"-6 addr add {self.here6}/64 dev {self.tap} nodad"):
            subprocess.run(["ip", *command.split()], check=True)
        for key, value in (("rp_filter", 0), ("route_localnet", 1)):
            with open(f"/proc/sys/net/ipv4/conf/{self.tap}/{key}", "w", encoding="ascii") as f:
                f.write(str(value))

    def environment(self, connections=None):
        routes = ["127.0.0.0/8"] + [a for a in ADDRESSES if ":" not in a]
        words = [f"tap={self.tap}", f"ip4={self.there4}/30", f"gw4={self.here4}", f"ip6={self.there6}",
                 f"gw6={self.here6}", "dns=127.0.0.1", "routes=" + ",".join(routes)]
        return " ".join(words + ([f"pcbs={connections}"] if connections else []))

    def reach(self, host):
        """Where a client finds the listener that the program says is at `host`."""
        return self.there6 if ":" in host else self.there4


def server_address(host):
    """What a server binds that the program under test is to find at `host`."""
    return "::" if STACK and host == "::1" else host


class Names(threading.Thread):
    """DNS over UDP on 127.0.0.1:53. `zone` maps a name to addresses, or to "silent" or "servfail"; what is missing does
    not exist. `queries` records (name, type)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.zone, self.queries = {}, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the second try of a run's last case has another
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
