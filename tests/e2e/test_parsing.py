# SPDX-License-Identifier: MIT
"""Heads: start-lines, field lines, versions, in requests and responses."""
import os
import time

import pytest

from peers import TOKEN, answer, request, response
from proxy import refused

HEAD_CAUSES = ("bad_request_line", "bad_field", "bad_target", "bad_host", "bad_length", "bad_coding")


def raw(origin, line=None, fields=b"", end=b"\r\n"):
    """A request to the origin with its parts as they stand."""
    line = line if line is not None else b"GET %s/ HTTP/1.1" % origin.url.encode()
    return line + end + b"Host: " + origin.authority.encode() + end + fields + end


def get_refused(proxy, origin, data, *tokens):
    client = proxy.client()
    client.send(data)
    message = refused(proxy, client, *tokens)
    assert not origin.peers, "the origin was contacted"
    return message


@pytest.mark.req("M01")
def test_octets_above_127_pass_unchanged(proxy, origin):
    every = bytes(range(0x80, 0x100))
    o = origin(answer(b"HTTP/1.1 200 \xe4\xff\x80\r\nContent-Length: 0\r\nX-Back: " + every + b"\r\n\r\n"))
    client = proxy.client()
    client.send(raw(o, fields=b"X-There: " + every + b"\r\n"))
    back = client.response()
    assert o.requests[0].get("X-There") == every
    assert back.get("X-Back") == every
    assert back.reason == b"\xe4\xff\x80"


@pytest.mark.req("M02", "Z10")
@pytest.mark.parametrize("blank", [b"\r\n", b"\r\n" * 2, b"\r\n" * 4])
def test_empty_lines_before_requests_are_skipped(proxy, origin, blank):
    o, client = origin(), proxy.client()
    for _ in range(3):
        client.send(blank + raw(o))
        assert client.response().status == 200
    assert len(o.requests) == 3


@pytest.mark.req("Z10")
def test_endless_empty_lines_are_refused(proxy, origin):
    get_refused(proxy, origin(), b"\r\n" * 50000, "bad_request_line")


@pytest.mark.req("M03", "M06")
@pytest.mark.parametrize("where", ["all", "line", "field", "end", "before"])
def test_lone_lf_is_refused_everywhere(proxy, origin, where):
    o = origin()
    data = {
        "all": raw(o, fields=b"A: b\n", end=b"\n"),
        "line": raw(o).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        "field": raw(o, fields=b"A: b\nC: d\r\n"),
        "end": raw(o)[:-2] + b"\n",
        "before": b"\n" + raw(o),
    }[where]
    get_refused(proxy, o, data, "bad_request_line", "bad_field")


