# SPDX-License-Identifier: MIT
"""Which cases a stack cannot have, and why. Everything else runs on every stack, with the same expectations.

NOT_APPLICABLE maps a pattern over test ids (as in fnmatch, [ stands for itself) to the stacks that it is about (the
beginning of MINIPROXY_STACK) and the reason.
"""
import fnmatch
import os
import re

HOST = ("lwip-raw", "lwip-sockets")  # the desktop program over lwIP
RAW = ("lwip-raw",)
ONE_ADDRESS = "lwIP's resolver tells one address of a family, however many a name has"
ONE_ANSWER = "lwIP's resolver does not tell why a name has no address, and does not remember it"
FEW = "the raw port numbers its connections with 8 bits, which is enough for about 100 sessions"

NOT_APPLICABLE = {
    "test_connections.py::test_workers": (HOST, "a process has one stack, and one instance on it"),
    "test_operation.py::test_port_in_use": (HOST, "two programs are two hosts, and both may listen on a port"),
    "test_destinations.py::test_only_permitted_addresses_of_a_name_are_used": (HOST, ONE_ADDRESS),
    "test_destinations.py::test_refusing_addresses_are_passed_over": (HOST, ONE_ADDRESS),
    "test_destinations.py::test_both_families_are_asked_for": (RAW, "the raw port asks for IPv6 where there is no IPv4"),
    "test_destinations.py::test_silent_address_costs_no_more_than_a_head_start[127.0.0.1-::1]": (
        RAW, "the raw port asks for IPv6 where there is no IPv4"),
    "test_destinations.py::test_missing_names_are_remembered_briefly": (HOST, ONE_ANSWER),
    "test_refusals.py::test_failing_name_server": (HOST, ONE_ANSWER),
    "test_limits.py::test_two_hundred_downloads_at_once": (RAW, FEW),
    "test_real_peers.py::test_two_hundred_curls_of_nginx": (RAW, FEW),
    "test_limits.py::test_a_thousand_idle_connections": (
        HOST, "the ports have no room for so many: connections are numbered with 8 bits, or in an fd_set of libc"),
}


def reason(node, stack):
    """Why a test does not apply to a stack, or None."""
    for pattern, (stacks, why) in NOT_APPLICABLE.items():
        if any(stack.startswith(s) for s in stacks) and matches(node, pattern):
            return why
    return None


def matches(node, pattern):
    node = re.sub(r"^.*/", "", node.split("::")[0]) + node[node.index("::"):]
    return fnmatch.fnmatchcase(node, pattern.replace("[", "[[]"))


def stack_of(suite):
    """The stack that a suite's results are about: "e2e-lwip-raw" is "lwip-raw"."""
    return os.path.basename(suite).removeprefix("e2e-")
