# SPDX-License-Identifier: MIT
"""`miniproxy policy`: what its commands write, and how they end."""
import os
import random
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT
from reference import Writer

FLAGS = "-std=c11 -O1 -Wall -Wextra -Wconversion -Wpedantic -Werror".split()
CONFIG = '-DMINIPROXY_CONFIG="examples/desktop/config.h"'
COMPILERS = [cc for cc in ("gcc", "clang", "arm-none-eabi-gcc") if shutil.which(cc)]
EVERYTHING = """\
user anna = sha256:0123456789abcdef:%s
user ben = pbkdf2:1000:0123456789abcdef:%s
user "j\u00fcrgen ??/ \\"x\\"" = clear "a\\\\b \u00e4 ??="
user "00:11:22:33:44:55" = certificate
user kiosk = certificate
group staff = anna, ben, kiosk
net office = 192.168.10.0/24, fd00:10::/64
hosts some = .a.example, b.example
ports web = 80, 443, 8000-8099
paths odd = "/*", "/??/", "/\\""
types video = video/*, audio/*
agents old = "MSIE \\"", "/*", "//", "??/"
times hours = mon-fri 08:00-18:00, sat 22:00-06:00
deny from office or users staff hosts some ports web methods GET, HEAD paths odd types video agents old times hours
allow users "j\u00fcrgen ??/ \\"x\\"" to private, any ports any
deny literals paths "/\\\\"
allow users "00:11:22:33:44:55"
allow from office to 10.0.0.1 ports 22
parent up = "http://a%%22b:%%5c%%3f%%3f%%2f@p.example:3129" check "http://a.example/??/\\"" every 9s rise 3 fall 4
parent second = socks5://[fd00::1] check every 65535 s
origins farm = 10.0.0.1:8080, x.example fall 255
route from office users staff hosts some to private via second, up in turn resolve
route hosts "one-word" via farm
route via up
route directly
limit each client from office down 8 kbit/s up 1 GB/s burst 64 KiB requests 2/s burst 7 requests at once 65535
limit each user users staff at once 1
limit all together requests 1/min
allow from office methods pages, other paths "/metrics"
maintenance "??/ back \\"at\\" 14:00 \u00e4 \\\\"
""" % ("ab" * 32, "cd" * 32)

WHOLE = "7 rules, 5 users, 4 routes by 4 hops and 3 limits are the same; hits: "
WAYS = ["-DMINIPROXY_WITH_ROUTES=1", "-DMINIPROXY_WITH_LIMITS=1", "-DMINIPROXY_WITH_PAGES=1",
        "-DMINIPROXY_WITH_MAINTENANCE=1"]


def compiled(policies, text, *options):
    policies.write("p.policy", text)
    done = policies.run("policy", "compile", "p.policy", "-o", "p.c", *options)
    assert done.returncode == 0 and done.stdout == b"" and done.stderr == b"", done.stderr.decode()
    assert not os.path.exists(os.path.join(policies.directory, "p.c.tmp"))