@pytest.mark.req("M03", "M17")
def test_lone_lf_in_a_response_is_refused_too(proxy, origin):
    o, client = origin(answer(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", then_close=True)), proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_invalid", closes=False)


@pytest.mark.req("M04", "T12")
@pytest.mark.parametrize("place", [b"G\rET ", b"GET\r ", b"GET \r", b"/\rx HTTP", b"/ HTTP\r/", b"1.1\r \r\n",
                                   b"1.1\r\r\n"])
def test_bare_cr_in_request_line(proxy, origin, place):
    o = origin()
    plain = place.replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
    variants = {b"GET \r": (b"GET ", place), b"GET\r ": (b"GET ", place), b"/\rx HTTP": (b"/ HTTP", place),
                b"1.1\r \r\n": (b"1.1\r\n", place), b"1.1\r\r\n": (b"1.1\r\n", place)}
    old, new = variants.get(place, (plain, place))
    data = raw(o)
    assert old in data
    get_refused(proxy, o, data.replace(old, new, 1), "bad_request_line", "bad_target")


@pytest.mark.req("M04", "M07")
@pytest.mark.parametrize("field", [b"A: b\rc", b"A: b\r", b"A: \rb", b"A\r: b", b"\rA: b", b"A:\r b",
                                   b"A: b\rTransfer-Encoding: chunked", b"A: b\r\r\nC: d", b"A: b\r\rHost: evil"])
def test_bare_cr_in_field(proxy, origin, field):
    o = origin()
    get_refused(proxy, o, raw(o, fields=field + b"\r\n"), "bad_field")


@pytest.mark.req("M05", "M10")
@pytest.mark.parametrize("line", [b" A: b", b"\tA: b", b" ", b" Host: evil", b" Transfer-Encoding: chunked", b"\t \t"])
def test_blank_behind_request_line(proxy, origin, line):
    o = origin()
    data = b"GET %s/ HTTP/1.1\r\n%s\r\nHost: %s\r\n\r\n" % (o.url.encode(), line, o.authority.encode())
    get_refused(proxy, o, data, "bad_field")


@pytest.mark.req("M06", "S01", "S11", "Q01")
@pytest.mark.parametrize("line", [b"nocolon", b": empty", b":", b"sp ace: x", b"t\tab: x", b"(paren): x", b"sla/sh: x",
                                  b"a@b: x",
                                  b"a[b]: x", b"a{b}: x", b"a,b: x", b'"q": x', b"\xe4: x", b"a\xff: x", b"a=b: x",
                                  b"a\\b: x",
                                  b"<x>: y", b"a?: y", b"\x7f: y", b"=x", b"GET / HTTP/1.1"])
def test_malformed_field_line(proxy, origin, line):
    o = origin()
    get_refused(proxy, o, raw(o, fields=line + b"\r\n"), "bad_field")


@pytest.mark.req("M06")
@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00\r\n\r\n",
                                  b"EHLO me\r\n\r\n", b"\x00" * 200 + b"\r\n\r\n",
                                  b"\xff\xfe\r\n\r\n",
                                  b"{}\r\n\r\n", b"GET\r\n\r\n", b"GET \r\n\r\n", b" \r\n\r\n", b"/ HTTP/1.1\r\n\r\n",
                                  b"\x80\x2e\x01\x03\x01\r\n\r\n"])
def test_other_protocols(proxy, origin, junk):
    get_refused(proxy, origin(), junk, "bad_request_line", "bad_target")


@pytest.mark.req("M06")
def test_http2_preface(proxy, origin):
    get_refused(proxy, origin(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version_unsupported", "bad_target")


@pytest.mark.req("M06")
def test_tls_on_the_plain_port(proxy, origin):
    hello = bytes.fromhex("16030100ca010000c60303") + os.urandom(32) + b"\x20" + os.urandom(32)
    get_refused(proxy, origin(), hello + bytes.fromhex("0008130213031301") + os.urandom(100), "tls_on_plain_port")


CONTROLS = [bytes([c]) for c in range(0x20) if c not in (0x09, 0x0a, 0x0d)] + [b"\x7f"]


@pytest.mark.req("M07", "R08")
@pytest.mark.parametrize("octet", CONTROLS)
def test_control_octets_in_a_value(proxy, origin, octet):
    o = origin()
    get_refused(proxy, o, raw(o, fields=b"A: b" + octet + b"c\r\n"), "bad_field")


@pytest.mark.req("M07", "M06")
@pytest.mark.parametrize("octet", [b"\x00", b"\x01", b"\x0b", b"\x1f", b"\x7f"])
@pytest.mark.parametrize("place", ["method", "target", "version", "name", "edge"])
def test_control_octets_elsewhere(proxy, origin, octet, place):
    o = origin()
    url = o.url.encode()
    line = {"method": b"G" + octet + b"ET %s/ HTTP/1.1" % url, "target": b"GET %s/" % url + octet + b"x HTTP/1.1",
            "version": b"GET %s/ HTTP/1.1" % url + octet}.get(place)
    fields = {"name": b"A" + octet + b": b\r\n", "edge": b"A: b" + octet + b"\r\n"}.get(place, b"")
    get_refused(proxy, o, raw(o, line, fields), "bad_request_line", "bad_target", "bad_field")


@pytest.mark.req("M08")
@pytest.mark.parametrize("field", [b"Host : x", b"A : b", b"A\t: b", b"Transfer-Encoding : chunked",
                                   b"Content-Length : 5",
                                   b"Content-Length\t: 5", b"Connection : close",
                                   b"Transfer-Encoding\x20\x20: chunked"])
def test_blank_before_colon_in_request(proxy, origin, field):
    o = origin()
    get_refused(proxy, o, raw(o, fields=field + b"\r\n"), "bad_field")


@pytest.mark.req("M09")
def test_blank_before_colon_in_response_is_removed(proxy, origin):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\nX-A\t : b\r\n\r\nabc")), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert (back.body, back.get("X-A"), back.framing) == (b"abc", b"b", "length")
    assert client.ask("GET", o.url + "/").status == 200


@pytest.mark.req("M10", "B02")
@pytest.mark.parametrize("fields", [b"A: b\r\n c\r\n", b"A: b\r\n\tc\r\n", b"A: b\r\n \r\n",
                                    b"Transfer-Encoding:\r\n chunked\r\n",
                                    b"Transfer-Encoding: x\r\n chunked\r\n", b"A: b\r\n Content-Length: 5\r\n",
                                    b"A:\r\n b\r\n"])
def test_folded_request_field(proxy, origin, fields):
    o = origin()
    get_refused(proxy, o, raw(o, fields=fields), "bad_field")


@pytest.mark.req("M11", "S05", "Q03")
@pytest.mark.parametrize("fields", [b"A: b\r\n c\r\n", b"A: b\r\n\tc\r\n", b"Content-Length:\r\n 2\r\n", b" A: b\r\n",
                                    b"A: b\r\n \r\n"])
def test_folded_response_field(proxy, origin, fields):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nok", then_close=True)), proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_invalid", "origin_length", closes=False)


@pytest.mark.req("M07", "M17", "S05")
@pytest.mark.parametrize("field", [b"A: b\x00c", b"A: b\rc", b"nocolon", b": x", b"A b: c", b"A: \x01", b"A: b\x7f",
                                   b"A: b\r"])
def test_malformed_response_field(proxy, origin, field):
    script = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + field + b"\r\n\r\nok", then_close=True)
    o, client = origin(script), proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_invalid", closes=False)


