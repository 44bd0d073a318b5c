# SPDX-License-Identifier: MIT
"""`miniproxy policy explain`, `lint` and `diff` on planted policies, and against trying every request of random ones.

    audit.py PROGRAM BRUTE RESULTS.tsv [POLICIES]
"""
import os
import re
import shlex
import subprocess
import sys
import tempfile

PROGRAM, BRUTE, RESULTS = (os.path.abspath(path) for path in sys.argv[1:4])
POLICIES = sys.argv[4] if len(sys.argv) > 4 else "10000"

USERS = 'user anna = clear "a-password"\nuser ben = clear "b-password"\ngroup staff = anna, ben\n'
LAN = "net lan = 192.168.10.0/24\n"

# (name, policy, texts that lint must print, texts that it must not). Line breaks count as one blank.
LINT = [
    ("covered by one rule", LAN + "allow from lan hosts .a.example\ndeny from 192.168.10.5\nallow from 192.168.10.5 ports 80\n",
     ["p.policy:4: error: rule 2: never matches: rule 1 (p.policy:3) alone matches every request",
      "covered by | deny from 192.168.10.5"], ["together"]),
    ("a deny that comes too late", LAN + "allow from lan\ndeny from 192.168.10.5\n",
     ["p.policy:3: warning: rule 1: changes nothing: rule 0 (p.policy:2) before it has allowed such requests"], []),
    ("a deny-list that comes too late for some", LAN + "net lab = 10.0.0.0/8\nallow from lan\ndeny literals\ndeny hosts .bad.example\nallow from lab\n",
     ["note: rule 2: rule 0 (p.policy:3: allow from lan) before it has allowed some requests to these hosts"], []),
    ("a rule that only looks covered: CONNECT to another port", LAN + "allow from lan\ndeny from lan methods CONNECT ports 25\nallow from lan hosts a.example ports any\n",
     [], ["rule 1: never"]),
    ("a rule that only looks covered: addresses inside", LAN + "allow from lan\ndeny from lan to private\nallow from lan to 10.0.0.0/8\n",
     ["rule 2: never matches: rule 1 (p.policy:3) alone"], ["rule 1: never"]),
    ("covered by two rules together",
     "allow from 10.0.0.0/9 ports any\nallow from 10.128.0.0/9 ports any\ndeny from 10.0.0.0/8 to 8.8.8.8\n",
     ["rule 2: never matches: rule 0 (p.policy:1) and rule 1 (p.policy:2) together match"], ["alone"]),
    ("covered by three rules, and a fourth that has nothing to do with it",
     LAN + "deny hosts .x.example\ndeny from lan ports 1-100\ndeny from lan ports 101-60000\ndeny from lan ports 60001-65535\n"
     "allow from lan hosts a.example\n",
     ["rule 4: never matches: rule 1 (p.policy:3), rule 2 (p.policy:4) and rule 3 (p.policy:5) together"], []),
    ("the same verdict twice is a warning", LAN + "deny from lan\ndeny from 192.168.10.7\nallow from 10.0.0.0/8\n",
     ["warning: rule 1: never matches"], ["error:"]),
    ("conditions that exclude each other: a literal with a name", LAN + "deny literals hosts a.example\nallow from lan\n",
     ["error: rule 0: never matches: an IP literal is in no set of hosts"], []),
    ("conditions that exclude each other: CONNECT with a path", LAN + 'deny methods CONNECT paths "/x"\nallow from lan\n',
     ["rule 0: never matches: CONNECT has no path"], []),
    ("conditions that exclude each other: CONNECT with a type", LAN + "deny methods CONNECT types video/*\nallow from lan\n",
     ["rule 0: never matches: the proxy does not see the types in a tunnel"], []),
    ("conditions that exclude each other: HEAD with a type", LAN + "deny methods HEAD types video/*\nallow from lan\n",
     ["rule 0: never matches: responses to HEAD have no content"], []),
    ("a user agent that has a forbidden part", LAN + 'deny agents "curl"\ndeny agents "curl/8"\nallow from lan\n',
     ["rule 1: never matches: rule 0 (p.policy:2) alone"], []),
    ("a time within another one", LAN + "deny times mon-fri 08:00-18:00\nallow from lan times wed 09:00-10:00\nallow from lan\n",
     ["rule 1: never matches: rule 0 (p.policy:2) alone"], []),
    ("a time that goes over midnight is not covered", LAN + "deny times fri 08:00-24:00\nallow from lan times fri 22:00-02:00\nallow from lan hosts z.example\n",
     [], ["rule 1: never"]),
    ("an IPv4 network within IPv6 ones", "deny to 64:ff9b::a00:0/104\nallow from 192.168.0.0/16 to 64:ff9b::a01:0/112\n",
     ["rule 1: never matches: rule 0 (p.policy:1) alone"], []),
    ("a deny at the end that changes nothing", LAN + "allow from lan ports 80\ndeny from lan ports 25\n",
     ["note: rule 1: changes nothing: no rule behind it allows what it denies"], []),
    ("a closing deny is no finding", LAN + "allow from lan hosts a.example\ndeny\n", ["0 errors, 0 warnings, 0 notes"], ["changes nothing"]),
    ("a deny that makes a login useless changes something", LAN + USERS + "deny from lan ports 25\nallow users staff from lan hosts a.example ports 25\n",
     [], ["changes nothing"]),
    ("an allow that a later one makes useless", LAN + "allow from lan ports 80\nallow from lan ports 1-1000\n",
     ["warning: rule 0: changes nothing: rule 1 (p.policy:3) behind it allows the same"], []),
    ("an allow-list that a later rule makes useless", LAN + "hosts good = .good.example\nallow from lan hosts good\nallow from lan\n",
     ["warning: rule 0: its list of hosts restricts nothing: rule 1 (p.policy:4)"], []),
    ("an allow-list that IP literals bypass", LAN + "hosts good = .good.example\nallow from lan hosts good ports any\nallow from lan literals\n",
     ["warning: rule 0: allows some hosts by name, but rule 1"], []),
    ("an allow-list alone is no finding", LAN + "allow from lan hosts .good.example\n", ["0 errors, 0 warnings, 0 notes"], []),
    ("an allow-list for some, all for others is no finding", USERS + LAN + "allow from lan hosts .good.example\nallow users staff from 10.0.0.0/8\n",
     [], ["allows some hosts by name"]),
    ("a deny-list that IP literals bypass", LAN + "deny hosts .bad.example\nallow from lan\n",
     ["warning: rule 0: denies hosts by name only: rule 1", 'Put "deny literals" before that rule'], []),
    ("a deny-list with literals denied", LAN + "deny hosts .bad.example\ndeny literals\nallow from lan\n", [], ["denies hosts by name only"]),
    ("a deny-list before an allow-list", LAN + "deny hosts .bad.good.example\nallow from lan hosts .good.example\n",
     [], ["denies hosts by name only"]),
    ("names that open addresses inside", LAN + "allow from lan to 10.1.0.0/16\n", ["note: rule 0: opens addresses inside to every name"], []),
    ("names that open this machine", LAN + "allow from lan to loopback\n", ["warning: rule 0: opens addresses inside, this machine's own too"], []),
    ("addresses inside, by literal only", LAN + "allow from lan to 10.1.0.0/16 literals\n", [], ["opens addresses"]),
    ("addresses inside, for named hosts", LAN + "allow from lan to 10.1.0.0/16 hosts nas.example\n", [], ["opens addresses"]),
    ("an open proxy", "allow ports 80, 443\n", ["warning: rule 0: is for everybody", "open proxy"], []),
    ("an open proxy for all of IPv4", "allow from 0.0.0.0/0 ports 80\n", ["warning: rule 0: is for everybody"], []),
    ("open for some destinations", "allow hosts a.example\n", ["note: rule 0: is for everybody"], ["open proxy"]),
    ("not open: a deny before keeps others out", "net lan = 10.0.0.0/8\nnet rest = 0.0.0.0/5, 8.0.0.0/7, 11.0.0.0/8, 12.0.0.0/6, 16.0.0.0/4, 32.0.0.0/3, 64.0.0.0/2, 128.0.0.0/1\n"
     "deny from rest\nallow ports 80\n", [], ["everybody"]),
    ("CONNECT to every port", LAN + "allow from lan ports any\n", ["warning: rule 0: lets CONNECT through to every port", ":25 "], []),
    ("CONNECT to every port but one", LAN + "deny ports 25\nallow from lan ports any\n", ["rule 1: lets CONNECT through to nearly every port"], []),
    ("every port, but not for CONNECT", LAN + "deny methods CONNECT\nallow from lan ports any\n", [], ["lets CONNECT"]),
    ("every port of one host", LAN + "allow from lan hosts a.example ports any\n", [], ["lets CONNECT"]),
    ("allow by path", LAN + 'allow from lan paths "/pub"\n', ["warning: rule 0: allows by path"], []),
    ("allow by user agent", LAN + 'allow from lan agents "Kiosk/1"\n', ["warning: rule 0: depends on User-Agent"], []),
    ("paths that a tunnel hides", LAN + 'deny paths "/admin"\nallow from lan\n', ["warning: rule 0: sees paths of http:// only"], []),
    ("types that a tunnel hides", LAN + "deny types video/*\nallow from lan\n", ["warning: rule 0: sees types of http:// only"], []),
    ("paths where no tunnel goes", LAN + 'deny methods CONNECT\ndeny paths "/admin"\nallow from lan\n', [], ["sees paths"]),
    ("a user in no rule", LAN + USERS + "user eva = clear \"e-password\"\nallow users staff\n", ["warning: user eva: in no rule"], ["users anna, ben: in no"]),
    ("users of `any` are in a rule", USERS + "allow users any\n", [], ["in no rule"]),
    ("passwords in clear", USERS + "allow users staff\n", ["warning: users anna, ben: password in clear"], []),
    ("a set that no rule uses", LAN + "net lab = 10.0.0.0/8\nallow from lan\n", ["p.policy:2: warning: net lab is used by no rule"], ["net lan"]),
    ("a name that is denied before", LAN + "hosts bad = .x.example\nhosts good = .good.example, www.x.example\ndeny hosts bad\nallow from lan hosts good\n",
     ["warning: rule 1: never decides about www.x.example"], ["about .good"]),
    ("a name below which is denied, but not itself", LAN + "hosts bad = www.x.example\nhosts good = .x.example, .y.example\ndeny hosts bad\nallow from lan hosts good\n",
     [], ["never decides"]),
    ("no rules", "# nothing\n", ["no rules: everything is denied"], []),
]