def compare(policies, requests=20000):
    """The compiled tables against those that the text becomes now."""
    program = os.path.join(policies.directory, "compare")
    built = subprocess.run(["gcc", *FLAGS, "-pthread", CONFIG, "-DMINIPROXY_WITH_PBKDF2=1", "-DMINIPROXY_WITH_TLS=1",
                            "-I" + ROOT, os.path.join(policies.directory, "p.c"), os.path.join(BUILD, "compare.o"),
                            os.path.join(BUILD, "parts.a"), "-o", program],
                           capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = policies.run("p.policy", str(requests), program=program)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout.decode()


def test_everything_compiles_to_what_it_is(policies):
    compiled(policies, EVERYTHING, "--name", "compiled_policy")
    assert compare(policies) == WHOLE + "no\n"


def test_hits(policies):
    compiled(policies, EVERYTHING, "--name", "compiled_policy", "--hits")
    assert compare(policies) == WHOLE + "yes\n"


def test_nothing_compiles_to_nothing(policies):
    compiled(policies, "# empty\n", "--name", "compiled_policy")
    assert compare(policies) == "0 rules, 0 users, 0 routes by 0 hops and 0 limits are the same; hits: no\n"


@pytest.mark.parametrize("seed", range(8))
def test_random_policies_compile_to_what_they_are(policies, seed):
    writer = Writer(random.Random(seed))
    for _ in range(25):
        writer.rule()
    compiled(policies, "\n".join(writer.lines) + "\n", "--name", "compiled_policy")
    assert " rules, " in compare(policies, 100000)


def test_large_set_compiles(policies):
    policies.write("list", "".join(f"n{i}.h{i % 7}.example\n" for i in range(5000)))
    compiled(policies, "deny hosts file \"list\" with subdomains\nallow\n", "--name", "compiled_policy")
    compare(policies, 2000)


@pytest.mark.parametrize("cc", COMPILERS)
def test_no_compiler_has_anything_to_say(policies, cc):
    compiled(policies, EVERYTHING, "--hits")
    for options in ([CONFIG], ["-DMINIPROXY_WITH_CONDITIONS=1", "-DMINIPROXY_WITH_PBKDF2=1"],
                    ["-DMINIPROXY_WITH_CONDITIONS=1", "-DMINIPROXY_WITH_PBKDF2=1", "-DMINIPROXY_WITH_IPV6=0"]):
        if options == [CONFIG]:
            options.append("-DMINIPROXY_WITH_PBKDF2=1")
        options += ["-DMINIPROXY_WITH_TLS=1", *WAYS]
        built = subprocess.run([cc, *FLAGS, *options, "-I" + ROOT, "-c", os.path.join(policies.directory, "p.c"), "-o",
                                os.path.join(policies.directory, "p.o")], capture_output=True, text=True, check=False)
        assert built.returncode == 0 and not built.stderr, built.stderr


@pytest.mark.parametrize("text,missing", [
    ("user a = clear \"b\"\n", "AUTH"),
    ("user a = pbkdf2:9:0123456789abcdef:%s\n" % ("ab" * 32), "PBKDF2"),
    ("deny agents \"x\"\n", "CONDITIONS"), ("deny types a/b\n", "CONDITIONS"),
    ("deny times 08:00-09:00\n", "CONDITIONS"), ("user a = certificate\nallow users a\n", "TLS"),
    ("route directly\n", "ROUTES"), ("limit each client at once 1\n", "LIMITS"),
    ("allow methods pages\n", "PAGES"), ("maintenance \"x\"\n", "MAINTENANCE"),
])
def test_builds_that_lack_something_are_told(policies, text, missing):
    compiled(policies, text)
    for value in "01":
        built = subprocess.run(["gcc", *FLAGS, "-DMINIPROXY_WITH_PBKDF2=1" if missing == "AUTH" else "-DNOTHING",
                                f"-DMINIPROXY_WITH_{missing}={value}", "-I" + ROOT, "-c",
                                os.path.join(policies.directory, "p.c"), "-o", os.path.join(policies.directory, "p.o")],
                               capture_output=True, text=True, check=False)
        assert (built.returncode == 0) == (value == "1"), built.stderr
        assert (f"MINIPROXY_WITH_{missing} is 0" in built.stderr) == (value == "0")


def test_logins_and_checks_that_do_not_fit_are_told(policies):
    text = f"parent p = http://a:{'b' * 94}@c check \"http://d/{'e' * 600}\" every 1s\nroute via p\n"
    compiled(policies, text)
    for login, head, said in ((96, 1024, None), (95, 1024, "CREDENTIALS_MAX < 96"), (96, 700, "HEAD_MAX < ")):
        built = subprocess.run(["gcc", *FLAGS, *WAYS, f"-DMINIPROXY_CREDENTIALS_MAX={login}",
                                f"-DMINIPROXY_BUFFER_SIZE={head}", "-I" + ROOT, "-c",
                                os.path.join(policies.directory, "p.c"), "-o", os.path.join(policies.directory, "p.o")],
                               capture_output=True, text=True, check=False)
        assert (built.returncode == 0) == (said is None) and (said or "") in built.stderr, built.stderr


def test_credentials_that_do_not_fit_are_told(policies):
    compiled(policies, f"user a = clear \"{'x' * 94}\"\nallow users a\n")
    for limit in (95, 96):
        built = subprocess.run(["gcc", *FLAGS, f"-DMINIPROXY_CREDENTIALS_MAX={limit}", "-I" + ROOT, "-c",
                                os.path.join(policies.directory, "p.c"), "-o", os.path.join(policies.directory, "p.o")],
                               capture_output=True, text=True, check=False)
        assert (built.returncode == 0) == (limit == 96), built.stderr


def test_large_set_is_a_blob(policies):
    policies.write("list", "".join(f"n{i}.example\n" for i in range(17)))
    for count, blob in ((16, False), (17, True)):
        policies.write("list", "".join(f"n{i}.example\n" for i in range(count)))
        compiled(policies, "deny hosts file \"list\"\n")
        with open(os.path.join(policies.directory, "p.c"), encoding="utf-8") as f:
            text = f.read()
        assert ("MINIPROXY_WITH_HOST_BLOBS is 0" in text) == blob == ("policy_blob_0" in text)


def test_rules_and_sets_are_shared(policies):
    """Equal sets are one, whatever their names and order."""
    compiled(policies, "net a = 10.0.0.0/8, 192.168.0.0/16\nnet b = 192.168.0.0/16, 10.0.0.0/8, 10.1.0.0/16\n"
                       "allow from a\nallow from b\ndeny to 192.168.0.0/16, 10.0.0.0/8\n")
    with open(os.path.join(policies.directory, "p.c"), encoding="utf-8") as f:
        text = f.read()
    assert text.count("struct miniproxy_nets policy_nets") == 1
    assert "// p.policy:1: a" in text and "// p.policy:2: b" in text
    assert "// rule 2: p.policy:5: deny to 192.168.0.0/16, 10.0.0.0/8" in text


def test_size_is_that_of_the_object(policies):
    """What `check` says, against the sections of an object for Cortex-M3."""
    if "arm-none-eabi-gcc" not in COMPILERS:
        pytest.skip("arm-none-eabi-gcc is not installed")
    compiled(policies, EVERYTHING)
    obj = os.path.join(policies.directory, "p.o")
    subprocess.run(["arm-none-eabi-gcc", "-std=c11", "-mcpu=cortex-m3", "-mthumb", "-Os", "-I" + ROOT,
                    "-DMINIPROXY_WITH_CONDITIONS=1", "-DMINIPROXY_WITH_PBKDF2=1", "-DMINIPROXY_WITH_TLS=1", *WAYS,
                    "-fno-merge-constants", "-c",
                    os.path.join(policies.directory, "p.c"), "-o", obj], check=True)
    done = subprocess.run(["arm-none-eabi-size", obj], capture_output=True, text=True, check=True)
    flash = sum(int(n) for n in done.stdout.splitlines()[1].split()[:2])
    said = policies.run("policy", "check", "p.policy").stdout.decode().splitlines()[-1]
    assert "bytes of flash" in said
    assert abs(int(said.split()[1]) - flash) <= flash // 20 + 40, (said, flash)  # padding


# ---- Exit status

@pytest.mark.parametrize("words", [
    [], ["frobnicate"], ["check"], ["check", "a", "b"], ["check", "--name", "x", "good"], ["compile"],
    ["compile", "good", "--name"], ["compile", "good", "--name", "1a"], ["compile", "good", "--name", "a-b"],
    ["compile", "good", "--name", "int"], ["compile", "good", "--name", "while"], ["compile", "good", "--name", "bool"],
    ["compile", "good", "-x"], ["explain", "good"], ["explain", "good", "10.0.0.1", "-", "GET"], ["lint"],
    ["diff", "good"],
])
def test_wrong_usage(policies, words):
    policies.write("good", "allow\n")
    done = policies.run("policy", *words)
    assert done.returncode == 2 and done.stderr.startswith(b"miniproxy: policy: expected ") and b"Usage:" in done.stderr


@pytest.mark.parametrize("words", [
    ["check", "bad"], ["compile", "bad"], ["compile", "bad", "-o", "out.c"], ["lint", "bad"],
    ["explain", "bad", "10.0.0.1", "-", "GET", "http://a.example/"], ["diff", "good", "bad"], ["diff", "bad", "good"],
    ["check", "missing"], ["compile", "good", "-o", "no/such/dir"]])
def test_files_with_errors(policies, words):
    policies.write("good", "allow\n")
    policies.write("bad", "allow\nalow\n")
    done = policies.run("policy", *words)
    assert done.returncode == 2 and b"expected" in done.stderr
    assert not os.path.exists(os.path.join(policies.directory, "out.c"))


def test_help(policies):
    done = policies.run("policy", "help")
    assert done.returncode == 0 and b"Usage: miniproxy policy check FILE" in done.stdout


def test_check_says_what_there_is(policies):
    policies.write("list", "a.example\nb.example\n")
    text = policies.good("user a = clear \"b\"\nallow users a to any, private hosts file \"list\"\n")
    assert "list: 2 names" in text
    assert "p.policy: 1 rules, 2 in the tables; 1 users; 2 host names" in text
    rows = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if line.endswith(" bytes")}
    assert rows["rules"] == ["2", "48"] and rows["nets"] == ["1", str(12 + 3 * 5 + 17)]
    assert rows["hosts"] == ["1", str(16 + 2 * (4 + 10))] and rows["users"] == ["1", str(20 + 2 + 2)]