@pytest.mark.req("M12", "S14")
@pytest.mark.parametrize("cut", [1, 10, -2, -1, -4, -20])
def test_end_inside_a_head_is_not_its_end(proxy, origin, cut):
    o, client = origin(), proxy.client()
    client.send(raw(o)[:cut])
    client.finish()
    refused(proxy, client, "head_cut")
    assert not o.peers


@pytest.mark.req("M12", "S03", "Z02", "Z03", "P02")
@pytest.mark.parametrize("cut", [5, -2])
def test_head_timeout(start, origin, cut):
    o, proxy = origin(), start("--allow-private", "--timeout", "head=0.4")
    client = proxy.client()
    client.send(raw(o)[:cut])
    refused(proxy, client, "head_timeout")
    assert not o.peers


@pytest.mark.req("S03", "Z03")
def test_silent_connection_is_closed_silently(start):
    proxy = start("--timeout", "head=0.4")
    assert proxy.client().closed() == "eof"


@pytest.mark.req("Z02")
def test_dripped_head_has_a_total_deadline(start, origin):
    o, proxy = origin(), start("--allow-private", "--timeout", "head=0.8")
    client, begun = proxy.client(), time.monotonic()
    data = raw(o, fields=b"".join(b"F%d: x\r\n" % i for i in range(100)))
    for octet in data:
        client.send(bytes([octet]))
        time.sleep(0.05)
        if time.monotonic() - begun > 1.2:
            break
    refused(proxy, client, "head_timeout")
    assert not o.peers


@pytest.mark.req("M01", "C01")
def test_head_in_any_split(proxy, origin):
    o = origin(answer(response(b"hello", "X-Answer: 1")))
    data = raw(o, fields=b"X-A: b\r\n")
    for split in range(1, len(data), 3):
        client = proxy.client()
        client.send(data[:split])
        time.sleep(0.002)
        client.send(data[split:])
        assert client.response().body == b"hello"
        client.close()


