# SPDX-License-Identifier: MIT
"""The policy language: what statements mean, and what is said about those that mean nothing."""
import os
import random
import re

import pytest

from conftest import BUILD, ROOT

SHA256 = "sha256:" + "0123456789abcdef" + ":" + "ab" * 32
PBKDF2 = "pbkdf2:1000:" + "0123456789abcdef" + ":" + "cd" * 32
MON, SAT, SUN = 0, 5 * 1440, 6 * 1440


# ---- Clauses: text, requests that a rule covers, requests that it does not

COVERS = {
    "nothing": ("", [{}], []),
    "from": ("from 192.168.1.0/24, fd00::/8, 10.0.0.7",
             [{"client": c} for c in ("192.168.1.0", "192.168.1.255", "fdff::1", "10.0.0.7", "::ffff:10.0.0.7")],
             [{"client": c} for c in ("192.168.2.0", "192.168.0.255", "fe00::1", "10.0.0.6", "10.0.0.8")]),
    "from any": ("from any", [{}, {"client": "::1"}], []),
    "from private": ("from private", [{"client": c} for c in ("10.1.1.1", "172.31.0.1", "192.168.3.3", "fc00::1")],
                     [{"client": c} for c in ("127.0.0.1", "172.32.0.1", "8.8.8.8", "fe80::1")]),
    "from loopback": ("from loopback", [{"client": c} for c in ("127.9.9.9", "::1")], [{"client": "::2"}, {}]),
    "from special": ("from special", [{"client": c} for c in ("169.254.1.1", "fe80::1", "10.0.0.1", "2001:db8::1")],
                     [{"client": c} for c in ("1.1.1.1", "2606:4700::1")]),
    "from mapped": ("from ::ffff:10.1.0.0/112", [{"client": c} for c in ("10.1.2.3", "::ffff:10.1.2.3")],
                    [{"client": "10.2.0.1"}]),
    "to": ("to 8.8.0.0/16, 2606:4700::/32", [{"address": a} for a in ("8.8.1.1", "2606:4700::1", "64:ff9b::808:101")],
           [{"address": a} for a in ("8.9.0.0", "2606:4701::1")]),
    "hosts": ("hosts one.example, .all.example, \"single\"",
              [{"host": h} for h in ("one.example", "ONE.Example.", "all.example", "x.all.example", "y.x.ALL.example",
                                     "single")],
              [{"host": h} for h in ("x.one.example", "ball.example", "example", "single.example", "-")]),
    "hosts in upper case": ("hosts One.EXAMPLE, .XN--Bcher-kva.example.",
                            [{"host": "one.example"}, {"host": "a.xn--bcher-kva.example"}], [{}]),
    "ports": ("ports 80, 443, 8000-8099", [{"port": p} for p in (80, 443, 8000, 8050, 8099)],
              [{"port": p} for p in (79, 81, 442, 7999, 8100)]),
    "one port": ("ports 8080", [{"port": 8080}, {"port": 8080, "method": "CONNECT"}],
                 [{"port": 443, "method": "CONNECT"}]),
    "ports side by side": ("ports 81, 80-80, 82-83", [{"port": p} for p in (80, 81, 82, 83)],
                           [{"port": 79}, {"port": 84}]),
    "ports any": ("ports any", [{"port": 1, "method": "CONNECT"}, {"port": 65535}], []),
    "methods": ("methods GET, HEAD", [{"method": "GET"}, {"method": "HEAD"}],
                [{"method": m} for m in ("POST", "PUT", "CONNECT", "PATCH")]),
    "methods other": ("methods other, DELETE", [{"method": m} for m in ("PATCH", "DELETE", "BREW")],
                      [{"method": "GET"}]),
    "paths": ("paths \"/admin\", /a/b", [{"path": p} for p in ("/admin", "/administrator", "/admin/x?y", "/a/b")],
              [{"path": p} for p in ("/", "/Admin", "/a/")]),
    "types": ("types video/*, Text/HTML", [{"type": t} for t in ("video/mp4", "text/html", "TEXT/html; charset=x")],
              [{"type": t} for t in ("text/plain", "videos/x", "")] + [{"method": "CONNECT", "port": 443}]),
    "agents": ("agents \"MSIE \", \"curl/\"", [{"agent": a} for a in ("curl/8", "x msie 6", "CURL/7")],
               [{"agent": a} for a in ("MSIE", "other", "-")]),
    "times": ("times mon-fri 08:00-18:00, sat 9:00-12:30",
              [{"minute": m} for m in (MON + 480, MON + 1079, 4 * 1440 + 480, SAT + 540, SAT + 749)],
              [{"minute": m} for m in (MON + 479, MON + 1080, SAT + 539, SAT + 750, SUN + 600)]),
    "times over midnight": ("times fri-sat 22:00-06:00",
                            [{"minute": m} for m in (4 * 1440 + 1320, SAT, SAT + 359, SAT + 1320, SUN + 359)],
                            [{"minute": m} for m in (4 * 1440 + 359, SAT + 360, SUN + 360, SUN + 1320)]),
    "times over the week's end": ("times sun-mon 00:00-24:00", [{"minute": m} for m in (SUN, SUN + 1439, 0, 1439)],
                                  [{"minute": m} for m in (1440, SUN - 1)]),
    "times daily": ("times daily 12:00-13:00", [{"minute": d * 1440 + 720} for d in range(7)], [{"minute": 0}]),
    "hours of every day": ("times 12:00-24:00", [{"minute": 720}, {"minute": 1439}], [{"minute": 0}]),
    "literals": ("literals", [{"host": "-"}], [{}]),
    "all of them": ("from private hosts .example ports 80 methods GET paths \"/\" agents \"x\" types text/* "
                    "times 00:00-24:00",
                    [{"client": "10.0.0.1", "agent": "x"}],
                    [{"client": "10.0.0.1", "agent": "x", **other} for other in (
                        {"client": "8.8.8.8"}, {"host": "a.test"}, {"port": 81}, {"method": "HEAD"}, {"agent": "-"},
                        {"type": "image/png"})]),
}


