# SPDX-License-Identifier: MIT
"""Parents, groups of origins, routes and limits in the policy language."""
import re

import pytest


def tables(policies, text, what):
    """The lines of a table of C that a text becomes: without places, braces and commas at their ends."""
    policies.write("p.policy", text)
    done = policies.run("policy", "compile", "p.policy")
    assert done.returncode == 0, done.stderr.decode()
    found = re.search(rb"policy_" + what.encode() + rb"\[\] = \{\n(.*?)\n\};", done.stdout, re.S)
    return [line.strip()[1:-2] for line in found[1].decode().splitlines() if not line.strip().startswith("//")]


def hop(policies, statement):
    [line] = tables(policies, f"{statement}\nroute via {statement.split()[1]}\nallow\n", "hops")
    return line


PARENTS = [
    ("http://p.example", '.host = "p.example", .port = 3128, .kind = MINIPROXY_HOP_PROXY'),
    ("http://P.Example.:80/", '.host = "p.example", .port = 80, .kind = MINIPROXY_HOP_PROXY'),
    ('"http://anna:secret@10.0.0.1:1"',
     '.host = "10.0.0.1", .login = "anna:secret", .port = 1, .kind = MINIPROXY_HOP_PROXY'),
    ("http://a%40b:%3a%2F%25%c3%A4@p", r'.host = "p", .login = "a@b::/%\303\244", .port = 3128, .kind = MINIPROXY_HOP_PROXY'),
    ("http://a:b:c@[fd00::1]", '.host = "fd00::1", .login = "a:b:c", .port = 3128, .kind = MINIPROXY_HOP_PROXY'),
    ('"http://a=b:c#,d@p"', None),  # an unescaped # ends what a URL is
    ('"http://a=b:c,@d@p"', '.host = "p", .login = "a=b:c,@d", .port = 3128, .kind = MINIPROXY_HOP_PROXY'),
    ("http://a:@p", '.host = "p", .login = "a:", .port = 3128, .kind = MINIPROXY_HOP_PROXY'),
    ("socks5://[::1]:65535", '.host = "::1", .port = 65535, .kind = MINIPROXY_HOP_SOCKS5'),
    ("socks5://a:b@p.example", '.host = "p.example", .login = "a:b", .port = 1080, .kind = MINIPROXY_HOP_SOCKS5'),
    ("http://p check every 10s", '.host = "p", .port = 3128, .check_s = 10, .kind = MINIPROXY_HOP_PROXY'),
    ('http://p fall 3 check "http://x.example/y?z" every 1 s rise 255',
     '.host = "p", .check = "http://x.example/y\\?z", .port = 3128, .check_s = 1, .kind = MINIPROXY_HOP_PROXY, '
     ".rise = 255, .fall = 3"),
    ("http://p check http://x:81/ every 65535s",
     '.host = "p", .check = "http://x:81/", .port = 3128, .check_s = 65535, .kind = MINIPROXY_HOP_PROXY'),
]


@pytest.mark.parametrize("text,want", PARENTS, ids=[t for t, _ in PARENTS])
def test_parents(policies, text, want):
    if want is None:
        assert "expected / ? and # of a login as %2F" in policies.errors(f"parent one = {text}\n")[0]
    else:
        assert hop(policies, f"parent one = {text}") == want


def test_groups_of_origins(policies):
    lines = tables(policies, 'origins shop = 10.0.0.1:8080, [fd00::1]:81,\n  Box.example check every 5s fall 1\nroute via shop\n',
                   "hops")
    assert lines == [f".host = {at}, .check_s = 5, .kind = MINIPROXY_HOP_ORIGIN, .fall = 1" for at in (
        '"10.0.0.1", .port = 8080', '"fd00::1", .port = 81', '"box.example", .port = 80')]


def test_hops_of_routes_are_neighbours(policies):
    """Parents stand in the tables once, as far as their order in the routes lets them."""
    text = "".join(f"parent {p} = http://{p}\n" for p in "abcd")
    text += "route from 10.0.0.1 via b, c\nroute from 10.0.0.2 via a, b\nroute from 10.0.0.3 via c\nroute via d, a\n"
    hops = [re.search('"(.)"', line)[1] for line in tables(policies, text, "hops")]
    routes = [[int(n) for n in re.search(r"count = (\d+)(?:, \.first = (\d+))?", line).groups(default=0)]
              for line in tables(policies, text, "routes")]
    assert ["".join(hops[first:first + count]) for count, first in routes] == ["bc", "ab", "c", "da"]
    assert sorted(hops) in (list("aabbcd"), list("abbcd"), list("aabcd"))