@pytest.mark.req("M12")
def test_head_octet_by_octet_both_ways(proxy, origin):
    def script(peer):
        peer.request()
        peer.drip(response(b"hello", "X-Answer: 1"), pause=0.002)
    o, client = origin(script), proxy.client()
    client.drip(raw(o, fields=b"X-A: b\r\n"), pause=0.001)
    back = client.response()
    assert (back.body, back.get("X-Answer")) == (b"hello", b"1")
    assert o.requests[0].get("X-A") == b"b"


@pytest.mark.req("M13", "H11")
def test_unknown_fields_pass_both_ways(proxy, origin):
    sent = [(b"X-Empty", b""), (b"!#$%&'*+-.^_`|~09Az", b"odd name"), (b"Cookie", b"a=b; c=d"),
            (b"Accept", b"*/*, text/html;q=0.1"),
            (b"X-Tab", b"a\tb"), (b"Authorization", b"Basic eDp5"), (b"If-None-Match", b'"x,y"'), (b"Origin", b"null"),
            (b"x-lower", b"kept"), (b"X-Long", b"v" * 4000)]
    lines = b"".join(k + b": " + v + b"\r\n" for k, v in sent)
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")), proxy.client()
    client.send(raw(o, fields=lines))
    back = client.response()
    for field in sent:
        assert field in o.requests[0].fields and field in back.fields


@pytest.mark.req("M14")
def test_order_of_equal_fields_is_kept(proxy, origin):
    cookies = [b"a=1; Path=/", b"b=2, still b; HttpOnly", b"c=3"]
    lines = b"".join(b"Set-Cookie: " + c + b"\r\nX-Between: %d\r\n" % i for i, c in enumerate(cookies))
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 0\r\n\r\n")), proxy.client()
    client.send(raw(o, fields=b"A: 3\r\nB: x\r\na: 1\r\nA: 2\r\n"))
    back = client.response()
    assert back.all("Set-Cookie") == cookies and back.all("X-Between") == [b"0", b"1", b"2"]
    assert o.requests[0].all("A") == [b"3", b"1", b"2"]


@pytest.mark.req("M15", "M16")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.9"])
def test_own_version_both_ways(proxy, origin, version):
    o = origin(lambda peer: (peer.request(), peer.send(response(version=version))))  # read_request insists on HTTP/1.1
    client = proxy.client()
    client.send(request("GET", o.url + "/", version=version))
    assert client.response().body == b"ok"  # read_response insists on HTTP/1.1 too


@pytest.mark.req("M16")
@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.0"])
def test_other_major_versions(proxy, origin, version):
    o = origin()
    get_refused(proxy, o, raw(o, b"GET %s/ %s" % (o.url.encode(), version)), "version_unsupported")


@pytest.mark.req("M16", "T12")
@pytest.mark.parametrize("version", [b"http/1.1", b"Http/1.1", b"HTTP/1.10", b"HTTP/11", b"HTTP/1", b"HTTP/1.",
                                     b"HTTP/.1", b"HTTP/01.1",
                                     b"HTTP/1,1", b"HTTP 1.1", b"HTTP/1.1x", b"HTTP/a.b", b"HTTP/-1.1", b"HTTP/1.1 ",
                                     b"HTTP/1.1\t",
                                     b"xHTTP/1.1", b"HTTP/1. 1", b"HTTP//1.1", b"HTTPS/1.1", b"HTTP/1.\xb9",
                                     b"ICY/1.1", b""])
def test_malformed_versions(proxy, origin, version):
    o = origin()
    get_refused(proxy, o, raw(o, b"GET %s/ %s" % (o.url.encode(), version)), "bad_request_line")


@pytest.mark.req("M16")
def test_request_without_version(proxy, origin):
    o = origin()
    get_refused(proxy, o, b"GET %s/\r\n\r\n" % o.url.encode(), "bad_request_line")