@pytest.mark.parametrize("name", COVERS)
@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_clauses(policies, name, verdict):
    """As an ALLOW in front of nothing, and as a DENY in front of an ALLOW for everything."""
    clause, yes, no = COVERS[name]
    text = f"{verdict} {clause}\n" + ("" if verdict == "allow" else "allow ports any\n")
    answers = policies.decide(text, *yes, *no)
    covered = ("allowed", 1) if verdict == "allow" else ("denied", 1)
    other = ("denied", None) if verdict == "allow" else ("allowed", 2)
    assert answers == [covered] * len(yes) + [other] * len(no)


SET_OF = {"net": "10.0.0.0/8, 192.168.0.0/16", "hosts": "a.example, .b.example", "ports": "80, 8000-8099",
          "methods": "GET, PUT", "paths": '"/a", "/b"', "types": "text/html, image/*", "agents": '"a", "b c"',
          "times": "mon 08:00-09:00, sun 10:00-11:00"}


@pytest.mark.parametrize("kind", SET_OF)
def test_sets_are_their_values(policies, kind):
    """A set, one within another, one that is given behind the rule: the same C."""
    clause = "from" if kind == "net" else kind
    texts = [f"allow {clause} {SET_OF[kind]}\n",
             f"{kind} one = {SET_OF[kind]}\nallow {clause} one\n",
             f"allow {clause} outer\n{kind} outer = inner\n{kind} inner = {SET_OF[kind]}\n",
             f"{kind} twice = inner, inner, {SET_OF[kind]}\n{kind} inner = {SET_OF[kind]}\n"
             f"allow {clause} twice, inner\n"]
    made = set()
    for text in texts:
        policies.write("p.policy", text)
        done = policies.run("policy", "compile", "p.policy")
        assert done.returncode == 0, done.stderr
        made.add(re.sub(rb"(?m)^ *//.*\n", b"", done.stdout))
    assert len(made) == 1 and b"MINIPROXY_ALLOW" in made.pop()


# ---- Pages of the proxy's own: what a rule with or without `methods pages` says of them

PAGES = {
    "allow": False, "allow methods GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other": False,
    "allow methods pages": True, "allow methods GET, pages": True, "allow from private methods pages": False,
    "allow methods pages paths \"/m\"": True, "allow methods pages paths \"/log\"": False,
    "allow methods pages to any": True, "allow methods pages to 8.0.0.0/8": False, "allow methods pages ports any": False, "allow methods pages literals": False,
    "allow methods pages hosts .example": False, "allow methods pages types text/*": False,
    "allow methods pages agents \"curl\"": False, "allow methods pages times mon 00:00-01:00": True,
    "allow methods mine\nmethods mine = pages, GET": True,
}


@pytest.mark.parametrize("rule", PAGES)
def test_pages_are_allowed_by_name(policies, rule):
    page = {"method": "pages", "path": "/metrics"}
    assert policies.decide(rule + "\n", page) == [("allowed", 1) if PAGES[rule] else ("denied", None)]
    assert policies.decide(rule + "\n", {"method": "GET", "host": "a.test"})[0][0] == (
        "allowed" if "methods" not in rule or "GET" in rule else "denied")


@pytest.mark.parametrize("rule,denied", [
    ("deny", True), ("deny from 192.0.2.0/24", True), ("deny paths \"/m\"", True), ("deny methods GET", False),
    ("deny methods GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other", False), ("deny ports any", True),
    ("deny to any", True), ("deny ports 80", False), ("deny to 8.0.0.0/8", False), ("deny hosts .example", False),
    ("deny literals", False), ("deny types text/*", False), ("deny methods pages", True)])
def test_pages_are_denied_by_what_asks_for_no_target(policies, rule, denied):
    answer = policies.decide(f"{rule}\nallow methods pages\n", {"method": "pages", "path": "/metrics"})
    assert answer == [("denied", 1) if denied else ("allowed", 2)]


