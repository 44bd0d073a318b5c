# SPDX-License-Identifier: MIT
"""The deepest stack of a program, from the call graphs that gcc writes with -fcallgraph-info=su.

gcc does not know where a call through a pointer leads, but where it stands. The text there names a member, a parameter
or a macro: `port->recv(`, `wanted(`, `TCP_EVENT_RECV(`. The sources say which functions are ever stored under that
name (`.recv = raw_recv`) or handed over for it (`cpu_sleep(ms, net_wanted)`); REGISTERED adds what is hidden behind
lwIP's macros and tells names apart that lwIP uses twice. A call that may lead to several functions counts as the
deepest of them, so the result may be too large, and is too small only if a pointer is not found: those are reported.
"""
import functools
import os
import re

INDIRECT = "__indirect_call"
CHASED = 2 # how often a function may be handed on from one name to the next before it is stored
THIRD_PARTY = re.compile(r"(^|/)lwip/")

# Members of struct miniproxy_config that are named as much else is.
HOOKS = ("begin", "event", "head", "hop", "metrics", "page", "refusal", "totals")

# Where to look instead, for a macro or member, if need be only in one function ("caller:name") or file ("file:name").
REGISTERED = {
    "accept_of_lwip": r"\btcp_accept\s*\([^,;]*,\s*&?(accept_function)\s*\)",
    "TCP_EVENT_ACCEPT": r"\btcp_accept\s*\([^,;]*,\s*&?(\w+)\s*\)",
    "TCP_EVENT_RECV": r"\btcp_recv\s*\([^,;]*,\s*&?(\w+)\s*\)",
    "TCP_EVENT_CLOSED": r"\btcp_recv\s*\([^,;]*,\s*&?(\w+)\s*\)",
    "TCP_EVENT_SENT": r"\btcp_sent\s*\([^,;]*,\s*&?(\w+)\s*\)",
    "TCP_EVENT_POLL": r"\btcp_poll\s*\([^,;]*,\s*&?(\w+)\s*,",
    "TCP_EVENT_ERR": r"\btcp_err\s*\([^,;]*,\s*&?(\w+)\s*\)",
    "TCP_EVENT_CONNECTED": r"\btcp_connect\s*\([^;]*,\s*&?(\w+)\s*\)",
    **{f"miniproxy.c:{hook}": rf"\.{hook}\s*=\s*&?(\w+)" for hook in HOOKS},
    "API_EVENT": r"#define DEFAULT_SOCKET_EVENTCB (\w+)",
    "dns_call_found:found": r"\bdns_gethostbyname(?:_addrtype)?\s*\([^;]*?,\s*&?(\w+)\s*,",
    "api_lib.c:callback": r"#define DEFAULT_SOCKET_EVENTCB (\w+)",
    "miniproxy_lwip_sockets.c:callback": r"#define DEFAULT_SOCKET_EVENTCB (\w+)",
    "sockets.c:callback": r"#define DEFAULT_SOCKET_EVENTCB (\w+)",
    "udp.c:recv": r"\budp_recv\s*\([^,;]*,\s*&?(\w+)\s*,",
    "raw.c:recv": r"\braw_recv\s*\([^,;]*,\s*&?(\w+)\s*,",
    "tcpip.c:function": r"\btcpip_(?:try_)?callback\w*\s*\(\s*&?(\w+)",
    "fn": r"\b(?:netconn_apimsg|tcpip_api_call|tcpip_send_msg_wait_sem)\s*\(\s*&?(\w+)",
    "input": r"\b(ethernet_input|tcpip_input|ip_input|netif_input)\b",
    "acd_conflict_callback": r"\bacd_add\s*\([^;]*,\s*&?(\w+)\s*\)",
    "lwip_cyclic_timer:handler": r"\bHANDLER\s*\((\w+)\)",
    "sys_check_timeouts:handler": r"\bsys_timeout(?:_abs)?\s*\([^;]*?,\s*&?(\w+)\s*,",
}


def short(title):
    return re.sub(r"^.*:", "", title)


