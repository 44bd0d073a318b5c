# SPDX-License-Identifier: MIT
"""What becomes of requests when their parents die: tinyproxy, squid and miniproxy are killed and revived one after
another under GETs of 200 octets and of 1 MB and tunnels of nine clients, in order and in turn, with health checks and
without. Printed: how long it took until the death was noticed, and until the revived one was used again; how many
requests there were, how many of them failed before the death was noticed and after, and how many responses and tunnels
were cut because they had begun to come through the parent that was killed. On loopback.

    parents.py [ROUNDS]     needs build/miniproxy, tinyproxy and squid; ROUNDS (default 2) of five deaths each
"""
import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import comings_and_goings as play  # noqa: E402
import parents  # noqa: E402
import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import world  # noqa: E402


def seconds(values):
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:5.2f} {ordered[-1]:5.2f}" if ordered else "    -     -"


def once(directory, contents, echo, in_turn, checks, rounds):
    """One line of the table."""
    servers = [parents.KINDS[kind](directory, None, None) for kind in ("tinyproxy", "squid", "miniproxy")]
    path = os.path.join(directory, "ways")
    with open(path, "w", encoding="utf-8") as f:
        f.write(play.policy(servers, in_turn, checks))
    front = proxies.Proxy(directory, "--name", "front", "--policy", path)
    traffic = play.Traffic(front, contents, echo)
    story = play.Play(front, servers, traffic, in_turn, checks)
    for _ in range(rounds):
        story.run()
    traffic.end()
    assert not traffic.errors, traffic.errors
    t, asked = story.times, sum(traffic.counts.values())
    print(f"{'in turn ' if in_turn else 'in order'}  {'every 1 s' if checks else 'none     '}  {seconds(t.down)}  "
          f"{seconds(t.up)}  {asked:8d}  {t.failed_before:6d} {t.failed_after:6d}  {len(traffic.cut):4d}")
    front.stop()
    for server in servers:
        server.stop()


def main(rounds=2):
    world.enter()
    contents, echo = peers.Origin(play.contents), peers.Origin(play.echo)
    print("parents   checks     noticed, s   back, s      requests  failed before and after   cut\n"
          "                     (median, worst)                     it was noticed")
    for in_turn in (False, True):
        for checks in (False, True):
            with tempfile.TemporaryDirectory() as directory:
                os.chmod(directory, 0o755)
                once(directory, contents, echo, in_turn, checks, int(rounds))


if __name__ == "__main__":
    main(*sys.argv[1:])
