# SPDX-License-Identifier: MIT
"""Random policies as text, and a naive reading of them that shares nothing with the compiler and the core.

    reference.py EVALUATE REQUESTS [SEED]

Writes policies, asks tests/policy/evaluate.c about random requests and compares: verdict, and the line of the rule that
decides. Prints the first difference with everything that is needed to repeat it, or how many agreed.
"""
import ipaddress
import os
import random
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPECIAL4 = [ipaddress.ip_network(n) for n in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/3")]
SPECIAL6 = [ipaddress.ip_network(n) for n in (
    "::/127", "64:ff9b:1::/48", "100::/63", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7",
    "fe80::/9", "ff00::/8")]
BUILT_IN = {
    "any": ["0.0.0.0/0", "::/0"],
    "private": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
    "loopback": ["127.0.0.0/8", "::1/128"],
}


# ---- The naive reading


def mapped(address):
    return address.version == 6 and int(address) >> 32 == 0xffff


def inner4(address):
    """The IPv4 address where a connection to this one would end."""
    if address.version == 4:
        return address
    number = int(address)
    if mapped(address):
        return ipaddress.IPv4Address(number & 0xffffffff)
    if number >> 112 == 0x2002:
        return ipaddress.IPv4Address(number >> 80 & 0xffffffff)
    if number >> 32 == 0x64ff9b << 64:
        return ipaddress.IPv4Address(number & 0xffffffff)
    if number > 1 and number >> 32 == 0:
        return ipaddress.IPv4Address(number)
    return None


def is_in(address, net):
    if net.version == 4:
        inner = inner4(address)
        return inner is not None and inner in net
    return address.version == 6 and not mapped(address) and address in net


def is_special(address):
    return any(is_in(address, net) for net in SPECIAL4 + SPECIAL6)


def opens(net):
    """Named in `to`, does this network open special-purpose addresses?"""
    return any(net.version == special.version and net.subnet_of(special) for special in SPECIAL4 + SPECIAL6)


def host_is_in(host, names):
    host = host.lower().removesuffix(".")
    for name in names:
        if name.startswith(".") and (host == name[1:] or host.endswith(name)):
            return True
        if host == name:
            return True
    return False


def time_is_in(minute, times):
    day, minute = divmod(minute, 1440)
    for days, begin, end in times:
        if begin < end:
            if day in days and begin <= minute < end:
                return True
        elif (day in days and minute >= begin) or ((day - 1) % 7 in days and minute < end):
            return True
    return False


def kind_of(method):
    return method if method in (*METHODS, "pages") else "other"


class Rule:
    """Values of each clause that is there: nets, names, …"""

    def __init__(self, allow, clauses, either, line):
        self.allow, self.clauses, self.either, self.line = allow, clauses, either, line

    def get(self, clause):
        return self.clauses.get(clause)

    def client_fits(self, r):
        return any(is_in(r.client, net) for net in self.get("from"))

    def user_fits(self, r):
        return r.user is not None and ("any" in self.get("users") or r.user in self.get("users"))

    def people_fit(self, r):
        if self.either:
            return self.client_fits(r) or self.user_fits(r)
        return (self.get("from") is None or self.client_fits(r)) and (self.get("users") is None or self.user_fits(r))

    def page_fits(self):
        """A page of the proxy's own has no target. An ALLOW has to name pages. `to any`, and `deny ports any`, ask for
        nothing."""
        if self.get("methods") is None and self.allow:
            return False
        asks_address = self.get("to") is not None and not self.get("to any")
        asks_port = self.get("ports") is not None and (self.allow or self.get("ports") != [(1, 65535)])
        return not (asks_address or asks_port or self.get("hosts") or self.get("types") or self.get("literals"))

    def address_fits(self, r):
        nets = self.get("to")
        if not self.allow:
            return nets is None or any(is_in(r.address, net) for net in nets)
        if nets is None:
            return not is_special(r.address)
        return any(is_in(r.address, net) and (not is_special(r.address) or opens(net)) for net in nets)

    def port_fits(self, r):
        ports = self.get("ports")
        if ports is not None:
            return any(first <= r.port <= last for first, last in ports)
        return not self.allow or r.method != "CONNECT" or r.port == 443

    def content_fits(self, r):
        types = self.get("types")
        if types is None:
            return True
        if r.method == "CONNECT":
            return False
        if "," in r.type:
            return not self.allow
        kind = r.type.split(";")[0].strip().lower()
        if kind == "multipart/byteranges" and not self.allow:
            return True
        return any(kind.startswith(t[:-1]) if t.endswith("/*") else kind == t for t in types)

    def fits(self, r, people=True):
        if people and not self.people_fit(r):
            return False
        if not self.either and self.get("from") is not None and not self.client_fits(r):
            return False
        if self.get("literals") and r.host is not None and r.method != "pages":
            return False
        if self.get("hosts") is not None and r.method != "pages" and (r.host is None or not host_is_in(r.host, self.get("hosts"))):
            return False
        if self.get("methods") is not None and kind_of(r.method) not in self.get("methods"):
            return False
        if self.get("paths") is not None:
            if r.path is None or not any(r.path.startswith(p) for p in self.get("paths")):
                return False
        if self.get("agents") is not None:
            if r.agent is None or not any(a.lower() in r.agent.lower() for a in self.get("agents")):
                return False
        if self.get("times") is not None:
            if r.minute < 0:
                if self.allow:
                    return False
            elif not time_is_in(r.minute, self.get("times")):
                return False
        if r.method == "pages":
            return self.page_fits()
        return self.port_fits(r) and self.address_fits(r) and self.content_fits(r)


def decide(rules, r, passwords):
    """First match decides. Without a user: would one of those who have passwords be allowed?"""
    asks = None
    for rule in rules:
        if rule.fits(r):
            if rule.allow:
                return "allowed", rule.line
            return ("login", asks) if asks is not None else ("denied", rule.line)
        if asks is None and r.user is None and rule.allow and rule.get("users") is not None and rule.fits(r, people=False):
            if passwords and ("any" in rule.get("users") or passwords & set(rule.get("users"))):
                asks = rule.line
    return ("login", asks) if asks is not None else ("denied", None)


# ---- Random policies


class Request:
    pass


def nets(rng):
    pool = ["192.168.1.0/24", "192.168.1.7", "10.0.0.0/8", "10.1.2.0/23", "0.0.0.0/0", "::/0", "8.8.0.0/16", "8.8.8.8",
            "2606:4700::/32", "fd00::/8", "fd12::1", "127.0.0.0/8", "198.18.0.0/15", "198.0.0.0/8", "::1", "2002::/16",
            "64:ff9b::/96", "128.0.0.0/1", "203.0.112.0/23", "172.16.0.0/12"]
    if rng.random() < 0.3:
        bits = rng.randrange(33)
        pool = [str(ipaddress.ip_network((rng.getrandbits(32), bits), strict=False))]
    return rng.sample(pool, min(len(pool), rng.choice((1, 1, 2, 3, 8))))


LABELS = ("a", "b", "www", "x-y", "ads", "shop", "xn--bcher-kva", "example", "test", "com", "org")


def name(rng):
    return ".".join(rng.choice(LABELS) for _ in range(rng.choice((2, 2, 3, 4))))


def names(rng):
    count = rng.choice((1, 2, 5, 5, 40))
    return [rng.choice(("", ".")) + name(rng) for _ in range(count)]


def port_ranges(rng):
    out = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        first = rng.choice((22, 80, 443, 444, 8000, 8080, 65535, rng.randrange(1, 65536)))
        out.append((first, min(65535, first + rng.choice((0, 0, 1, 99)))))
    return out


def times(rng):
    out = []
    for _ in range(rng.choice((1, 1, 2))):
        first = rng.randrange(7)
        last = rng.randrange(first, 7)
        begin, end = rng.choice(((480, 1080), (1320, 360), (0, 1440), (0, 1), (1439, 1440), (600, 630)))
        out.append((first, last, begin, end))
    return out


def clock(minute):
    return f"{minute // 60:02}:{minute % 60:02}"


class Writer:
    """Text, and the same in Python's values. Sets are named or written into the rule, by chance."""

    def __init__(self, rng):
        self.rng, self.lines, self.rules, self.routes, self.sets = rng, [], [], [], {}
        self.users = [f"user{i}" for i in range(rng.choice((0, 1, 3, 6)))]
        self.passwords = {user for user in self.users if rng.random() < 0.8}
        for user in self.users:
            secret = f"clear \"pw {user}\"" if user in self.passwords else "certificate"
            self.lines.append(f"user {user} = {secret}")
        self.groups = {}
        for i in range(2 if self.users else 0):
            members = rng.sample(self.users, rng.randrange(1, len(self.users) + 1))
            self.groups[f"group{i}"] = members
            self.lines.append(f"group group{i} = {', '.join(members)}")

    def clause(self, kind, texts):
        """The words of a clause; now and then a part of them stands in a set of its own."""
        if self.rng.random() < 0.4:
            label = f"{kind}-set{len(self.sets)}"
            self.sets[label] = kind
            self.lines.append(f"{kind} {label} = {', '.join(texts)}")
            return label
        return ", ".join(texts)

    def values(self, clause):
        """(text, what it means)"""
        rng = self.rng
        if clause in ("from", "to"):
            chosen = nets(rng)
            meaning = [ipaddress.ip_network(n) for n in chosen]
            text = self.clause("net", chosen)
            if rng.random() < 0.15:
                built_in = rng.choice(list(BUILT_IN))
                meaning += [ipaddress.ip_network(n) for n in BUILT_IN[built_in]]
                text += ", " + built_in
            return text, meaning
        if clause == "hosts":
            chosen = names(rng)
            return self.clause("hosts", chosen), chosen
        if clause == "ports":
            if rng.random() < 0.1:
                return "any", [(1, 65535)]
            chosen = port_ranges(rng)
            return self.clause("ports", [f"{a}-{b}" if a != b else str(a) for a, b in chosen]), chosen
        if clause == "methods":
            chosen = rng.sample((*METHODS, "other", "pages", "pages", "pages"), rng.choice((1, 2, 4)))
            if rng.random() < 0.3:
                chosen = [*METHODS, "other", *rng.choice(((), ("pages",)))]
            chosen = list(dict.fromkeys(chosen))
            return self.clause("methods", chosen), chosen
        if clause == "paths":
            chosen = rng.sample(("/", "/a", "/a/b", "/A", "/admin", "/a?", "/%61"), rng.choice((1, 2)))
            return self.clause("paths", [f'"{p}"' for p in chosen]), chosen
        if clause == "types":
            chosen = rng.sample(("text/html", "text/*", "image/*", "image/png", "video/mp4", "multipart/*"), rng.choice((1, 2)))
            return self.clause("types", chosen), chosen
        if clause == "agents":
            chosen = rng.sample(("curl/", "MSIE ", "Bot", "x"), rng.choice((1, 2)))
            return self.clause("agents", [f'"{a}"' for a in chosen]), chosen
        if clause == "times":
            chosen = times(rng)
            texts = [f"{DAYS[a]}-{DAYS[b]} {clock(x)}-{clock(y)}" if a != b else f"{DAYS[a]} {clock(x)}-{clock(y)}"
                     for a, b, x, y in chosen]
            return self.clause("times", texts), [(set(range(a, b + 1)), x, y) for a, b, x, y in chosen]
        assert clause == "users"
        choice = rng.choice(["any", *self.users, *self.groups])
        return choice, self.groups.get(choice, [choice])

    def rule(self):
        rng = self.rng
        allow, often = rng.random() < 0.6, rng.choice((0.3, 1))
        wanted = [c for c in ("from", "to", "hosts", "ports", "methods", "paths", "types", "agents", "times", "users")
                  if rng.random() < often * (0.3 if c in ("from", "to", "hosts", "users") else 0.15)]
        if not self.users and "users" in wanted:
            wanted.remove("users")
        if rng.random() < 0.25:  # who may see pages
            wanted = [c for c in wanted if c in ("from", "paths", "users", "times") or rng.random() < 0.1]
            wanted = [c for c in wanted if c != "methods"] + ["methods"]
        either = self.users and rng.random() < 0.1
        if allow and self.users and rng.random() < 0.3 and "users" not in wanted:
            wanted.append("users")
        if either:
            wanted = [c for c in wanted if c not in ("from", "users")]
        rng.shuffle(wanted)
        words, meaning = [], {}
        for clause in wanted:
            text, meaning[clause] = self.values(clause)
            words.append(f"{clause} {text}")
            meaning[f"{clause} any"] = text.endswith(", any")
        if either:
            (a, meaning["from"]), (b, meaning["users"]) = self.values("from"), self.values("users")
            words.append(f"from {a} or users {b}")
        if rng.random() < 0.05:
            words.append("literals")
            meaning["literals"] = True
        self.lines.append(" ".join(["allow" if allow else "deny", *words]))
        self.rules.append(Rule(allow, meaning, either, len(self.lines)))

    def route(self):
        rng = self.rng
        wanted = [c for c in ("from", "to", "hosts", "users") if rng.random() < 0.3]
        if not self.users and "users" in wanted:
            wanted.remove("users")
        words, meaning = [], {}
        for clause in wanted:
            text, meaning[clause] = self.values(clause)
            words.append(f"{clause} {text}")
        words.append(rng.choice(("directly", "via one", "via two, one in turn", "via one resolve", "via group")))
        rng.shuffle(words)
        self.lines.append(" ".join(["route", *words]))
        self.routes.append(Rule(False, meaning, False, len(self.lines)))

    def requests(self, count):
        """Half of the values are near those of the rules."""
        rng, out = self.rng, []
        known_nets = [n for r in self.rules + self.routes for c in ("from", "to") for n in r.get(c) or ()]
        known_names = [n for r in self.rules + self.routes for n in r.get("hosts") or ()]
        known_ports = [p for r in self.rules for span in r.get("ports") or () for p in span]
        known_minutes = [(day * 1440 + m) % 10080 for r in self.rules for days, a, b in r.get("times") or ()
                         for day in days for m in (a, b)]
        for _ in range(count):
            r = Request()
            r.client, r.address = self.address(known_nets), self.address(known_nets)
            r.user = rng.choice(self.users) if self.users and rng.random() < 0.6 else None
            r.method = rng.choice(METHODS + ("PATCH", "GET", "CONNECT", "pages", "pages", "pages"))
            r.host = None if rng.random() < 0.15 else self.host(known_names)
            r.port = rng.choice(known_ports) + rng.choice((-1, 0, 0, 1)) if known_ports and rng.random() < 0.6 else \
                rng.choice((80, 443, 22, rng.randrange(1, 65536)))
            r.port = min(65535, max(1, r.port))
            r.path = None if r.method == "CONNECT" else rng.choice(("/", "/a", "/a/bc", "/A", "/admin/x", "/a?b", "/%61", "/z"))
            r.agent = rng.choice((None, "curl/8", "CURL/8", "a MSIE 6", "robot", "XX", "other"))
            r.type = rng.choice(("", "text/html", "Text/HTML; charset=utf-8", "image/png", "image/x", "video/mp4", "font/woff",
                                 "multipart/byteranges; boundary=x", "text/html, image/png", "image/png;a=b,x/y"))
            r.minute = rng.choice((-1, rng.randrange(10080), rng.randrange(10080)))
            if known_minutes and rng.random() < 0.5:
                r.minute = (rng.choice(known_minutes) + rng.choice((-1, 0, 1))) % 10080
            out.append(r)
        return out

    def address(self, known):
        rng = self.rng
        if known and rng.random() < 0.6:
            net = rng.choice(known)
            edge = rng.choice((int(net.network_address), int(net.broadcast_address))) + rng.choice((-1, 0, 0, 1))
            kind = ipaddress.IPv4Address if net.version == 4 else ipaddress.IPv6Address
            chosen = kind(edge % (1 << net.max_prefixlen))
        else:
            chosen = ipaddress.ip_address(rng.choice((
                "8.8.8.8", "192.168.1.7", "10.1.2.3", "127.0.0.1", "1.1.1.1", "2606:4700::1", "fd12::1", "::1", "fe80::1",
                "203.0.113.9", "2001:db8::1")))
        if chosen.version == 4 and rng.random() < 0.2:
            form = rng.choice(("::ffff:0:0", "64:ff9b::", "::"))
            chosen = ipaddress.IPv6Address(int(ipaddress.IPv6Address(form)) | int(chosen))
        elif chosen.version == 4 and rng.random() < 0.05:
            chosen = ipaddress.IPv6Address(0x2002 << 112 | int(chosen) << 80)
        return chosen

    def host(self, known):
        rng = self.rng
        host = name(rng)
        if known and rng.random() < 0.6:
            host = rng.choice(known).removeprefix(".")
            host = rng.choice((host, host, "a." + host, "a" + host, host.split(".", 1)[-1]))
        if rng.random() < 0.2:
            host = host.upper()
        return host + rng.choice(("", "", "", "."))


def line_of(r):
    return "\t".join((str(r.client), r.user or "-", r.method, r.host or "-", str(r.address), str(r.port), r.path or "-",
                      r.agent or "-", r.type, str(r.minute)))


def one_policy(evaluate, directory, seed, count):
    rng = random.Random(seed)
    writer = Writer(rng)
    for _ in range(rng.choice((1, 3, 6, 12))):
        writer.rule()
    if rng.random() < 0.5:
        writer.lines += ["parent one = http://a.example", "parent two = socks5://b.example", "origins group = c.example"]
        for _ in range(rng.choice((1, 3, 6))):
            writer.route()
    path = os.path.join(directory, "random.policy")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(writer.lines) + "\n")
    requests = writer.requests(count)
    lines = [line_of(r) for r in requests]
    done = subprocess.run([evaluate, path], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"seed {seed}: exit {done.returncode}: {done.stderr}\n" + "\n".join(writer.lines))
    answers = done.stdout.splitlines()
    assert len(answers) == count, f"seed {seed}: {len(answers)} answers"
    tally = {"allowed": 0, "denied": 0, "login": 0}
    for request, line, answer in zip(requests, lines, answers):
        verdict, at = decide(writer.rules, request, writer.passwords)
        expected = verdict if at is None else f"{verdict} {path}:{at}"
        if writer.routes:
            expected += "\t" + next((f"{path}:{route.line}" for route in writer.routes
                                     if request.method != "pages" and route.fits(request)), "-")
        if answer != expected:
            raise SystemExit(f"seed {seed}: {line!r}\nis {answer!r}, not {expected!r}\n" + "\n".join(
                f"{i + 1}: {text}" for i, text in enumerate(writer.lines)))
        tally[verdict] += 1
    return tally


