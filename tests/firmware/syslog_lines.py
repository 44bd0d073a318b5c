# SPDX-License-Identifier: MIT
"""What boards send to a syslog server. Writes build/results/firmware-syslog.tsv."""
import base64
import os
import re
import socket
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
sys.path.insert(0, HERE)

import world  # noqa: E402
from board import Board, PATIENCE  # noqa: E402
from boot import BLOB, STACK_LEFT, Origins, Results, once  # noqa: E402
from rfc5424 import receive  # noqa: E402

IMAGES = ("lm3s6965-raw-syslog", "lm3s6965-sockets-syslog")
PORT = 5514  # as firmware.mk has it
WRONG = "Proxy-Authorization: Basic " + base64.b64encode(b"operator:guess").decode() + "\r\n"


def listen():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", PORT))
    server.settimeout(PATIENCE)
    return server


def check_transactions(board, origins, server):
    """Each transaction is a line, and each failed login."""
    for size in (100, 2000, 0):
        assert once(board, f"{origins.url}/{size}") == (200, BLOB[:size])
        header, words = receive(server)
        assert (header["priority"], header["time"], header["id"]) == ("134", "-", "transaction"), header
        assert re.fullmatch(r"mp-[0-9a-f]{12}", header["host"]), header
        assert (words["method"], words["target"], words["status"], words["user"], words["by"]) == (
            "GET", f"{origins.url}/{size}", "200", "operator", "origin"), words
        assert int(words["bytes_down"]) > size and words["client"] == "10.0.2.2"


def check_alert(board, origins, server):
    after = len(board.lines)
    found = []
    for _ in range(5):
        assert once(board, origins.url + "/1", WRONG)[0] in (407, 429)
        found.append(receive(server))
    header, words = receive(server)
    assert (header["priority"], header["id"]) == (str(16 * 8 + 4), "alert")
    assert (words["threshold"], words["state"], words["client"]) == ("failed_logins", "raised", "10.0.2.2"), words
    assert {words["cause"] for _, words in found} <= {"login_failed", "login_throttled"} and len(found) == 5
    board.line(r"^alert threshold=failed_logins state=raised client=10\.0\.2\.2 value=5 limit=5$", after=after)


def check_nobody(board, origins):
    for _ in range(50):
        assert once(board, origins.url + "/100", "")[0] == 407
    done = board.counters()
    assert done["stack.unused"] >= done["stack.size"] / STACK_LEFT, done
    print(f"{board.name}: stack {done['stack.size']}, unused {done['stack.unused']}")
    assert not any(re.match("PANIC|FAULT", text) for text in board.lines), board.console()


def check_image(results, name, origins):
    with Board(name) as board:
        board.ready()
        with listen() as server:
            results.run(f"{name}: transactions come in as RFC 5424 has it | G01,G02",
                        lambda: check_transactions(board, origins, server))
            results.run(f"{name}: failed logins raise an alert, once | A14", lambda: check_alert(board, origins, server))
        results.run(f"{name}: goes on when nobody listens | Z03", lambda: check_nobody(board, origins))


def main():
    world.enter()
    results = Results(IMAGES, "firmware-syslog")
    with tempfile.TemporaryDirectory() as directory:
        origins = Origins(directory)
        for name in IMAGES:
            check_image(results, name, origins)
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()