LIMITS = [
    ("each client down 8 bit/s", ".share = MINIPROXY_EACH_CLIENT, .down_per_s = 1"),
    ("each user up 1kbit/s", ".share = MINIPROXY_EACH_USER, .up_per_s = 125"),
    ("all together down 1.5 Mbit/s up 2Gbit/s",
     ".share = MINIPROXY_ALL_TOGETHER, .down_per_s = 187500, .up_per_s = 250000000"),
    ("each client down 1 B/s up 1 kB/s", ".share = MINIPROXY_EACH_CLIENT, .down_per_s = 1, .up_per_s = 1000"),
    ("each client down 1 KiB/s up 0.5 MiB/s", ".share = MINIPROXY_EACH_CLIENT, .down_per_s = 1024, .up_per_s = 524288"),
    ("each client down 4294967295 B/s up 4 GB/s",
     ".share = MINIPROXY_EACH_CLIENT, .down_per_s = 4294967295, .up_per_s = 4000000000"),
    ("each client burst 64 KiB up 1 MB/s", ".share = MINIPROXY_EACH_CLIENT, .up_per_s = 1000000, .burst = 65536"),
    ("each client requests 120/min burst 9 requests",
     ".share = MINIPROXY_EACH_CLIENT, .requests_a_minute = 120, .request_burst = 9"),
    ("each client requests 2 /s at once 65535",
     ".share = MINIPROXY_EACH_CLIENT, .at_once = 65535, .requests_a_minute = 120"),
    ("each client requests 65535/min burst 1 requests burst 1 B down 1B/s",
     ".share = MINIPROXY_EACH_CLIENT, .requests_a_minute = 65535, .request_burst = 1, .down_per_s = 1, .burst = 1"),
]


@pytest.mark.parametrize("text,want", LIMITS, ids=[t for t, _ in LIMITS])
def test_limits(policies, text, want):
    assert tables(policies, f"limit {text}\n", "limits") == [want]


