# SPDX-License-Identifier: MIT
"""Which cases a stack cannot have, and why. Everything else runs on every stack, with the same expectations.

NOT_APPLICABLE maps a pattern over test ids (as in fnmatch, [ stands for itself) to the stacks that it is about (the
beginning of MINIPROXY_STACK, OVER_TLS, or musl) and the reason.
"""
import fnmatch
import os
import re

HOST = ("lwip-", "mps2-", "lm3s-")  # every program over lwIP
BOARD = ("mps2-", "lm3s-")  # firmware in the emulator: tests/firmware
TINY = ("lm3s-",)           # with 64 KB of RAM
OVER_TLS = ("over-tls",)    # MINIPROXY_OVER_TLS=1: clients reach the proxy by TLS
ONE_ADDRESS = "lwIP's resolver tells one address of a family, however many a name has"
OTHER_HOST = "the tests' loopback is another host, at which nothing of the program listens"
ONE_STACK = "a process has one stack, and one instance on it"
COMMAND = "it is about the command's own start and descriptors"
NO_READERS = "an image writes to the emulator's files, and its signals are octets"
ONE_ANSWER = "lwIP's resolver does not tell why a name has no address, and does not remember it"
NO_SEARCH = "lwIP's resolver has no search list, and that of musl knows no LOCALDOMAIN"
SMALL_HEADS = "with 64 KB of RAM heads end at about 1 KB; test_limits.py has that limit"
NO_ROUTES = "with 64 KB of RAM it is built without routes"
HTTPS = "a build with TLS goes to https:// targets: test_tls.py"
SLOW = "an emulated processor is given passwords of few rounds; how logins queue is tested with the core and on the PC"