class Graph:
    """The call graphs of one or more objects, together."""

    def __init__(self, paths):
        self.frames = {}    # function: octets
        self.calls = {}     # function: functions
        self.pointers = {}  # function: places of its calls through pointers, "file:line:column"
        self.dynamic = []   # functions with a frame of variable size
        self.files = set()  # sources
        for path in paths:
            with open(path, encoding="utf-8") as f:
                self.read(f.read())

    def read(self, text):
        self.files.update(re.findall(r'^graph: \{ title: "([^"]+)"', text, re.M))
        for title, label in re.findall(r'^node: \{ title: "([^"]+)" label: "([^"]*)"', text, re.M):
            size = re.search(r"(\d+) bytes \((\w[\w,]*)\)", label)
            if size is None:
                continue
            self.frames[title] = max(int(size.group(1)), self.frames.get(title, 0))
            if size.group(2) not in ("static", "dynamic,bounded"):
                self.dynamic.append(title)
        for source, target, place in re.findall(
                r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"(?: label: "([^"]*)")?', text, re.M):
            self.files.add(place.split(":")[0])
            if target == INDIRECT:
                self.pointers.setdefault(source, set()).add(place)
            else:
                self.calls.setdefault(source, set()).add(target)

    def resolve(self, root):
        """Turn calls through pointers into calls. {name: where}, of those that are found to lead nowhere."""
        sources, unknown = Sources(root, self), {}
        for caller, places in self.pointers.items():
            for place in places:
                name, functions = sources.called_at(caller, place)
                if not functions:
                    unknown.setdefault(name, place)
                self.calls.setdefault(caller, set()).update(functions)
        return unknown

    def deepest(self, start=None):
        """((octets, path), recursions): from one function, or whichever is deepest. A recursion counts one round."""
        known, recursions = {}, []

        def visit(name, path):
            if name in path:
                recursions.append(path[path.index(name):] + [name])
                return 0, []
            if name not in known:
                below = [visit(callee, path + [name]) for callee in sorted(self.calls.get(name, ()))]
                depth, tail = max(below, default=(0, []))
                known[name] = (self.frames.get(name, 0) + depth, [name] + tail)
            return known[name]

        names = [start] if start else sorted(self.frames)
        worst = max((visit(name, []) for name in names), default=(0, []))
        return worst, recursions

    def text(self, path):
        return " > ".join(f"{short(n)} {self.frames.get(n, 0)}" for n in path)

    def reachable(self, start):
        found, todo = set(), [start]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.calls.get(name, ())
        return found


class Sources:
    """Where pointers lead, read in the sources of a graph."""

    def __init__(self, root, graph):
        self.lines = {}
        own, all_of_it = [], []
        for name in sorted(graph.files):
            path = os.path.join(root, name)
            if os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                self.lines[name] = text.split("\n")
                text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
                all_of_it.append(text)
                if not THIRD_PARTY.search(name):
                    own.append(text)
        self.own, self.all = "\n".join(own), "\n".join(all_of_it)
        self.functions = {}
        for title in graph.frames:
            self.functions.setdefault(short(title), set()).add(title)
        self.known = {}

    def called_at(self, caller, place):
        """(name, functions) of the call through a pointer in that function at file:line:column."""
        file, line, column = place.rsplit(":", 2)
        text = self.lines.get(file, [""] * int(line))[int(line) - 1][int(column) - 1:]
        found = re.search(r"([A-Za-z_]\w*)(?:\[[^\]]*\])?\)?\s*\(", text)
        if found is None:
            return place, set()
        name = found.group(1)
        # what is ours calls what is ours: the port's recv is not lwIP's
        third_party = bool(THIRD_PARTY.search(file))
        text = self.all if third_party else self.own
        for key in (f"{short(caller)}:{name}", f"{os.path.basename(file)}:{name}", name):
            if key in REGISTERED:
                names = re.findall(REGISTERED[key], text) or re.findall(REGISTERED[key], self.all)
                return key, set().union(*(self.functions.get(n, set()) for n in names))
        if (name, third_party) not in self.known:
            leads_to = self.stored_as(name, text, set()) or self.stored_as(name, self.all, set())
            self.known[name, third_party] = leads_to
        return name, self.known[name, third_party]

    def stored_as(self, name, text, seen):
        """Functions ever stored in a variable or member, or handed over as a parameter, of that name. A variable that
        is stored there in turn is looked up in the same way."""
        if name in seen or len(seen) > CHASED or name == "NULL" or name.isdigit():
            return set()
        seen = seen | {name}
        found = set()
        for value in set(re.findall(rf"\b{name}\s*=\s*&?(?:\(\w+\)\s*)?(\w+)\s*[;,}})]", text)):
            found |= self.functions.get(value) or self.stored_as(value, text, seen)
        takes = re.compile(rf"\(\*\s*{name}\)|\w[\s*]+{name}\s*$")
        for taker, parameters in definitions(text):
            if name not in parameters:
                continue
            at = next((n for n, parameter in enumerate(split(parameters)) if takes.search(parameter.strip())), None)
            if at is None:
                continue
            # who calls it may stand anywhere
            for call in re.finditer(rf"\b{taker}\s*\(", self.all):
                given = split(arguments(self.all, call.end()))[at:at + 1]
                for value in re.findall(r"\b([A-Za-z_]\w*)\b(?!\s*\()", "".join(given)):
                    found |= self.functions.get(value) or self.stored_as(value, self.all, seen)
        return found


@functools.lru_cache(4)
def definitions(text):
    """[(function, its parameters)] of all that are defined."""
    return re.findall(r"\b(\w+)\s*\(((?:[^;{}()]|\([^;{}()]*\))*)\)\s*\{", text)


def split(arguments_text):
    """At the commas outside of parentheses."""
    parts, depth = [""], 0
    for c in arguments_text:
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def arguments(text, at):
    """What stands between the parenthesis before `at` and its partner."""
    depth = 1
    for end in range(at, min(len(text), at + 1000)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[at:end]
    return ""