@pytest.mark.req("M17", "S05", "S14")
@pytest.mark.parametrize("start", [b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 OK", b"ICY 200 OK",
                                   b" HTTP/1.1 200 OK",
                                   b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"http/1.1 200 OK", b"HTTP/1.10 200 OK",
                                   b"HTTP/2.0 200 OK",
                                   b"HTTP/2 200", b"HTTP/1.1 +20 OK", b"HTTP/1.1 2 0 OK", b"HTTP/1.1 0x1 OK",
                                   b"HTTP/1.1 -20 OK",
                                   b"HTTP/1.1 099 Low", b"HTTP/1.1 000 Zero", b"<html>", b"SSH-2.0-OpenSSH", b"200 OK",
                                   b"HTTP/1.1",
                                   b"HTTP/1.1 200\x00OK", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\x00K",
                                   b"HTTP/1.1 200OK",
                                   b"HTTP/1.1 20\xb2 OK", b"GET / HTTP/1.1"])
def test_malformed_status_lines(proxy, origin, start):
    o = origin(answer(start + b"\r\nContent-Length: 2\r\n\r\nok", then_close=True))
    client = proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_invalid", closes=False)


@pytest.mark.req("M17")
@pytest.mark.parametrize("junk", [b"\x00" * 3000, b"\xff" * 100, b"no line end", b"0\r\n\r\n", b"\r\n\r\n\r\n"])
def test_garbage_instead_of_a_response(proxy, origin, junk):
    o, client = origin(answer(junk, then_close=True)), proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_invalid", "origin_cut", "origin_empty", closes=False)


@pytest.mark.req("M18")
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 ", b"HTTP/1.1 200"])
def test_blank_behind_the_status_code(proxy, origin, start):
    o, client = origin(answer(start + b"\r\nContent-Length: 2\r\n\r\nok", then_close=True)), proxy.client()
    client.send(raw(o))
    head = client.until(b"\r\n")
    assert head == b"HTTP/1.1 200 \r\n" or (start == b"HTTP/1.1 200" and head.startswith(b"HTTP/1.1 502 "))


@pytest.mark.req("M19", "S04", "Z01", "S14", "P11")
@pytest.mark.parametrize("fields", [b"Cookie: " + b"c" * 200000 + b"\r\n", b"A: b\r\n" * 30000,
                                    b"n" * 200000 + b": x\r\n",
                                    b"".join(b"F%d: x\r\n" % i for i in range(1200))],
                                    ids=["value", "count", "name", "lines"])
def test_too_large_request_head(proxy, origin, fields):
    o = origin()
    get_refused(proxy, o, raw(o, fields=fields), "head_too_large")


@pytest.mark.req("M19", "S05", "Z01")
@pytest.mark.parametrize("fields", [b"Set-Cookie: " + b"c" * 200000 + b"\r\n", b"A: b\r\n" * 30000],
                         ids=["value", "count"])
def test_too_large_response_head(proxy, origin, fields):
    o = origin(answer(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n", then_close=True))
    client = proxy.client()
    client.send(raw(o))
    refused(proxy, client, "origin_head_too_large", closes=False)


@pytest.mark.req("M19", "T14", "Z06")
@pytest.mark.parametrize("size", [1000, 4000, 8000, 16000, 30000])
def test_large_heads_pass_whole(proxy, origin, size):
    value = bytes(97 + i % 26 for i in range(size))
    o, client = origin(answer(response(b"", b"X-Back: " + value))), proxy.client()
    client.send(raw(o, fields=b"X-There: " + value + b"\r\n"))
    assert client.response().get("X-Back") == value
    assert o.requests[0].get("X-There") == value


@pytest.mark.req("M19", "Z06")
def test_every_head_size_around_the_limit(proxy, origin):
    """Passed whole or refused, never cut, whatever the size; and once refused, larger ones are too."""
    o, passed = origin(), []
    for size in list(range(30000, 36000, 500)) + list(range(34200, 34800, 13)):
        client = proxy.client()
        client.send(raw(o, fields=b"X: " + b"v" * size + b"\r\n"))
        message = client.response()
        if message.status == 200:
            assert o.requests[-1].get("X") == b"v" * size
            passed.append(size)
        else:
            assert message.status == 431
        client.close()
    assert passed and max(passed) < 35999


@pytest.mark.req("M16", "S09")
def test_token_of_peers_is_what_rfc_9110_says():
    """The suite's own grammar, so that a mistake in it cannot hide one in the proxy."""
    import re
    good = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert all(bool(re.fullmatch(TOKEN, bytes([c]))) == (c in good) for c in range(256))
