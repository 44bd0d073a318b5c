# SPDX-License-Identifier: MIT
"""An image whose policy has parents and a group of origins (routes.policy), in the emulator; the parents are miniproxy
and microsocks of this machine. Writes build/results/firmware-routes.tsv."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
sys.path.insert(0, HERE)

import parents  # noqa: E402
import peers  # noqa: E402
import world  # noqa: E402
from board import Board, ROOT  # noqa: E402

OFFICE, SPARE, MEMBERS, LOGIN = 3201, 3202, (3203, 3204), "board:sesame"


class Client(peers.Wire):
    def __init__(self, board):
        super().__init__(peers.socket.create_connection(("127.0.0.1", board.port), timeout=peers.PATIENCE))

    def ask(self, method, target, **kind):
        self.send(peers.request(method, target, **kind))
        return peers.read_response(self, method)


def tunnel(board, origin):
    client = Client(board)
    data = os.urandom(20000)
    assert client.ask("CONNECT", origin).status == 200
    client.send(data)
    assert client.exactly(len(data)) == data
    client.close()


def echo(peer):
    while data := peer.some():
        peer.send(data)


def nodes(message):
    return [part.split()[1] for value in message.all("Via") for part in value.split(b",")]



def by_the_first(board, office, spare, origin, echoes):
    del spare
    url = f"http://10.0.2.2:{origin.port}/"
    client = Client(board)
    for body in (b"", b"posted"):
        assert client.ask("POST" if body else "GET", url, body=body or None).status == 200
        message = origin.requests[-1]
        assert message.body == body and "Proxy-Authorization" not in message
        assert nodes(message)[1:] == [office.via.encode()], message.fields
    assert client.ask("GET", f"http://far.test:{origin.port}/").status == 200
    tunnel(board, f"10.0.2.2:{echoes.port}")


def by_the_second(board, office, spare, origin, echoes):
    del spare
    office.kill()
    for _ in range(4):
        assert Client(board).ask("GET", f"http://10.0.2.2:{origin.port}/").status == 200
        assert len(nodes(origin.requests[-1])) == 1
        tunnel(board, f"10.0.2.2:{echoes.port}")


def by_none(board, office, spare, origin, echoes):
    del office
    spare.kill()
    for method, target in (("GET", f"http://10.0.2.2:{origin.port}/"), ("CONNECT", f"10.0.2.2:{echoes.port}")):
        message = Client(board).ask(method, target)
        assert message.status == 503 and b"no_parent" in message.body and "Retry-After" in message


def back_by_its_checks(board, office, spare, origin, echoes):
    office.revive()
    before = len(origin.requests)
    deadline = peers.time.monotonic() + 3 * peers.PATIENCE
    while Client(board).ask("GET", f"http://10.0.2.2:{origin.port}/").status != 200:
        assert peers.time.monotonic() < deadline, board.console()[-2000:]
        peers.time.sleep(0.2)
    assert nodes(origin.requests[before])[1:] == [office.via.encode()]
    spare.revive()
    tunnel(board, f"10.0.2.2:{echoes.port}")


def by_a_group(board, office, spare, origin, echoes):
    """In turn, and without the one that is not there."""
    del office, spare, origin, echoes
    members = [peers.Origin(port=port) for port in MEMBERS]
    for _ in range(4):
        assert Client(board).ask("GET", "http://app.test/x").status == 200
    assert [[m.target for m in member.requests] for member in members] == [[b"/x"] * 2] * 2
    assert {m.get("Host") for member in members for m in member.requests} == {b"app.test"}
    members[0].stop()
    for _ in range(4):
        assert Client(board).ask("GET", "http://app.test/y").status == 200
    assert len(members[1].requests) == 6


def directly(board, office, spare, origin, echoes):
    del office, spare, echoes
    assert Client(board).ask("GET", f"http://near.test:{origin.port}/").status == 200
    assert len(nodes(origin.requests[-1])) == 1


def leaves_stack(board, *_):
    """As tests/firmware/boot.py wants of all images."""
    done = board.counters()
    print(f"stack {done['stack.size'] - done['stack.unused']} of {done['stack.size']} used")
    assert done["stack.unused"] >= done["stack.size"] / 4


def main():
    file = open(os.path.join(ROOT, os.environ.get("MINIPROXY_RESULTS", "build/results"), "firmware-routes.tsv"), "w",
                encoding="utf-8")
    if not world.enter() or shutil.which("microsocks") is None:
        file.write("skip\tfirmware-routes\tneeds a network namespace and microsocks\t-\n")
        return 0
    subprocess.run(["ip", "addr", "add", "10.0.2.2/32", "dev", "lo"], check=True)  # where the parent finds far.test
    world.Names().zone.update({"near.test": ["10.0.2.2"], "far.test": ["10.0.2.2"]})
    failed = False
    with tempfile.TemporaryDirectory() as directory, Board("lm3s6965-raw-routes") as board:
        office = parents.Miniproxy(directory, LOGIN, port=OFFICE)
        spare = parents.Microsocks(directory, port=SPARE)
        origin, echoes = (peers.Origin(script, host="0.0.0.0") for script in (None, echo))
        board.ready()
        for case in (by_the_first, by_the_second, by_none, back_by_its_checks, by_a_group, directly, leaves_stack):
            try:
                case(board, office, spare, origin, echoes)
                verdict = "pass"
            except Exception as error:  # pylint: disable=broad-except
                verdict, failed = "fail", True
                print(f"E   {case.__name__}: {error!r}\n{board.console()[-2000:]}")
            name = case.__name__.replace("_", " ")
            file.write(f"{verdict}\tfirmware-routes\tan image with parents: {name}\tK11,G05\n")
        office.stop()
        spare.stop()
    file.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