BASE = LAN + USERS + """hosts ads = .ads.example
deny hosts ads
allow from lan ports 80, 443
allow users staff to 10.1.0.0/16
"""

# (name, arguments after the file, exit status, texts)
EXPLAIN = [
    ("an earlier rule and why it does not match", BASE, ["192.168.10.5", "-", "GET", "http://www.example.com/"], 0,
     ["www.example.com is not in ads (.ads.example)", "rule 1, p.policy:7: allow from lan ports 80, 443",
      "Allowed by rule 1 (p.policy:7), if", "a public address"]),
    ("a client that is not in the network", BASE, ["192.168.11.5", "-", "GET", "http://www.example.com/"], 1,
     ["client 192.168.11.5 is not in lan (192.168.10.0/24)"]),
    ("a name that is denied", BASE, ["192.168.10.5", "-", "GET", "http://x.ADS.example./"], 1, ["Denied by rule 0", "403 policy_denied"]),
    ("the address of a name", BASE, ["192.168.10.5", "-", "GET", "http://www.example.com/", "--address", "10.9.9.9"], 1,
     ["403 address_denied", "address 10.9.9.9 is private"]),
    ("an IPv4 address in an IPv6 one", BASE, ["192.168.10.5", "anna", "GET", "http://www.example.com/", "--address", "64:ff9b::a01:203"], 0,
     ["Allowed by rule 2"]),
    ("a login that is missing", BASE, ["10.0.0.1", "-", "GET", "http://www.example.com/", "--address", "10.1.2.3"], 1, ["407 login_missing"]),
    ("a login that would not help", BASE, ["10.0.0.1", "-", "GET", "http://x.ads.example/"], 1, ["403 policy_denied"]),
    ("a port of CONNECT", BASE, ["192.168.10.5", "-", "CONNECT", "www.example.com:25"], 1, ["403 connect_port_denied"]),
    ("an https:// URL", BASE, ["192.168.10.5", "-", "GET", "https://www.example.com/x", "--address", "93.184.215.14"], 0,
     ["the client sends CONNECT", "CONNECT www.example.com:443", "Allowed by rule 1"]),
    ("a literal", BASE, ["192.168.10.5", "-", "GET", "http://10.2.2.2/"], 1, ["403 address_denied"]),
    ("an IPv6 literal", BASE, ["192.168.10.5", "-", "GET", "http://[2600::1]:80/"], 0, ["Allowed by rule 1"]),
    ("the type of the response", LAN + "deny types video/*\nallow from lan\n",
     ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8"], 1,
     ["Allowed by rule 1", "403 type_denied", "the response has no content", "type like video/x-unlisted"]),
    ("a given type", LAN + "deny types video/*\nallow from lan\n",
     ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8", "--type", "video/mp4; x=y"], 1, ["Denied by rule 0", "403 type_denied"]),
    ("the time", LAN + "allow from lan times mon-fri 08:00-18:00\n", ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8"], 1,
     ["It depends", "the time is mon-fri 08:00-18:00", "mon-fri 00:00-08:00 and 18:00-24:00, sat-sun 00:00-24:00", "the clock is not set"]),
    ("a given time", LAN + "allow from lan times mon-fri 08:00-18:00\n",
     ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8", "--time", "fri 17:59"], 0, ["Allowed by rule 0"]),
    ("a time outside", LAN + "allow from lan times mon-fri 08:00-18:00\n",
     ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8", "--time", "fri 18:00"], 1, ["the time is not mon-fri 08:00-18:00"]),
    ("a user agent", LAN + 'deny agents "curl/"\nallow from lan\n',
     ["192.168.10.5", "-", "GET", "http://a.example/", "--address", "8.8.8.8", "--agent", "CURL/8.1"], 1, ["Denied by rule 0"]),
    ("either is enough", LAN + USERS + "allow from lan or users staff\n", ["10.0.0.1", "-", "GET", "http://a.example/"], 1,
     ["client 10.0.0.1 is not in lan (192.168.10.0/24), and nobody is logged in", "407 login_missing"]),
    ("no client", BASE, ["192.168.10", "-", "GET", "http://a.example/"], 2, ["expected the client's IP address"]),
    ("no such user", BASE, ["192.168.10.1", "eva", "GET", "http://a.example/"], 2, ["expected a user of the policy"]),
    ("a method in small letters", BASE, ["192.168.10.1", "-", "get", "http://a.example/"], 2, ["expected the method in capitals"]),
    ("another scheme", BASE, ["192.168.10.1", "-", "GET", "ftp://a.example/"], 2, ["expected a URL that begins with http:// or https://"]),
    ("no scheme", BASE, ["192.168.10.1", "-", "GET", "a.example/"], 2, ["expected a URL as http://host/path"]),
    ("CONNECT without a port", BASE, ["192.168.10.1", "-", "CONNECT", "a.example"], 2, ["expected host:port"]),
    ("a port that is none", BASE, ["192.168.10.1", "-", "GET", "http://a.example:70000/"], 2, ["expected a port from 1 to 65535"]),
    ("a host that is none", BASE, ["192.168.10.1", "-", "GET", "http://a..example/"], 2, ["expected a host name"]),
    ("an address of a literal", BASE, ["192.168.10.1", "-", "GET", "http://1.2.3.4/", "--address", "1.2.3.5"], 2, ["expected no address"]),
    ("a time that is none", BASE, ["192.168.10.1", "-", "GET", "http://a.example/", "--time", "25:00"], 2, ['expected a time as "mon 14:30"']),
]

# (name, old, new, (now, before) of each difference in order, or texts)
DIFF = [
    ("the same policy", BASE, BASE, [], ["No decision changes."]),
    ("the same in other words", LAN + "allow from lan ports 80\nallow from lan ports 81-90\n",
     "net a = 192.168.10.0/25\nnet b = 192.168.10.128/25\nallow from a, b ports 80-90\n", [], ["No decision changes."]),
    ("rules that do not meet in another order", LAN + "deny from lan to 1.2.3.4\nallow from 10.0.0.0/8\n", LAN + "allow from 10.0.0.0/8\ndeny from lan to 1.2.3.4\n", [],
     ["No decision changes."]),
    ("rules that meet in another order", LAN + "deny to 1.2.3.4\nallow from lan\n", LAN + "allow from lan\ndeny to 1.2.3.4\n",
     [("allowed", "denied")], ["1.2.3.4"]),
    ("a port more", LAN + "allow from lan ports 80\n", LAN + "allow from lan ports 80, 8080\n", [("allowed", "denied")], [":8080/"]),
    ("one client less", "allow from 10.0.0.0/8 ports 80\n", "deny from 10.0.0.0\nallow from 10.0.0.0/8 ports 80\n",
     [("denied", "allowed")], ["explain new.policy 10.0.0.0 "]),
    ("a minute", LAN + "allow from lan times mon 08:00-18:00\n", LAN + "allow from lan times mon 08:00-18:01\n", [("allowed", "denied")], ["mon 18:00"]),
    ("a login instead of a refusal", USERS + LAN + "allow from lan\n", USERS + LAN + "allow from lan\nallow users staff hosts a.example\n",
     [("allowed", "denied"), ("asked for a login", "denied")], []),
    ("a user who is gone, one who is new, and a new password", USERS + "allow users staff\n",
     'user anna = clear "other"\nuser eva = clear "e"\ngroup staff = anna, eva\nallow users staff\n', [],
     ["user anna has another password", "user ben is gone", "user eva is new"]),
    ("a user in another group", USERS + "group boss = anna\nallow users boss\n", USERS + "group boss = ben\nallow users boss\n",
     [("allowed", "denied"), ("denied", "allowed")], ["192.168.1.10 ben GET", "192.168.1.10 anna GET"]),
    ("a name in a list", LAN + "hosts bad = .a.example, b.example\ndeny hosts bad\nallow from lan\n",
     LAN + "hosts bad = .a.example, .b.example\ndeny hosts bad\nallow from lan\n", [("denied", "allowed")], ["unlisted-name.b.example"]),
]


def run(directory, *arguments):
    done = subprocess.run([PROGRAM, "policy", *arguments], cwd=directory, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def flat(text):
    return " ".join(text.split())


def write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)


def examples(output):
    """The explain commands that an output shows."""
    return [shlex.split(line.split("try: miniproxy policy ")[1]) for line in output.splitlines() if "try: miniproxy" in line]


def check_lint(directory, policy, there, absent):
    write(directory, "p.policy", policy)
    status, output = run(directory, "lint", "p.policy")
    text = flat(output)
    problems = [f"not said: {t}" for t in there if t not in text] + [f"said: {t}" for t in absent if t in text]
    clean = " 0 errors, 0 warnings," in " " + text
    if status != (0 if clean else 1):
        problems.append(f"exit status {status}")
    for command in examples(output):  # what lint shows is let through
        if run(directory, *command)[0] != 0:
            problems.append(f"not allowed: {command}")
    return problems, output


def check_explain(directory, policy, arguments, want, there):
    write(directory, "p.policy", policy)
    status, output = run(directory, "explain", "p.policy", *arguments)
    problems = [f"not said: {t}" for t in there if t not in flat(output)]
    if status != want:
        problems.append(f"exit status {status}")
    if max(map(len, output.splitlines())) > 120:
        problems.append("a line of more than 120 columns")
    return problems, output


def check_diff(directory, old, new, want, there):
    write(directory, "old.policy", old)
    write(directory, "new.policy", new)
    status, output = run(directory, "diff", "old.policy", "new.policy")
    problems = [f"not said: {t}" for t in there if t not in flat(output)]
    found = re.findall(r"^\d+\. ([a-z ]+), was ([a-z ]+):$", output, re.M)
    if found != want:
        problems.append(f"differences {found}")
    if status != (0 if "No decision changes." in output else 1):
        problems.append(f"exit status {status}")
    verdicts = {"allowed": r"^Allowed by", "denied": r"^Denied|403", "asked for a login": r"407 login_missing"}
    for (now, before), command in zip(found, examples(output)):
        for verdict, file in (now, "new.policy"), (before, "old.policy"):
            shown = run(directory, command[0], file, *command[2:])[1]
            if not re.search(verdicts[verdict], shown, re.M):
                problems.append(f"{file} is not {verdict}: {command}")
    return problems, output


def main():
    results = []

    def note(ok, name):
        results.append(f"{'pass' if ok else 'fail'}\taudit\t{name}\t-")

    with tempfile.TemporaryDirectory() as directory:
        for kind, cases, check in ("lint", LINT, check_lint), ("explain", EXPLAIN, check_explain), ("diff", DIFF, check_diff):
            for name, *case in cases:
                problems, output = check(directory, *case)
                note(not problems, f"{kind}: {name}")
                if problems:
                    print(f"== {kind}: {name}", *problems, output, sep="\n")
    brute = subprocess.run([BRUTE, "1", POLICIES], capture_output=True, text=True, timeout=1200)
    print(brute.stdout, brute.stderr)
    lines = [line for line in brute.stdout.splitlines() if line.count("\t") == 3]
    results.extend(lines or ["fail\taudit\trandom policies were tried\t-"])
    with open(RESULTS, "w", encoding="utf-8") as file:
        file.write("\n".join(results) + "\n")
    return any(line.startswith("fail") for line in results)


if __name__ == "__main__":
    sys.exit(main())
