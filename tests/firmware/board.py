# SPDX-License-Identifier: MIT
"""A firmware image in the emulator, with user-mode networking: 10.0.2.2 is this machine for it."""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QEMU = os.environ.get("QEMU", "qemu-system-arm")
HOST = "10.0.2.2"
MACHINES = {
    "lm3s6965": ("lm3s6965evb", "user,model=stellaris"),
    "mps2_an385": ("mps2-an385", "user"),
}
PATIENCE = 20.0  # seconds for anything that should happen at once


class Late(AssertionError):
    """Something did not happen in time."""


def image_path(name):
    return os.path.join(ROOT, os.environ.get("FIRMWARE_OUT", "build/firmware"), name + ".elf")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Board:
    """One run of an image. `lines` is its console, `port` the proxy's port on this machine's loopback."""

    def __init__(self, name, semihosting=False, command_line=None, cable=False, more_ports=(), network="10.0.2",
                 flash=(), debugger=False, more=()):
        """more_ports: further ports of the board; `ports` has theirs on this machine. network: the first octets of its
        network, in which `host` is this machine. flash: (file, address) of what else is in flash at start.
        debugger: for write_flash. more: arguments for the emulator."""
        self.name, self.port, self.lines = name, free_port(), []
        self.ports = {inside: free_port() for inside in more_ports}
        self.host = network + ".2"
        machine, nic = MACHINES[name.split("-")[0]]
        if self.host != HOST:
            nic += f",net={network}.0/24,host={self.host},dns={network}.3,dhcpstart={network}.15"
        command = [QEMU, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel",
                   image_path(name), "-nic", f"{nic},id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:3128" +
                   "".join(f",hostfwd=tcp:127.0.0.1:{outside}-:{inside}" for inside, outside in self.ports.items())]
        for file, address in flash:
            command += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
        self.debugger = free_port() if debugger else None
        if debugger:
            command += ["-gdb", f"tcp:127.0.0.1:{self.debugger}"]
        command += more
        if semihosting:
            command += ["-semihosting-config", "enable=on,target=native"]
        if command_line:
            command += ["-append", command_line]
        self.monitor = None  # path of its socket, where set_cable is wanted
        if cable:
            self.monitor = os.path.join(tempfile.mkdtemp(), "monitor")
            command += ["-qmp", f"unix:{self.monitor},server=on,wait=off"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.decode("latin-1").rstrip("\r\n"))

    def console(self):
        return "\n".join(self.lines)

    def line(self, pattern, patience=PATIENCE, after=0):
        """The first line from number `after` on that matches, as re.Match."""
        deadline = time.monotonic() + patience
        while True:
            for text in self.lines[after:]:
                if match := re.search(pattern, text):
                    return match
            if time.monotonic() > deadline or (self.process.poll() is not None and not self.reader.is_alive()):
                raise Late(f"no {pattern!r} on the console of {self.name} (exit {self.process.poll()}):\n" +
                           "\n".join(self.lines[-30:]))
            time.sleep(0.01)

    def ready(self):
        return self.line(r"^READY (\d+\.\d+\.\d+\.\d+):3128$")[1]

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def counters(self):
        """{"active": …, "heap.used": …, "stack.unused": …}: numbers of the proxy by their names, others behind the
        first word of their line, pools behind the pool's name."""
        after = len(self.lines)
        self.type("c")
        self.line(r"^counters end", after=after)
        found = {}
        for text in self.lines[after:]:
            words = text.split()
            if not words or words[0] not in ("counters", "pool", "net", "tls", "stack"):
                continue
            prefix = {"counters": "", "pool": words[1] + "."}.get(words[0], words[0] + ".")
            found.update({prefix + k: int(v) for k, v in re.findall(r"([\w-]+)=(\d+)\b", text)})
        return found

    def wait_counters(self, condition, patience=PATIENCE):
        """The counters as soon as condition(counters) holds."""
        deadline = time.monotonic() + patience
        while not condition(counters := self.counters()):
            if time.monotonic() > deadline:
                raise Late(f"{self.name}: the counters stay at {counters}")
            time.sleep(0.2)
        return counters

    def write_flash(self, address, data):
        """As a driver of the flash would, while the program runs: by the emulator's debugger."""
        def ask(text):
            s.sendall(b"$" + text + b"#%02x" % (sum(text) & 255))
            while (answer := packet()).startswith(b"T"):
                pass  # that it has stopped
            return answer

        def packet():
            while (mark := s.recv(1)) != b"$":
                assert mark, "the debugger has hung up"
            answer = b""
            while not answer.endswith(b"#"):
                answer += s.recv(1)
            s.recv(2)
            s.sendall(b"+")
            return answer[:-1]

        with socket.create_connection(("127.0.0.1", self.debugger), PATIENCE) as s:
            for at in range(0, len(data), 512):
                part = data[at:at + 512]
                answer = ask(b"M%x,%x:" % (address + at, len(part)) + part.hex().encode())
                assert answer == b"OK", answer
            assert ask(b"D") == b"OK"  # and go on

    def set_cable(self, plugged):
        """Of boards that ask their PHY."""
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.monitor)
            file = s.makefile("rw")
            file.readline()  # a greeting
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "set_link", "arguments": {"name": "net0", "up": plugged}}):
                file.write(json.dumps(command))
                file.flush()
                answer = file.readline()
                assert "return" in answer, answer

    def wait(self, patience=PATIENCE):
        code = self.process.wait(patience)
        self.reader.join(patience)
        return code

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.monitor:
            shutil.rmtree(os.path.dirname(self.monitor))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