P = "parent p = http://a\n"
O = "origins o = 10.0.0.1\n"
ERRORS = [
    ("parent = http://a", 8, r"expected a name that is no word of the language: .*, found \"=\""),
    ("parent Via = http://a", 8, r"expected a name that is no word"),
    ("parent via = http://a", 8, r"expected a name that is no word"),
    ("net directly = 10.0.0.1", 5, r"expected a name for the set that is no word"),
    ("parent p http://a", 10, r"expected = after the name of the parent, found \"http://a\""),
    ("origins o 10.0.0.1", 11, r"expected = after the name of the group of origins"),
    (P + "origins p = 10.0.0.1", 9, r'expected another name, "p" is taken at p\.policy:1'),
    ("parent p =", 11, r"expected the parent's URL, as http://proxy.example:3128"),
    ("parent p = proxy.example:3128", 12, r"expected http://, https:// or socks5://"),
    ("parent p = socks4://a", 12, r"expected http://, https:// or socks5://"),
    ("parent p = http://", 12, r"expected a host name of letters"),
    ("parent p = http://.a", 12, r"expected a host name of letters"),
    ("parent p = http://a_b.c/d", 12, r"expected nothing behind host and port of a parent"),
    ("parent p = http://a:0", 12, r"expected a port of 1 to 65535"),
    ("parent p = http://a:65536", 12, r"expected a port of 1 to 65535"),
    ("parent p = http://a:", 12, r"expected a port of 1 to 65535"),
    ("parent p = http://fd00::1", 12, r"expected an IPv6 address in brackets"),
    ("parent p = http://[fd00::1", 12, r"expected \] behind an IPv6 address"),
    ("parent p = http://[10.0.0.1]", 12, r"expected brackets around IPv6 addresses, and no others"),
    ("parent p = http://[a.b]", 12, r"expected an IPv6 address in the brackets"),
    ("parent p = http://300.1.1.1", 12, r"expected a host name of letters"),
    ("parent p = http://anna@a", 12, r"expected NAME:PASSWORD before the @$"),
    ("parent p = http://:secret@a", 12, r"expected a name before the colon"),
    ("parent p = socks5://anna:@a", 12, r"expected a login with a name and a password, for SOCKS5"),
    ("parent p = http://a%3ab:c@a", 12, r"expected a name without colon"),
    ("parent p = http://a%4:c@a", 12, r"expected two hexadecimal digits"),
    ("parent p = http://a:%00@a", 12, r"expected a login without control characters"),
    ("parent p = http://a:" + "b" * 254 + "@a", 12, r"expected a login of at most 255 octets"),
    ("parent p = http://a check", 26, r"expected \"every\" and seconds, as every 10s, or the URL"),
    ("parent p = http://a check 10s", 27, r"expected what a check asks for"),
    ("parent p = http://a check every", 32, r"expected seconds from 1 to 65535"),
    ("parent p = http://a check every 0s", 33, r"expected seconds from 1 to 65535"),
    ("parent p = http://a check every 65536s", 33, r"expected seconds from 1 to 65535"),
    ("parent p = http://a check every 10", 33, r"expected seconds from 1 to 65535"),
    ("parent p = http://a check every 10min", 33, r"expected seconds from 1 to 65535"),
    ('parent p = http://a check "http://x/"', 38, r"expected \"every\" and seconds, as every 10s"),
    ('parent p = http://a check "https://x/" every 1s', 27, r"expected a check by http://"),
    ('parent p = http://a check "http://x" every 1s', 27, r"expected what a check asks for as"),
    ('parent p = http://a check "http:///" every 1s', 27, r"expected a host name"),
    ('parent p = http://a check "http://x/ y" every 1s', 27, r"expected the URL of a check as it is sent"),
    ('parent p = http://a check "http://x/' + "y" * 1000 + '" every 1s', 27, r"expected a URL of at most 1000 octets"),
    ("parent p = http://a check every 1s check every 1s", 36, r"expected rise, fall or the end of the line"),
    ("parent p = http://a rise 2", 27, r"expected \"check\" with \"rise\""),
    ("parent p = http://a fall 0", 26, r"expected a number of results in a row, 1 to 255"),
    ("parent p = http://a fall 256", 26, r"expected a number of results in a row, 1 to 255"),
    ("parent p = http://a fall 1 fall 2", 28, r"expected it only once"),
    ("parent p = http://a, http://b", 20, r"expected check, rise, fall or the end of the line"),
    ("origins o = http://a", 13, r"expected HOST:PORT of an origin, as 10.0.0.1:8080"),
    ("origins o = a b", 15, r"expected a comma, check, rise, fall or the end of the line"),
    ("origins o = " + ", ".join(["10.0.0.1"] * 17), 173, r"expected at most 16 origins in a group"),
    ("route", 6, r"expected \"via\" and names of parents"),
    ("route hosts a.b", 16, r"expected \"via\" and names of parents"),
    ("route to 10.0.0.0/8 dirctly", 21, r"expected from, users, hosts, to, via or directly"),
    ("route via", 10, r"expected the name of a parent or of a group of origins"),
    ("route via nowhere", 11, r"expected a `parent` or a group of `origins` of this policy, found \"nowhere\""),
    ("parent office = http://a\nroute via ofice", 11, r'did you mean "office"'),
    (P + "route via p, p", 14, r'expected "p" only once in a route'),
    (P + O + "route via p, o", 14, r'expected parents alone or groups of origins alone behind via: "p" is a parent, '
     r'"o" is a group of origins'),
    ("".join(f"parent p{i} = http://a{i}\n" for i in range(17)) + "route via " + ", ".join(f"p{i}" for i in range(17)), 81,
     r"expected at most 16 parents or origins in a route"),
    (O + "route via o resolve", 11, r'expected no "resolve" with a group of origins'),
    (P + "route via p directly", 13, r"expected a comma, from, users, hosts, to, in turn, resolve or the end"),
    (P + "route directly via p", 16, r"expected from, users, hosts, to or the end of the line"),
    ("route directly resolve", 16, r"expected from, users, hosts, to or the end of the line"),
    (P + "route via p in order", 16, r'expected "turn" after in'),
    (P + "route ports 80 via p", 7, r"expected one of from, users, hosts and to: a route asks for nothing else"),
    (P + "route literals via p", 7, r"expected one of from, users, hosts and to"),
    (P + "route from 10.0.0.1 from 10.0.0.2 via p", 21, r'expected "from" only once in a route'),
    (P + "route from nobody via p", 12, r"expected a network"),
    ("limit", 6, r"expected each client, each user or all together"),
    ("limit each", 11, r"expected each client, each user or all together"),
    ("limit all", 10, r"expected each client, each user or all together"),
    ("limit each client", 18, r"expected what is limited: down, up, requests or at once"),
    ("limit each client from 10.0.0.1", 32, r"expected what is limited"),
    ("limit each client hosts a.b", 19, r"expected from, users, down, up, burst, requests, at once or the end"),
    ("limit each client down", 23, r"expected a rate as 500 kbit/s"),
    ("limit each client down 1", 24, r"expected a rate as 500 kbit/s"),
    ("limit each client down 1 KB/s", 24, r"expected a rate as 500 kbit/s"),
    ("limit each client down 1 mbit/s", 24, r"expected a rate as 500 kbit/s"),
    ("limit each client down 0 B/s", 24, r"expected a rate .*of at least 1 B/s"),
    ("limit each client down 7 bit/s", 24, r"expected a rate .*of at least 1 B/s"),
    ("limit each client down 4294967296 B/s", 24, r"expected a rate .*less than 4.3 GB/s"),
    ("limit each client down 9999999999999 B/s", 24, r"expected a rate"),
    ("limit each client down 999999999999 GB/s", 24, r"expected a rate"),
    ("limit each client down 1.2345 MB/s", 24, r"expected a rate"),
    ("limit each client down 1. MB/s", 24, r"expected a rate"),
    ("limit each client down 1 B/s down 2 B/s", 30, r'expected "down" only once in a limit'),
    ("limit each client down 1 B/s burst 64 KB", 36, r"expected octets as 64 kB or 64 KiB, or a number of requests"),
    ("limit each client down 1 B/s burst 2 requests", 46, r"expected requests with a burst of requests"),
    ("limit each client requests 1/s burst 2 kB", 42, r"expected down or up with a burst of octets"),
    ("limit each client requests 1", 28, r"expected a number of requests as 120/min or 2/s"),
    ("limit each client requests 65536/min", 28, r"expected a number of requests as 120/min .*1/min to 65535/min"),
    ("limit each client requests 1093/s", 28, r"expected a number of requests"),
    ("limit each client at 1", 22, r'expected "once" after at'),
    ("limit each client at once 0", 27, r"expected a number of transactions at once, 1 to 65535"),
    ("limit each client at once 65536", 27, r"expected a number of transactions at once"),
    ("limit each client users nobody at once 1", 25, r"expected a user or a group of this policy"),
    ("rout via p", 1, r'expected "route"'),
]