def test_a_set_may_be_called_pages(policies):
    text = "hosts pages = a.example\nallow hosts pages methods pages, GET\n"
    assert policies.decide(text, {"host": "a.example"}, {"method": "pages"}) == [("allowed", 2), ("denied", None)]


def test_pages_ask_for_a_login(policies):
    text = "user admin = clear \"x\"\nallow users admin methods pages\n"
    assert policies.decide(text, {"method": "pages"}, {"method": "pages", "user": "admin"}) == [
        ("login", 2), ("allowed", 2)]


def test_maintenance(policies):
    assert "; maintenance: 503 for all but pages" in policies.good("allow\nmaintenance \"Back at 14:00.\"\n")
    assert policies.decide("maintenance \"x\"\nallow\n", {}) == [("allowed", 2)]  # which rules say, to be told later
    for text, place in ("maintenance", "1:12"), ("maintenance now", "1:13"), ("maintenance \"\"", "1:13"), \
            ("maintenance \"a\tb\"", "1:13"), ("maintenance \"" + "x" * 1001 + "\"", "1:13"):
        (line,) = policies.errors(text + "\n")
        assert re.match(rf"p\.policy:{place}: expected a message in quotes after maintenance, at most 1000", line)
    assert policies.errors("maintenance \"a\"\nmaintenance \"b\"\n") == [
        "p.policy:2:1: expected \"maintenance\" only once, it stands at p.policy:1 too"]
    assert re.match(r"p\.policy:1:17: expected the end of the line", policies.errors("maintenance \"a\" b\n")[0])


def test_first_match_wins(policies):
    text = "deny hosts a.example\nallow hosts .example\ndeny\nallow\n"
    assert policies.decide(text, {"host": "a.example"}, {"host": "b.example"}, {"host": "c.test"}) == [
        ("denied", 1), ("allowed", 2), ("denied", 3)]


def test_nothing_matched_is_denied(policies):
    assert policies.decide("", {}) == [("denied", None)]
    assert policies.decide("allow hosts a.test\n", {}) == [("denied", None)]


def test_connect_without_ports(policies):
    requests = [{"method": "CONNECT", "port": p, "path": "-"} for p in (443, 22, 80)]
    assert [v for v, _ in policies.decide("allow\n", *requests)] == ["allowed", "denied", "denied"]
    assert [v for v, _ in policies.decide("allow ports 22\n", *requests)] == ["denied", "allowed", "denied"]


# ---- Special-purpose addresses: named, they are open; within something wider they are not