NOT_APPLICABLE = {
    "test_connections.py::test_workers": (HOST, "a process has one stack, and one instance on it"),
    "test_tls.py::test_several_workers": (HOST, ONE_STACK),
    "test_tls.py::test_a_renewed_certificate[2]": (HOST, ONE_STACK),
    "test_tls.py::test_explained_as_it_is_answered": (HOST, "the command explains the same over any stack"),
    "test_operation.py::test_port_in_use": (HOST, "two programs are two hosts, and both may listen on a port"),
    "test_operation.py::test_port_of_other_workers_in_use[*": (HOST, ONE_STACK),
    "test_operation.py::test_listeners_that_contain_each_other": (HOST, ONE_STACK),
    "test_operation.py::test_start_without_descriptors[*": (HOST, "connections of the stack take its descriptors"),
    "test_operation.py::test_texts_that_are_too_long[*": (BOARD, "the emulator's command line has no room for them"),
    "test_operation.py::test_standard_descriptors_that_are_closed[*": (HOST, COMMAND),
    "test_operation.py::test_texts_that_cannot_be_written[*": (BOARD, NO_READERS),
    "test_destinations.py::test_only_permitted_addresses_of_a_name_are_used": (HOST, ONE_ADDRESS),
    "test_destinations.py::test_refusing_addresses_are_passed_over": (HOST, ONE_ADDRESS),
    "test_destinations.py::test_missing_names_are_remembered_briefly": (HOST, ONE_ANSWER),
    "test_refusals.py::test_failing_name_server": (HOST, ONE_ANSWER),
    "test_destinations.py::test_names_are_complete": ((*HOST, "musl"), NO_SEARCH),
    "test_destinations.py::test_search_list_that_the_operator_asks_for": ((*HOST, "musl"), NO_SEARCH),
    "test_policy.py::test_hits[3]": (HOST, ONE_STACK),
    "test_logs.py::test_workers_share_their_alerts": (HOST, ONE_STACK),
    "test_logs.py::test_nobody_reads_the_log[3]": (HOST, ONE_STACK),
    "test_logs.py::test_nobody_reads_the_log[1]": (BOARD, NO_READERS),
    "test_logs.py::test_a_slow_reader_misses_nothing": (BOARD, NO_READERS),
    "test_logs.py::test_the_reader_of_a_log_leaves": (BOARD, NO_READERS),
    "test_logs.py::test_a_log_that_nobody_reads_yet": (BOARD, NO_READERS),
    "test_logs.py::test_nobody_reads_standard_error[*": (HOST, COMMAND),
    "test_logs.py::test_a_start_that_waits_ends_by_a_signal": (BOARD, NO_READERS),
    "test_maintenance.py::test_all_workers_take_it": (HOST, ONE_STACK),
    "test_page_access.py::test_all_workers_are_counted[4]": (HOST, ONE_STACK),
    "test_maintenance.py::*": (BOARD, "no signal of an image means maintenance"),
    "test_page_access.py::test_a_policy_*": (BOARD, "an image has no file system to read policies from"),
    "test_heads.py::*": (TINY, "with 64 KB of RAM it is built without the lines of heads"),
    "test_page_access.py::*": (TINY, "with 64 KB of RAM it is built without pages"),
    "test_logs.py::test_fail2ban_is_not_misled_by_lines_of_heads[*": (
        TINY, "with 64 KB of RAM it is built without the lines of heads"),
    "test_logs.py::test_alerts_are_not_about_watchers_*": (TINY, "with 64 KB of RAM it is built without pages"),
    "test_doors.py::test_diverted_*": (HOST, "lwIP diverts nothing, and knows of nothing that was"),
    "test_doors.py::test_who_was_not_diverted": (BOARD, "lwIP diverts nothing, and knows of nothing that was"),
    "test_parents.py::test_the_proxy_as_its_own_parent": (HOST, OTHER_HOST),
    "test_parents.py::test_two_proxies_that_are_parents_of_each_other": (HOST, OTHER_HOST),
    # ---- Over TLS
    "test_real_peers.py::test_wget": (OVER_TLS, "wget knows no proxy that speaks TLS"),
    "test_socks.py::test_curl[*": (OVER_TLS, "curl knows no SOCKS server that speaks TLS"),
    "test_policy.py::test_logins_on_public_addresses": (
        OVER_TLS, "passwords are not in the clear there: test_tls.py::test_logins_by_tls_need_no_consent"),
    "test_target.py::test_other_schemes_are_never_sent_in_clear[https]": (OVER_TLS, HTTPS),
    "test_target.py::test_other_schemes_are_never_sent_in_clear[HTTPS]": (OVER_TLS, HTTPS),
    "test_refusals.py::test_refusal_of_head_has_no_body[https*": (OVER_TLS, HTTPS),
    # ---- Firmware
    "test_html.py::*": (BOARD, "it is built without pages"),
    "test_policy.py::*": (BOARD, "an image has no file system to read policies from"),
    "test_swap.py::*": (BOARD, "an image has no file system to read policies from"),
    "test_login.py::test_credentials_are_nowhere_to_be_read": (
        BOARD, "the command line of the firmware is that of the emulator, which cannot blot it out"),
    "test_operation.py::test_logins_of_parents_are_nowhere_to_be_read": (
        BOARD, "the command line of the firmware is that of the emulator, which cannot blot it out"),
    "test_operation.py::test_transactions_by_parents_are_told": (TINY, NO_ROUTES),
    "test_operation.py::test_parents_in_the_common_log_format": (TINY, NO_ROUTES),
    "test_operation.py::test_a_reload_remembers_which_parents_are_down[*": (TINY, NO_ROUTES),
    "test_logs.py::test_alert_of_a_parent": (TINY, NO_ROUTES),
    "test_logs.py::test_heads_may_be_asked_for": (TINY, "with 64 KB of RAM it is built without the log of heads"),
    "test_login.py::test_rounds_if_nothing_is_said": (BOARD, SLOW),
    "test_login.py::test_verified_logins_are_not_computed_again": (BOARD, SLOW),
    "test_login.py::test_others_are_served_while_logins_are_computed": (BOARD, SLOW),
    "test_login.py::test_users_change_while_logins_are_computed": (BOARD, SLOW),
    "test_login.py::test_guesses_that_come_together": (BOARD, SLOW),
    "test_parents.py::*": (TINY, "no room for routes"),
    "test_parsing.py::test_unknown_fields_pass_both_ways": (TINY, SMALL_HEADS),
    "test_parsing.py::test_large_heads_pass_whole[*": (TINY, SMALL_HEADS),
    "test_parsing.py::test_every_head_size_around_the_limit": (TINY, SMALL_HEADS),
    "test_target.py::test_long_request_lines_work[?000]": (TINY, SMALL_HEADS),
    "test_target.py::test_long_request_lines_work[??000]": (TINY, SMALL_HEADS),
    "test_login.py::test_wrong_credentials[xxxxxxxx*": (TINY, SMALL_HEADS),
    "test_login.py::test_wrong_credentials[x:yyyyyyyy*": (TINY, SMALL_HEADS),
    "test_login.py::test_broken_credentials[Basic AAAAAAAA*": (TINY, SMALL_HEADS),
    "test_operation.py::test_targets_are_logged_whole[30000]": (TINY, SMALL_HEADS),
    "test_doors.py::test_forwarded[*Forwarded*": (TINY, "its heads have no room for that"),
    "test_doors.py::test_forwarded_needs_a_field[*": (TINY, "its heads have no room for that"),
    "test_framing.py::test_length_overflow[9999*": (("lm3s-sockets",), "a head of 1.1 KB does not fit its buffers"),
}


def reason(node, stack):
    """Why a test does not apply to a stack, or over TLS, or None."""
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