@pytest.mark.parametrize("text,column,said", ERRORS, ids=[repr(e[0][-50:]) for e in ERRORS])
def test_errors_have_their_place(policies, text, column, said):
    lines = policies.errors(text)
    assert len(lines) == 1, lines
    place, message = lines[0].split(": ", 1)
    assert place == f"p.policy:{text.count(chr(10)) + 1}:{column}", lines
    assert message.startswith("expected ") and re.search(said, message), lines


def test_tls_to_a_parent_needs_a_build_with_it(policies):
    lines = policies.errors("parent p = https://a:secret@b\n")
    assert lines == ["p.policy:1:12: expected a miniproxy that is built with TLS (\"make tls\" builds one)"]


@pytest.mark.parametrize("url", ["http://anna:my-secret@[a", "ftp://anna:my-secret@a", "http://anna:my-secret@a/b",
                                 "http://anna:my-secret%zz@a", "http://anna:my-secret@a:99999", "socks5://:my-secret@a"])
def test_logins_are_not_shown(policies, url):
    assert "my-secret" not in policies.errors(f"parent p = {url}\n")[0]
    assert "my-secret" not in policies.errors(f'parent p = "{url}"\n')[0]


def test_limits_of_ways(policies):
    for statement, what in (("parent p{} = http://a", "parents and groups of origins"), ("route directly", "routes"),
                            ("limit each user at once 1", "limits")):
        text = "".join(statement.format(i) + "\n" for i in range(1001))
        policies.good(text[:text.rindex("\n", 0, -1) + 1])
        assert f"expected at most 1000 {what}" in policies.errors(text)[0]


def test_sets_are_shared_with_rules(policies):
    policies.write("p.policy", "net lab = 10.0.0.0/8\nuser a = clear \"b\"\nallow from lab users a\n"
                   "route from lab to 10.0.0.0/8 directly\nlimit each client from lab users a at once 1\n")
    text = policies.run("policy", "compile", "p.policy").stdout.decode()
    assert text.count("struct miniproxy_nets policy_nets") == 1 and text.count("group bit") == 1
    assert text.count(".clients = &policy_nets_0") == 3 and text.count(".users = 0x0001") == 2


def test_check_says_what_there_is(policies):
    text = policies.good("parent p = http://a:b@c.d check \"http://e/\" every 1s\nroute via p\nroute directly\n"
                         "limit each client at once 1\nallow\n")
    assert "p.policy: 1 rules, 1 in the tables; 0 users; 0 host names; 2 routes; 1 limits" in text
    rows = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if " bytes" in line}
    assert rows["routes"] == ["2", "40"] and rows["hops"] == ["1", str(20 + 4 + 4 + 10)]
    assert rows["limits"] == ["1", "28"] and rows["health"] == ["1", "20"]
    assert rows["all"][1] == str(12 + 24 + 16 + 40 + 38 + 8 + 28) or rows["all"][0] == str(12 + 24 + 16 + 40 + 38 + 8 + 28)