def compare(evaluate, total, seed):
    """All seeds from this one on, until so many requests agreed."""
    asked, policies, sums = 0, 0, {"allowed": 0, "denied": 0, "login": 0}
    with tempfile.TemporaryDirectory() as directory:
        while asked < total:
            for verdict, count in one_policy(evaluate, directory, seed + policies, 1000).items():
                sums[verdict] += count
                asked += count
            policies += 1
    if min(sums.values()) < asked / 200:
        raise SystemExit(f"one of the verdicts is too rare for this to say much: {sums}")
    return f"{asked} requests to {policies} policies, from seed {seed} on: {sums}"


def main():
    evaluate, total = sys.argv[1], int(sys.argv[2])
    results = os.path.join(ROOT, "build", "results", "policy-reference.tsv")
    verdict, text = "pass", ""
    try:
        text = compare(evaluate, total, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    except SystemExit as error:
        verdict, text = "fail", str(error)
    print(text)
    os.makedirs(os.path.dirname(results), exist_ok=True)
    with open(results, "w", encoding="utf-8") as f:
        f.write(f"{verdict}\tpolicy-reference\ttext, tables and a naive reading agree on {total} requests\tR01,R03,R05,R06,G06\n")
    sys.exit(verdict != "pass")


if __name__ == "__main__":
    main()
