# SPDX-License-Identifier: MIT
"""A strict reader of the syslog lines that miniproxy sends: RFC 5424 section 6, without structured data, of which it has
none, and the words of port/miniproxy_log.h."""
import re

LINE = re.compile(
    r"<(?P<priority>0|[1-9]\d{0,2})>1 "
    r"(?P<time>-|\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)) "
    r"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<id>[!-~]{1,32}) - (?P<text>[ -~]+)")


def receive(sock):
    """The header as re.Match, and the words as a dictionary."""
    data = sock.recv(65536)
    match = LINE.fullmatch(data.decode("ascii"))
    assert match and int(match["priority"]) <= 191, data
    kind, *words = match["text"].split(" ")
    assert kind == match["id"] and all("=" in word for word in words), data
    return match, dict(word.split("=", 1) for word in words)
