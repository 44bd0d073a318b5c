# SPDX-License-Identifier: MIT
"""Fixtures, results by requirement, and the rule that no test may hide a failure."""
import os
import signal
import sys

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import not_applicable  # noqa: E402
import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import secure  # noqa: E402
import world  # noqa: E402

world.enter()

collect_ignore = [] if os.environ.get("MINIPROXY_TLS") else ["test_tls.py"]  # those builds alone have it
collect_ignore += [] if os.environ.get("MINIPROXY_PARENTS") else ["test_real_parents.py"]  # and this one suite that
collect_ignore += [] if os.environ.get("MINIPROXY_CLIENTS") else ["test_clients.py"]
SUITE = os.environ.get("MINIPROXY_SUITE", "e2e-posix")
PART = os.environ.get("MINIPROXY_PART", "")  # when several processes share the work
SECONDS_EACH = int(os.environ.get("MINIPROXY_TEST_SECONDS", "90"))
results = {}
left_out = {}  # reason -> tests that do not apply
KINDS = [world.STACK] * bool(world.STACK) + ["over-tls"] * secure.OVER_TLS + ["musl"] * (
    "/musl/" in proxies.BINARY)  # to what

# Tests live in real time on a machine that others use too, and may starve longer than any patience, an emulator more so.
# A few cases of each run get a second try; its summary, and that of all suites, say which, and its log how the first
# one failed.
SECOND_TRIES = 5 if world.is_board else 2
tried_again = {}  # node id -> report of the first try


def known_rules():
    with open(os.path.join(proxies.ROOT, "tests", "requirements.tsv"), encoding="utf-8") as f:
        return {line.split("\t")[0] for line in f if not line.startswith("#")}


def rules_of(item):
    return sorted({rule for mark in item.iter_markers("req") for rule in mark.args})


def leave_out(config, items):
    """Deselect what does not apply to the stack under test; nothing runs where the stack cannot be connected."""
    kept = []
    for item in items:
        why = world.why_no_cables if world.STACK and not world.cables else next(
            filter(None, (not_applicable.reason(item.nodeid, kind) for kind in KINDS)), None)
        if why:
            left_out.setdefault(why, []).append(item)
        else:
            kept.append(item)
    config.hook.pytest_deselected(items=[item for some in left_out.values() for item in some])
    items[:] = kept


def pytest_terminal_summary(terminalreporter):
    for name, octets in sorted(proxies.stack_left.items()):
        terminalreporter.write_line(f"stack of {world.STACK}, {name}: {octets} octets were never used")
    for name, report in tried_again.items():
        terminalreporter.write_line(f"PASSED ONLY AT THE SECOND TRY: {name}\n{report.longreprtext}")
    for why, items in left_out.items():
        terminalreporter.write_line(f"not applicable to {' and '.join(KINDS)}: {why}:")
        for item in items[:20]:
            terminalreporter.write_line(f"    {item.nodeid}")
        if len(items) > 20:
            terminalreporter.write_line(f"    and {len(items) - 20} more")


def pytest_collection_modifyitems(config, items):
    leave_out(config, items)
    known = known_rules()
    for item in items:
        if item.get_closest_marker("xfail"):
            raise pytest.UsageError(f"{item.nodeid}: xfail hides a failure")
        unknown = set(rules_of(item)) - known
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: unknown requirement {unknown}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if hasattr(report, "wasxfail"):
        del report.wasxfail
        report.outcome, report.longrepr = "failed", "xfail hides a failure"
    known = results.setdefault(item.nodeid, ["pass", rules_of(item)])
    if report.failed:
        known[0] = "fail"
    elif report.skipped and known[0] == "pass":
        known[0] = "skip"


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """No test runs for ever, whatever hangs."""
    def late(*_):
        raise TimeoutError(f"{item.nodeid} took longer than {SECONDS_EACH} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_EACH)
    yield
    signal.alarm(0)


class SecondTry:
    @staticmethod
    def pytest_runtest_protocol(item, nextitem):
        return run_twice(item, nextitem)


def pytest_configure(config):
    config.pluginmanager.register(SecondTry())


def run_twice(item, nextitem):
    if len(tried_again) >= SECOND_TRIES:
        return None
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    if failed:
        results.pop(item.nodeid)
        item._initrequest()
        signal.alarm(SECONDS_EACH)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            tried_again[item.nodeid] = failed[0]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session):
    if world.STACK and not world.cables:
        results[world.why_no_cables] = "skip", []
        session.exitstatus = pytest.ExitCode.OK
    directory = os.path.join(proxies.ROOT, "build", "results")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, SUITE + PART + ".tsv"), "w", encoding="utf-8") as f:
        for name, (outcome, rules) in results.items():
            clean = name.encode("unicode_escape").decode("ascii").replace("\\t", " ")
            f.write(f"{outcome}\t{SUITE}\t{clean}\t{','.join(rules) or '-'}\n")


class Shared:
    """One proxy for all tests that need no options of their own. A test that brings it down
    fails; the next gets a new one."""

    def __init__(self, directory):
        self.directory, self.proxy = directory, None

    def get(self):
        if self.proxy is None or self.proxy.process.poll() is not None:
            self.proxy = proxies.Proxy(self.directory, *proxies.OPEN)
        return self.proxy

    def end_of_test(self):
        for client in self.proxy.clients:
            client.close()
        self.proxy.clients.clear()
        assert self.proxy.process.poll() is None, f"the proxy has ended:\n{self.proxy.stderr()}"


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    shared = Shared(str(tmp_path_factory.mktemp("shared")))
    yield shared
    if shared.proxy is not None:
        shared.proxy.stop()


@pytest.fixture
def proxy(shared):
    yield shared.get()
    shared.end_of_test()


@pytest.fixture
def start(tmp_path):
    """start(option, …) runs a proxy for this test; each must end cleanly when its clients have gone."""
    running = []

    def run(*options, **kind):
        running.append(proxies.Proxy(str(tmp_path), *options, **kind))
        return running[-1]

    yield run
    errors = []
    for one in running:
        try:
            one.stop()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def origin():
    """origin(script, …) starts a scripted server for this test."""
    running = []

    def run(script=None, **kind):
        running.append(peers.Origin(script, **kind))
        return running[-1]

    yield run
    errors = []
    for one in running:
        one.stop()
        errors += one.errors
    if errors:
        raise errors[0]


@pytest.fixture(scope="session")
def dns_server():
    if not world.isolated:
        return None
    return world.Names()


@pytest.fixture
def names(dns_server):
    if dns_server is None:
        pytest.skip("NO NAME SERVER: this system lets the tests have no network namespace of their own")
    dns_server.zone.clear()
    dns_server.queries.clear()
    return dns_server


@pytest.fixture
def isolated():
    if not world.isolated:
        pytest.skip("NOT ISOLATED: this system lets the tests have no network namespace of their own")


@pytest.fixture
def ipv6():
    import socket
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("NO IPV6: ::1 cannot be bound on this system")


@pytest.fixture
def small(start):
    """start(), with the build of few sessions and buffers."""
    if not os.path.exists(proxies.SMALL):
        pytest.fail(f"{proxies.SMALL} is missing: build it, or name it in MINIPROXY_SMALL_BIN")
    return lambda *options, **kind: start(*options, binary=proxies.SMALL, **kind)
