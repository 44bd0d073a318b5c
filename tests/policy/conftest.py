# SPDX-License-Identifier: MIT
"""Fixtures, and the results of the suite."""
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("MINIPROXY_BIN", os.path.join(ROOT, "build", "miniproxy"))
BUILD = os.path.join(ROOT, "build", "policy")
SUITE = os.environ.get("MINIPROXY_SUITE", "policy")
results = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        results[item.nodeid] = "fail"
    elif report.skipped:
        results[item.nodeid] = "skip"
    else:
        results.setdefault(item.nodeid, "pass")


def pytest_sessionfinish():
    directory = os.path.join(ROOT, "build", "results")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, SUITE + ".tsv"), "w", encoding="utf-8") as f:
        for name, outcome in results.items():
            clean = name.encode("unicode_escape").decode("ascii").replace("\\t", " ")
            f.write(f"{outcome}\t{SUITE}\t{clean}\t-\n")


class Policies:
    """Files in a directory of the test's own, and the command run there."""

    def __init__(self, directory):
        self.directory = directory

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text.encode() if isinstance(text, str) else text)
        return name

    def run(self, *words, program=BINARY, stdin=None):
        return subprocess.run([program, *words], cwd=self.directory, input=stdin, capture_output=True, timeout=60,
                              check=False)

    def errors(self, text, name="p.policy"):
        """The lines that `check` says about a text with errors."""
        done = self.run("policy", "check", self.write(name, text))
        assert done.returncode == 2 and done.stdout == b"", (done.returncode, done.stdout, done.stderr)
        return done.stderr.decode().splitlines()

    def good(self, text, name="p.policy"):
        done = self.run("policy", "check", self.write(name, text))
        assert done.returncode == 0 and done.stderr == b"", done.stderr.decode()
        return done.stdout.decode()

    def decide(self, text, *requests, name="p.policy"):
        """What the tables of a text decide: ("allowed", "denied" or "login", line) each. A request is a dictionary."""
        columns = []
        for request in requests:
            r = {"client": "192.0.2.1", "user": "-", "method": "GET", "host": "www.example", "address": "8.8.8.8",
                 "port": 80, "path": "/", "agent": "-", "type": "text/html", "minute": 0, **request}
            columns.append("\t".join(str(r[c]) for c in ("client", "user", "method", "host", "address", "port", "path",
                                                         "agent", "type", "minute")))
        done = self.run(self.write(name, text), program=os.path.join(BUILD, "evaluate"),
                        stdin="".join(c + "\n" for c in columns).encode())
        assert done.returncode == 0, done.stderr.decode()
        answers = []
        for line in done.stdout.decode().splitlines():
            verdict, _, place = line.partition("\t")[0].partition(" ")
            answers.append((verdict, int(place.rsplit(":", 1)[1]) if place else None))
        assert len(answers) == len(requests)
        return answers

    def allows(self, text, **request):
        return self.decide(text, request)[0][0] == "allowed"


@pytest.fixture
def policies(tmp_path):
    return Policies(str(tmp_path))