@pytest.mark.parametrize("to,opened,closed", [
    ("", ["8.8.8.8"], ["10.0.0.1", "127.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]),
    ("to any", ["8.8.8.8", "2606::1"], ["10.0.0.1", "::1", "fe80::1"]),
    ("to 0.0.0.0/0", ["8.8.8.8", "::ffff:8.8.8.8"], ["10.0.0.1", "127.0.0.1", "2606::1"]),
    ("to ::/0", ["2606::1"], ["fd00::1", "8.8.8.8", "::1"]),
    ("to private", ["10.0.0.1", "fd00::1", "::ffff:192.168.1.1", "64:ff9b::a00:1", "2002:a00:1::"],
     ["8.8.8.8", "127.0.0.1"]),
    ("to 192.168.20.5", ["192.168.20.5", "::ffff:192.168.20.5"], ["192.168.20.4", "8.8.8.8"]),
    ("to 192.0.0.0/8", ["192.1.1.1"], ["192.168.1.1", "192.0.2.1"]),
    ("to 192.0.0.0/8, 192.168.7.0/24", ["192.1.1.1", "192.168.7.9"], ["192.168.1.1"]),
    ("to any, loopback", ["127.0.0.1", "::1", "8.8.8.8", "2606::1"], ["10.0.0.1"]),
    ("to 10.0.0.0/8, 0.0.0.0/0", ["10.2.3.4", "8.8.8.8"], ["192.168.1.1"]),
    ("to 10.0.0.0/7", ["11.0.0.1"], ["10.0.0.1"]),
    ("to 2002::/16", ["2002:808:808::1"], ["2002:a00:1::1", "8.8.8.8"]),
    ("to 2002:a00::/24", ["2002:a00:1::1"], ["10.0.0.1", "2002:b00:1::1"]),
    ("to 64:ff9b::/96", ["64:ff9b::808:808"], ["64:ff9b::a00:1"]),
    ("to 64:ff9b::10.0.0.0/104", ["64:ff9b::a00:1"], ["10.0.0.1", "64:ff9b::808:808"]),
    ("to special, any", ["10.0.0.1", "::1", "8.8.8.8", "ff02::1", "2606::1"], []),
])
def test_special_purpose(policies, to, opened, closed):
    answers = policies.decide(f"allow {to} ports any\n", *({"address": a} for a in opened + closed))
    assert [v for v, _ in answers] == ["allowed"] * len(opened) + ["denied"] * len(closed)


# ---- Users

def test_users(policies):
    text = (f"user anna = {SHA256}\nuser ben = {PBKDF2}\nuser \"carl the great\" = clear \"a \\\"b\\\" \\\\\"\n"
            "group staff = anna, ben\ngroup all = staff, \"carl the great\"\n"
            "allow users staff hosts a.example\nallow users all hosts b.example\nallow users any hosts c.example\n"
            "deny users ben\nallow from 10.0.0.1 or users anna hosts d.example\n"
            "allow users ben or from 10.0.0.2 hosts d.example\n")
    people = ("-", "anna", "ben", "carl the great")
    asked = policies.decide(text, *({"user": u, "host": h + ".example"} for h in "abcd" for u in people))
    assert [v for v, _ in asked] == ["login", "allowed", "allowed", "denied", "login", "allowed", "allowed", "allowed",
                                     "login", "allowed", "allowed", "allowed", "login", "allowed", "denied", "denied"]
    assert policies.decide(text, {"client": "10.0.0.1", "host": "d.example"},
                           {"client": "10.0.0.2", "host": "d.example"}) == [("allowed", 10), ("allowed", 11)]


def test_users_with_certificates(policies):
    text = (f"user kiosk = certificate\nuser \"00:11:22:33:44:55\" = certificate\nuser anna = {SHA256}\n"
            "group devices = kiosk, \"00:11:22:33:44:55\"\ngroup all = devices, anna\n"
            "allow users devices hosts a.example\nallow users all hosts b.example\nallow users any hosts c.example\n"
            "deny users kiosk\nallow from 10.0.0.1 or users devices hosts d.example\n")
    people = ("-", "kiosk", "00:11:22:33:44:55", "anna")
    asked = policies.decide(text, *({"user": u, "host": h + ".example"} for h in "abcd" for u in people))
    assert [v for v, _ in asked] == ["denied", "allowed", "allowed", "denied", "login", "allowed", "allowed", "allowed",
                                     "login", "allowed", "allowed", "allowed", "denied", "denied", "allowed", "denied"]
    # nobody is left who could log in
    asked = policies.decide(text.replace(SHA256, "certificate"), *({"host": h + ".example"} for h in "abcd"))
    assert [v for v, _ in asked] == ["denied"] * 4


def test_either_with_any_client(policies):
    assert policies.decide("user a = clear \"b\"\nallow from any or users a\n", {}, {"user": "a"}) == [
        ("allowed", 2), ("allowed", 2)]
    assert b".users = 0" not in policies.run("policy", "compile", "p.policy").stdout  # it is for anybody


def test_fifteen_sets_of_users(policies):
    users = "".join(f"user u{i} = clear \"x\"\n" for i in range(16))
    rules = "".join(f"allow users u{i} hosts h{i}.example\n" for i in range(15))
    again = "allow users u3, u3\nallow users any\n"
    good = users + rules + again
    answers = policies.decide(good, *({"user": f"u{i}", "host": f"h{i}.example"} for i in range(15)))
    assert answers == [("allowed", 17 + i) for i in range(15)]
    assert policies.errors(good + "deny users u15, u3\n") == [
        "p.policy:34:6: expected at most 15 different sets of users in all rules, this is one more"]


def test_users_is_another_word_for_group(policies):
    assert policies.allows("user a = clear \"b\"\nusers some = a\nallow users some\n", user="a")


# ---- Form

@pytest.mark.parametrize("text", [
    "allow hosts a.example, # comment\n  # another\n\n  b.example\n",
    "allow hosts a.example, \\\n b.example\n",
    "allow \\\nhosts a.example,\\\nb.example",
    "\ufeffallow hosts a.example,b.example\r\n",
    "allow\thosts\ta.example , b.example # \u00e4\n",
    "# only a comment\r\n\r\nallow hosts a.example,\r\nb.example\r\n",
    "hosts x=a.example,b.example\nallow hosts x",
])
def test_lines(policies, text):
    assert policies.allows(text, host="b.example") and policies.allows(text, host="a.example")
    assert not policies.allows(text, host="c.example")


def test_include(policies):
    policies.write("sub/nets.policy", "net office = 10.0.0.0/8\ninclude \"deeper/x.policy\"\n")
    policies.write("sub/deeper/x.policy", "allow from office hosts x.example\nhosts list = file \"../../list\"\n")
    policies.write("list", "from.list.example\n")
    text = "include \"sub/nets.policy\"\nallow from office hosts list\n"
    answers = policies.decide(text, {"client": "10.0.0.1", "host": "x.example"},
                              {"client": "10.0.0.1", "host": "from.list.example"})
    assert answers == [("allowed", 1), ("allowed", 2)]


def test_include_loop(policies):
    policies.write("a.policy", "include \"b.policy\"\n")
    policies.write("b.policy", "\n include \"./a.policy\"\n")
    [line] = policies.errors("include \"a.policy\"\n")
    assert re.fullmatch(r"b\.policy:2:10: expected another file than .*a\.policy, .*cannot include itself", line)


def test_include_depth(policies):
    for i in range(16):
        policies.write(f"{i}.policy", f"include \"{i + 1}.policy\"\n")
    policies.write("16.policy", "allow\n")
    policies.good("include \"1.policy\"\n")
    assert policies.errors("include \"0.policy\"\n") == [
        "15.policy:1:9: expected at most 16 files that include one another"]


def test_errors_of_included_files_have_their_place(policies):
    policies.write("in.policy", "\nallow form x\n")
    assert policies.errors("include \"in.policy\"\nnett\n") == [
        "in.policy:2:7: expected \"from\", found \"form\"", "p.policy:2:1: expected \"net\", found \"nett\""]


# ---- Errors: the text of a line, the column, what is said

ERRORS = [
    ("alow", 1, r'expected "allow", found "alow"'),
    ("frobnicate all", 1, r"expected allow, deny, net, .*include, found \"frobnicate\""),
    ("= x", 1, r"expected allow, deny, .*, found \"=\""),
    ('"allow"', 1, r"expected allow, deny, "),
    ("allow frm private", 7, r'expected "from", found "frm"'),
    ("allow everything", 7, r"expected one of from, users, .*, found \"everything\""),
    ("allow from private everything", 20, r"expected a comma, one of from, .*found \"everything\""),
    ("allow from", 11, r"expected a network, found the end of the line"),
    ("allow from 10.0.0.0/8,", 1, r"expected a network, found the end of the line"),
    ("allow from 10.0.0.0/8,,10.0.0.1", 23, r'expected a network, found ","'),
    ("allow from private from loopback", 20, r'expected "from" only once'),
    ("allow from 10.0.0.1/8", 12, r'expected 10\.0\.0\.0/8, the network, or 10\.0\.0\.1, the one address'),
    ("allow from fd00::1/8", 12, r'expected fd00::/8, the network, or fd00::1, the one address'),
    ("allow from 10.0.0.0/33", 12, r"expected a prefix length of 0 to 32"),
    ("allow from fd00::/129", 12, r"expected a prefix length of 0 to 128"),
    ("allow from 10.0.0.0/", 12, r"expected a prefix length"),
    ("allow from 10.0.0/8", 12, r"expected a network as 192\.168\.1\.0/24"),
    ("allow from 10.0.0.256", 12, r"expected a network"),
    ("allow from [::1]", 12, r"expected a network"),
    ("allow from nowhere", 12, r'expected a network as .*found "nowhere"$'),
    ("net office = 10.0.0.0/8\nallow from ofice", 12, r'found "ofice" \(did you mean "office"\?\)'),
    ("hosts ads = a.example\nallow from ads", 12, r'found "ads", which is a set of `hosts`'),
    ("allow from privat", 12, r'did you mean "private"'),
    ("net X = 10.0.0.1", 5, r"expected a name for the set"),
    ("net 1a = 10.0.0.1", 5, r"expected a name for the set"),
    ("net " + "a" * 65 + " = 10.0.0.1", 5, r"expected a name for the set"),
    ("net = 10.0.0.1", 5, r"expected a name for the set"),
    ("net any = 10.0.0.1", 5, r"no word of the language"),
    ("net private = 10.0.0.1", 5, r'expected another name, "private" is built in'),
    ("net a = 10.0.0.1\nnet a = 10.0.0.2", 5, r'expected another name, "a" is taken at p\.policy:1'),
    ("net a 10.0.0.1", 7, r"expected = after the name"),
    ("net a = 10.0.0.1 10.0.0.2", 18, r"expected a comma or the end of the line"),
    ("net a = b\nnet b = c\nnet c = a", 9, r'expected no loop: the set "a" is part of itself'),
    ("hosts h = *.a.example", 11, r'expected "\.example\.com" for that name and all below it, without \*'),
    ("hosts h = m\u00fcller.example", 11, r"expected a host name in ASCII: .*A-label"),
    ("hosts h = a.b/c", 11, r"expected a host name of letters"),
    ("hosts h = a..b", 11, r"expected labels of 1 to 63 octets"),
    ("hosts h = " + "a" * 64 + ".b", 11, r"expected labels of 1 to 63 octets"),
    ("hosts h = " + "abcdefg." * 32 + "b", 11, r"expected a host name of 1 to 253 octets"),
    ("hosts h = .", 11, r"expected a host name of 1 to 253 octets"),
    ("hosts h = 10.0.0.1", 11, r"expected a host name: addresses stand behind to"),
    ('hosts h = "::1"', 11, r"expected a host name: addresses stand behind to"),
    ("allow hosts localhost", 13, r"expected a host name with a dot \(one without stands in quotes\)"),
    ("hosts h = file list", 16, r"expected the name of a file in quotes"),
    ('hosts h = file "missing"', 16, r"expected a file that can be read: missing: No such file"),
    ('hosts h = file "x" with domains', 25, r'expected "subdomains" after with'),
    ('hosts h = file "x" hashed checked "y"', 35, r'expected "checked against"'),
    ("allow ports 0", 13, r"expected a port of 1 to 65535"),
    ("allow ports 65536", 13, r"expected a port of 1 to 65535"),
    ("allow ports 90-80", 13, r"expected a port of 1 to 65535, or a range"),
    ("allow ports 80-", 13, r"expected a port of 1 to 65535, or a range"),
    ("allow ports web", 13, r"expected ports as 443"),
    ("allow methods get", 15, r'did you mean "GET"'),
    ("methods pages = GET", 9, r'expected another name, "pages" is built in'),
    ("allow methods page", 15, r'found "page" \(did you mean "pages"'),
    ("allow methods PATCH", 15, r"expected GET, HEAD, .*other \(all others, as PATCH\)"),
    ('allow paths "admin"', 13, r"expected the beginning of a path"),
    ('allow paths "/\u00e4"', 13, r"expected the beginning of a path"),
    ('allow paths "/a b"', 13, r"expected the beginning of a path"),
    ("allow types video", 13, r"expected a media type as video/\*"),
    ("allow types */*", 13, r"expected a media type"),
    ("allow types video/", 13, r"expected a media type"),
    ("allow types video/x*", 13, r"expected a media type"),
    ("allow agents curl/", 14, r"expected a part of User-Agent in quotes"),
    ('allow agents ""', 14, r"expected a part of User-Agent: 1 to"),
    ("allow times mon", 16, r"expected hours after the days"),
    ("allow times mon-fri 8", 21, r"expected hours after the days"),
    ("allow times mon-fri 08:00-25:00", 21, r"expected hours after the days"),
    ("allow times mon 24:00-12:00", 17, r"expected hours after the days"),
    ("allow times mon 08:00-08:00", 17, r"expected hours after the days"),
    ("allow times mon 08:60-09:00", 17, r"expected hours after the days"),
    ("allow times monday 08:00-09:00", 13, r"expected days and hours"),
    ("user anna", 10, r"expected = after the name of the user"),
    ("user anna = secret", 13, r"expected .*sha256:SALT:DIGEST.*clear \"PASSWORD\", or certificate$"),
    ("user anna = certificate x", 25, r"expected the end of the line"),
    ('user anna = "certificate"', 13, r"expected .*, or certificate$"),
    ("user an:na = " + SHA256, 6, r"expected a user name without colon, or one of a certificate, found \"an:na\""),
    ("user anna = sha256:00:00", 13, r"expected .*sha256:SALT:DIGEST"),
    ("user anna = clear", 18, r"expected the password in quotes"),
    ('user anna = clear "' + "x" * 300 + '"', 19, r"expected name and password of at most 255 octets together"),
    ('user an:na = clear "x"', 6, r"expected a user name without colon"),
    ('user any = clear "x"', 6, r"expected a user name that is no word"),
    ('user a = clear "x"\nuser a = clear "y"', 6, r'expected another name, "a" is taken at p\.policy:1'),
    ('user a = clear "x"\ngroup a = a', 7, r'expected another name, "a" is taken at p\.policy:1'),
    ("allow users nobody", 13, r"expected a user or a group of this policy, or any"),
    ('user anna = clear "x"\nallow users ana', 13, r'did you mean "anna"'),
    ("allow from private or hosts a.example", 20, r'expected "or" only between'),
    ("allow hosts a.example or users any", 23, r'expected "or" only between'),
    ("allow or", 7, r'expected "or" only between'),
    ('user "j\u00fcrgen" = clear "x" y', 27, r"expected the end of the line"),  # characters, not octets
    ("include x", 9, r"expected the name of a file in quotes"),
    ('include "x" y', 13, r"expected the end of the line"),
    ('include "missing"', 9, r"expected a file that can be read: missing"),
    ('allow paths "/x', 13, r'expected a second "'),
    ("allow # \x01", 9, r"expected text without control characters, found octet 0x01"),
    ("allow\r from private", 6, r"found octet 0x0d"),
    ("allow \x00", 7, r"found octet 0x00"),
    ("# " + "x" * 65536, 1, r"expected a line of at most 65536 octets, found 65538"),
    ("\u00e4\u00e4 allow", 1, r"expected allow, deny"),
    ('allow paths "/x" \u00e4', 18, r"expected a comma, one of"),
]


@pytest.mark.parametrize("text,column,said", ERRORS, ids=[repr(e[0][:50]) for e in ERRORS])
def test_errors_have_their_place(policies, text, column, said):
    lines = policies.errors(text)
    assert len(lines) == 1, lines
    place, message = lines[0].split(": ", 1)
    # what is missing behind a comma is missing where the file ends
    assert place == f"p.policy:{text.count(chr(10)) + 1}:{column}", lines
    assert message.startswith("expected ") and re.search(said, message), lines


def test_all_errors_are_told(policies):
    lines = policies.errors("net a = x/y\nallow\nnet b = 1.2.3.4/40\nallow from a, b, c\n\nhosts q = ,\n")
    assert [line.split(": ")[0] for line in lines] == ["p.policy:1:9", "p.policy:3:9", "p.policy:6:11", "p.policy:4:18"]


def test_twenty_errors_are_shown(policies):
    lines = policies.errors("x\n" * 30)
    assert len(lines) == 21 and lines[20] == "p.policy:21:1: further errors are not shown"


def test_secrets_are_not_shown(policies):
    lines = policies.errors("user anna = my-secret-word\n")
    assert "my-secret-word" not in lines[0]


def test_nesting(policies):
    def chain(n):
        return "".join(f"net n{i} = n{i + 1}\n" for i in range(n - 1)) + f"net n{n - 1} = 10.0.0.1\nallow from n0\n"

    policies.good(chain(64))
    assert "expected sets nested at most 64 deep" in policies.errors(chain(65))[0]
    assert "expected sets nested at most 64 deep" in policies.errors(chain(100000))[0]


def test_sets_that_name_each_other_often(policies):
    text = "".join(f"net n{i} = n{i + 1}, n{i + 1}\n" for i in range(60)) + "net n60 = 10.0.0.1\nallow from n0\n"
    assert policies.allows(text, client="10.0.0.1")


def test_limits_of_rules(policies):
    policies.good("allow\n" * 32767)
    assert policies.errors("allow\n" * 32768) == ["p.policy:32768:1: expected at most 32767 rules in the tables"]
    policies.good("deny types video/*\n" * 32)
    assert policies.errors("deny types video/*\n" * 33) == [
        "p.policy:33:1: expected at most 32 rules with types in the tables"]


def test_limits_of_sets(policies):
    def nets(count):
        return "allow from " + ",\n".join(f"{i >> 8 & 255}.{i & 255}.{i >> 16}.1" for i in range(count)) + "\n"

    policies.good(nets(65535))
    assert "expected a set of at most 65535 values, found 65536" in policies.errors(nets(65536))[0]


@pytest.mark.parametrize("what", [".", "missing", "/dev/zero"])
def test_files_that_cannot_be_read(policies, what):
    done = policies.run("policy", "check", what)
    assert done.returncode == 2 and done.stderr.startswith(f"{what}:1:1: expected ".encode())


# ---- Lists of host names

def names_of(policies, content, options=""):
    """The set that a file becomes."""
    policies.write("list", content)
    policies.write("p.policy", f"hosts h = file \"list\" {options}\nallow hosts h\n")
    done = policies.run("policy", "compile", "p.policy")
    assert done.returncode == 0, done.stderr.decode()
    strings = re.search(rb"policy_names_0\[\] = \{\n(.*?)\};", done.stdout, re.S)
    return set(re.findall(r'"(.*)"', strings[1].decode()))


LISTS = {
    "hosts file": ("# a comment\n127.0.0.1\tlocalhost localhost.localdomain local\n::1 ip6-localhost ip6-loopback\n"
                   "255.255.255.255 broadcasthost\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\n"
                   "0.0.0.0 A.example b.example # both\n127.0.0.1  c.example.\r\n:: d.example\n::1 e.example\n"
                   "192.168.1.5 nas.home.example\n0.0.0.0 f.example g.example#h.example\n", "",
                   {"a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example"}),
    "hosts file with subdomains": ("0.0.0.0 a.example\n", "with subdomains", {".a.example"}),
    "plain list": ("\ufeffa.example\n  B.example  # comment\n\n.c.example\n*.d.example\n# e.example\n"
                   "xn--bcher-kva.example",
                   "", {"a.example", "b.example", ".c.example", ".d.example", "xn--bcher-kva.example"}),
    "plain list with subdomains": ("a.example\n.b.example\n", "with subdomains exact", {".a.example", ".b.example"}),
    "AdBlock": ("[Adblock Plus 2.0]\n! Title: x\n||a.example^\n||B.example^$important\n||c.example^$third-party\n"
                "||d.example^$all,important\n||e.example/path^\n||f.*^\n@@||g.example^\nh.example##.banner\n##.ad\n"
                "/ad[0-9]/\n-banner.gif\n|https://i.example/\n||10.0.0.1^\n||j.example\n", "",
                {".a.example", ".b.example", ".d.example"}),
    "mixed": ("! x\n||a.example^\n0.0.0.0 b.example\nc.example\n## Title\n", "",
              {".a.example", "b.example", "c.example"}),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists(policies, name):
    content, options, names = LISTS[name]
    assert names_of(policies, content, options) == names


def test_lists_count_what_they_skip(policies):
    policies.write("list", LISTS["AdBlock"][0])
    text = policies.good("deny hosts file \"list\"\n")
    assert "list: 3 names; 11 lines say nothing about whole hosts and are left out, 1 of them exceptions (@@)" in text


LIST_ERRORS = [
    ("a.example\nb_.ex ample\n", "list:2:1", "expected a host name of letters"),
    ("a.example\n  m\u00fcller.example\n", "list:2:3", "expected a host name in ASCII: .*A-label"),
    ("0.0.0.0 a.example b!\n", "list:1:19", "expected a host name of letters"),
    ("a.example\n\x01\n", "list:2:1", "expected text without control characters, found octet 0x01"),
    ("a.example\n||b.example\x00^\n", "list:2:12", "expected text without control characters, found octet 0x00"),
    ("http://a.example/\n", "list:1:1", "expected a host name of letters"),
    ("10.0.0.1\n", "list:1:1", "expected a host name: addresses"),
    ("a.0x1\n", "list:1:1", "expected a host name: addresses"),
    ("a.example#comment\n", "list:1:1", "expected a host name of letters"),
    ("a.example\n" + "b" * 70000 + "\n", "list:2:1", "expected a line of at most 65536 octets"),
    ("# nothing\n", "p.policy:1:17", "expected a list with host names, found none in list"),
]


@pytest.mark.parametrize("content,place,said", LIST_ERRORS, ids=[e[1] + e[2][:20] for e in LIST_ERRORS])
def test_errors_in_lists(policies, content, place, said):
    policies.write("list", content)
    [line] = policies.errors("deny hosts file \"list\"\nallow\n")
    assert line.startswith(place + ": ") and re.match(said, line.split(": ", 1)[1]), line


def test_large_list(policies):
    """Thousands of names: every one, one below it, one beside."""
    policies.write("list", "".join(f"0.0.0.0 n{i}.h{i % 7}.example\n" for i in range(3000)))
    requests = [{"host": f"{before}n{i}.h{i % 7}.example"} for i in range(0, 3000, 7) for before in ("", "x.", "x")]
    for options, below in (("", "allowed"), ("with subdomains", "denied"), ("with subdomains hashed", "denied")):
        answers = policies.decide(f"hosts h = file \"list\" {options}\ndeny hosts h\nallow\n", *requests)
        assert [v for v, _ in answers] == ["denied", below, "allowed"] * (len(requests) // 3)


def test_hashed_set_is_checked(policies):
    """Names that are in the set may stand among the good ones; all others do not match."""
    policies.write("list", "".join(f"n{i}.h{i % 7}.example\n" for i in range(500)))
    policies.write("good", "||n5.h5.example^\n! x\n" + "".join(f"good{i}.example\n" for i in range(20000)))
    answers = policies.decide("deny hosts file \"list\" hashed checked against \"good\"\nallow\n",
                              {"host": "n5.h5.example"},
                              *({"host": f"good{i}.example"} for i in range(20000)))
    assert [v for v, _ in answers] == ["denied"] + ["allowed"] * 20000


def test_the_worked_example(policies):
    done = policies.run("policy", "check", os.path.join(ROOT, "examples", "policy", "site.policy"))
    assert done.returncode == 0, done.stderr


def damaged(rng, text):
    data = bytearray(text.encode())
    for _ in range(rng.choice((1, 3, 10))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randrange(1, 30))
        kind = rng.randrange(4)
        if kind == 0:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[end:end] = data[at:end]
        else:
            data[at:at] = rng.choice((b",", b'"', b"=", b"\\", b"\n", b" any ", b" or ", b" file ", b"/", b"-", b"#",
                                      b".", b"\\\n", b"^", b"||"))
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_read_or_refused(policies, seed):
    """With the sanitizers watching: an answer or lines with places, nothing else."""
    rng = random.Random(seed)
    with open(os.path.join(ROOT, "examples", "policy", "site.policy"), encoding="utf-8") as f:
        site = f.read().replace('include "users.policy"', f"user operator = {PBKDF2}\nuser anna = {SHA256}\n"
                                "user display = clear \"x\"\ngroup operators = operator\ngroup staff = anna, display")
    site += ('parent up = "http://a%40b:c@p.example" check "http://q.example/" every 9s rise 2 fall 3\n'
             "parent second = socks5://[fd00::1]:1081\norigins farm = 10.0.0.1:8080, x.example check every 1s\n"
             "route from site hosts .vendor.example to private via up, second in turn resolve\nroute via farm\n"
             "limit each client from site down 1.5 Mbit/s up 64 kB/s burst 64 KiB requests 9/min burst 7 requests\n")
    adblock = LISTS["mixed"][0] + LISTS["AdBlock"][0]
    read = refused = 0
    for _ in range(20):
        policies.write("ads.hosts", damaged(rng, adblock) if rng.random() < 0.3 else adblock)
        policies.write("p.policy", damaged(rng, site) if rng.random() < 0.9 else site)
        done = policies.run("p.policy", program=os.path.join(BUILD, "evaluate"), stdin=b"")
        if done.returncode == 0:
            read += 1
            continue
        assert done.returncode == 2, done.stderr.decode("utf-8", "replace")
        refused += 1
        for line in done.stderr.decode("utf-8", "replace").splitlines():
            assert re.match(r"(p\.policy|ads\.hosts):\d+:\d+: (expected|further errors)", line), line
    assert read > 0 and refused > 0
