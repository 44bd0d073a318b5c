# SPDX-License-Identifier: MIT
"""Length of bodies: Content-Length, Transfer-Encoding, chunks and trailers, on both sides."""
import os
import time

import pytest

from peers import Cut, Malformed, answer, chunked, request, response
from proxy import refused

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def whole(peer):
    """Read whatever comes, well-formed or not."""
    peer.rest()


def tolerant(peer):
    """Answer whole requests; one that the proxy breaks off is not this script's concern."""
    try:
        while True:
            peer.request()
            peer.send(response())
    except Cut:
        pass


def post(origin, *fields, path="/"):
    return request("POST", origin.url + path, *fields, host=origin.authority)


def get_refused(proxy, origin, data, *tokens):
    client = proxy.client()
    client.send(data)
    message = refused(proxy, client, *tokens, method="POST")
    assert not origin.requests
    assert not any(b"smuggled" in peer.received for peer in origin.peers)
    return message


# ---- requests


@pytest.mark.req("B02", "B03")
@pytest.mark.parametrize("fields", [
    ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 0", "Transfer-Encoding: chunked"), ("content-LENGTH: 5", "TRANSFER-encoding: CHUNKED"),
    ("Transfer-Encoding: chunked", "A: b", "Content-Length: 40"), ("Content-Length: 5", "Transfer-Encoding: identity"),
    ("Content-Length: 5", "Transfer-Encoding:"), ("Content-Length: 5", "Transfer-Encoding: xchunked"),
    ("Content-Length: 5", "Connection: Content-Length", "Transfer-Encoding: chunked"),
    ("Content-Length: 5", "Connection: Transfer-Encoding", "Transfer-Encoding: chunked")])
def test_length_and_coding_together(proxy, origin, fields):
    o = origin()
    get_refused(proxy, o, post(o, *fields) + b"0\r\n\r\n" + SMUGGLED, "bad_length", "bad_coding", "unknown_coding")
    assert not o.peers


@pytest.mark.req("B05", "B07", "C10")
@pytest.mark.parametrize("fields", [
    ["chunked, gzip"], ["chunked, identity"], ["gzip, chunked, gzip"], ["chunked, chunked"], ["chunked", "chunked"],
    ["chunked", "gzip"],
    ["chunked", "identity"], ["chunked,gzip,"], ["chunked , x"], ["chunked;q=1, chunked"]])
def test_chunked_not_last_or_twice(proxy, origin, fields):
    o = origin()
    data = post(o, *("Transfer-Encoding: " + f for f in fields)) + b"0\r\n\r\n" + SMUGGLED
    get_refused(proxy, o, data, "bad_coding", "unknown_coding")
    assert not o.peers


@pytest.mark.req("B06", "B05", "S09")
@pytest.mark.parametrize("coding,tokens", [
    ("gzip, chunked", ["unknown_coding"]), ("foo, chunked", ["unknown_coding"]),
    ("deflate,compress,chunked", ["unknown_coding"]),
    ("gzip", ["unknown_coding", "bad_coding"]), ("identity", ["unknown_coding", "bad_coding"]),
    ("identity, chunked", ["unknown_coding"])])
def test_unknown_coding(proxy, origin, coding, tokens):
    o = origin()
    get_refused(proxy, o, post(o, "Transfer-Encoding: " + coding) + b"0\r\n\r\n" + SMUGGLED, *tokens)
    assert not o.peers


@pytest.mark.req("B07", "B05")
@pytest.mark.parametrize("value", ["Chunked", "CHUNKED", "chunked ,", ", chunked", ",,chunked,,", "\tchunked",
                                   "chunked\t", "chunked ",
                                   "  chunked", "chunked;q=1", "xchunked", "chunkedx", '"chunked"', "chunked chunked",
                                   "", ",", "chunked\t,\t",
                                   "chunked; x", "chun ked", "'chunked'", "chunked/1", "chunk", "\x85chunked",
                                   "\xa0chunked", "chunked="])
def test_coding_is_recognised_or_refused_never_ignored(proxy, origin, value):
    """The body is one empty chunk, then something that must be a request of its own or nothing at all."""
    o, client = origin(tolerant), proxy.client()
    client.send(post(o, "Transfer-Encoding: " + value) + b"0\r\n\r\n" + request("GET", o.url + "/second"))
    first = client.response("POST")
    if first.status == 200:
        assert o.requests[0].framing == "chunked" and o.requests[0].body == b""
        assert client.response().status == 200
        assert [r.target for r in o.requests] == [b"/", b"/second"]
    else:
        assert first.status in (400, 501)
        client.closed()
        assert not o.peers


@pytest.mark.req("B08")
@pytest.mark.parametrize("fields", [(), ("Connection: keep-alive",)])
def test_coding_in_http_1_0(proxy, origin, fields):
    o, client = origin(tolerant), proxy.client()
    client.send(request("POST", o.url + "/", "Transfer-Encoding: chunked", *fields,
                        version="1.0") + chunked(b"abc") + SMUGGLED)
    assert client.response("POST").status in (200, 400)
    client.closed()
    assert all(r.body == b"abc" for r in o.requests) and len(o.requests) < 2


@pytest.mark.req("B09", "B03", "Z09")
@pytest.mark.parametrize("value", ["+5", "-1", "-0", "0x5", "5abc", "", "5 5", "5.0", "5;", "5e0", "five", "'5'",
                                   '"5"', "0b1", "5_0",
                                   "\xb5", "5\xa0", "%35", ",", "5\t6", "- 5", "0 x", "5;q=1", "1,2", "\x85" + "5"])
def test_malformed_length(proxy, origin, value):
    o = origin()
    get_refused(proxy, o, post(o, "Content-Length: " + value) + b"hello" + SMUGGLED, "bad_length")
    assert not o.peers


@pytest.mark.req("B10", "B03")
@pytest.mark.parametrize("fields", [("Content-Length: 5", "Content-Length: 6"), ("Content-Length: 5, 6",),
                                    ("Content-Length: 0, 5",),
                                    ("Content-Length: 5", "content-length: 50"), ("Content-Length: 5, 5, 4",),
                                    ("Content-Length: 5", "Content-Length:"),
                                    ("Content-Length: 5", "Content-Length: x")])
def test_differing_lengths(proxy, origin, fields):
    o = origin()
    get_refused(proxy, o, post(o, *fields) + b"hello" + SMUGGLED, "bad_length")
    assert not o.peers


@pytest.mark.req("B11")
@pytest.mark.parametrize("fields", [("Content-Length: 5", "Content-Length: 5"), ("Content-Length: 5, 5",),
                                    ("Content-Length: 5,",),
                                    ("Content-Length: 005",), ("Content-Length: 5", "Content-Length: 05")])
def test_repeated_equal_length(proxy, origin, fields):
    o, client = origin(tolerant), proxy.client()
    client.send(post(o, *fields) + b"hello")
    if client.response("POST").status == 200:
        assert o.requests[0].all("Content-Length") in ([b"5"], [b"005"]) and o.requests[0].body == b"hello"
    else:
        assert not o.peers


@pytest.mark.req("B12", "Z09", "B09")
@pytest.mark.parametrize("value", [2**64, 2**64 + 5, 2**65, 10**40, "9" * 1000, 184467440737095516150])
def test_length_overflow(proxy, origin, value):
    o = origin()
    get_refused(proxy, o, post(o, f"Content-Length: {value}") + b"hello" + SMUGGLED, "bad_length", "body_too_large")
    assert not o.peers


@pytest.mark.req("B12")
@pytest.mark.parametrize("size", [2**31, 2**32 + 5, 2**53 + 1])
def test_large_lengths_are_not_cut(proxy, origin, size):
    def script(peer):
        message = peer.request(body=False)
        assert message.get("Content-Length") == str(size).encode()
        assert peer.exactly(4) == b"some"
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\npart" % size)
    o, client = origin(script), proxy.client()
    client.send(post(o, f"Content-Length: {size}") + b"some")
    back = client.response(whole=False)
    assert back.get("Content-Length") == str(size).encode()
    assert not back.complete and back.body == b"part"


@pytest.mark.req("B17", "P06")
def test_no_framing_means_no_body(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(post(o, path="/1") + request("GET", o.url + "/2", host=o.authority))
    assert [client.response().status, client.response().status] == [200, 200]
    assert [(r.method, r.target, r.framing) for r in o.requests] == [("POST", b"/1", "none"), ("GET", b"/2", "none")]


@pytest.mark.req("B17", "B09")
def test_length_zero_stays_on_a_post(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(post(o, "Content-Length: 0"))
    assert client.response("POST").status == 200
    assert o.requests[0].get("Content-Length") == b"0"


@pytest.mark.req("B21", "S04")
def test_body_cap(start, origin):
    o, proxy = origin(), start("--allow-private", "--body-max", "1000")
    client = proxy.client()
    client.send(post(o, "Content-Length: 1000") + b"x" * 1000)
    assert client.response("POST").status == 200
    client = proxy.client()
    seen = len(o.peers)
    client.send(post(o, "Content-Length: 1001") + b"x" * 1001)
    refused(proxy, client, "body_too_large", method="POST")
    assert len(o.peers) == seen


@pytest.mark.req("B21")
def test_body_cap_on_chunks(start, origin):
    o, proxy = origin(whole), start("--allow-private", "--body-max", "1000")
    client = proxy.client()
    client.send(post(o, "Transfer-Encoding: chunked") + chunked(*[b"x" * 100] * 30))
    refused(proxy, client, "body_too_large", method="POST")
    o.wait(lambda o: o.peers and o.peers[0].done)
    assert b"\r\n0\r\n\r\n" not in o.peers[0].received


@pytest.mark.req("B05", "B14", "S01", "S14")
@pytest.mark.parametrize("fields,part", [(("Content-Length: 100",), b"x" * 50),
                                         (("Transfer-Encoding: chunked",), b"64\r\nxxx"),
                                         (("Transfer-Encoding: chunked",), b"3\r\nxxx\r\n"),
                                         (("Transfer-Encoding: chunked",), b"3\r\nxxx\r\n0\r\n")])
def test_request_body_cut(proxy, origin, fields, part):
    o, client = origin(whole), proxy.client()
    client.send(post(o, *fields) + part)
    client.finish()
    refused(proxy, client, "body_cut", method="POST")
    o.wait(lambda o: all(p.done for p in o.peers))
    assert not any(p.received.endswith(b"0\r\n\r\n") for p in o.peers)


# ---- chunked requests


@pytest.mark.req("C01", "C05")
@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_chunked_request_in_any_split(proxy, origin, step):
    o, client = origin(), proxy.client()
    body = chunked(b"hello", b"w" * 30, b"!", extension=b';a=b;c="d;\\"\\\\e"')
    client.send(post(o, "Transfer-Encoding: chunked"))
    client.drip(body, step, 0.001)
    assert client.response("POST").status == 200
    assert o.requests[0].body == b"hello" + b"w" * 30 + b"!"
    assert client.ask("GET", o.url + "/2").status == 200


@pytest.mark.req("C01", "H10")
def test_large_chunked_bodies_both_ways(proxy, origin):
    data = os.urandom(3000000)
    pieces = [data[i:i + 77777] for i in range(0, len(data), 77777)]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    o, client = origin(answer(head + chunked(*pieces))), proxy.client()
    client.send(post(o, "Transfer-Encoding: chunked") + chunked(*pieces))
    assert client.response("POST").body == data
    assert o.requests[0].body == data


@pytest.mark.req("C02", "Z09", "S01")
@pytest.mark.parametrize("line", [b"0x5", b"-5", b"+5", b"", b" 5", b"\t5", b"g", b"5g", b"5 5", b"5,", b"5.", b"0x",
                                  b"x5", b"\xb5", b"5\x00",
                                  b"h5", b"5\r", b"5_0", b"5h", b";a=b", b"five", b"5\x0b", b"5\x85", b"5\n", b"5:",
                                  b"\n5"])
def test_malformed_chunk_size(proxy, origin, line):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + line + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
                "bad_chunk")


@pytest.mark.req("C02", "C03")
@pytest.mark.parametrize("line,size", [(b"5", 5), (b"05", 5), (b"00000005", 5), (b"A", 10), (b"a", 10), (b"0A", 10),
                                       (b"1f", 31), (b"1F", 31)])
def test_good_chunk_sizes(proxy, origin, line, size):
    o, client = origin(), proxy.client()
    client.send(post(o, "Transfer-Encoding: chunked") + line + b"\r\n" + b"x" * size + b"\r\n0\r\n\r\n")
    assert client.response("POST").status == 200
    assert o.requests[0].body == b"x" * size


@pytest.mark.req("C03", "Z09", "Z10")
@pytest.mark.parametrize("line", [b"10000000000000000", b"10000000000000005", b"FFFFFFFFFFFFFFFFF", b"f" * 100,
                                  b"0" * 5000 + b"5",
                                  b"0" * 100000, b"1" + b"0" * 64])
def test_chunk_size_overflow(proxy, origin, line):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + line + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
                "bad_chunk")


@pytest.mark.req("C04")
@pytest.mark.parametrize("body", [b"5\r\nhelloXX0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
                                  b"5\r\nhelloworld\r\n0\r\n\r\n",
                                  b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello\r\r\n0\r\n\r\n", b"5\r\nhello \r\n0\r\n\r\n",
                                  b"5\nhello\r\n0\r\n\r\n",
                                  b"5\r\nhello\n\r0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n"])
def test_bad_end_of_chunk(proxy, origin, body):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + body + SMUGGLED, "bad_chunk")


@pytest.mark.req("C02", "C04", "M03")
@pytest.mark.parametrize("end", [b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\r\n\r\n", b"0\r\n\r\r\n"])
def test_bad_end_of_body(proxy, origin, end):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + end + SMUGGLED, "bad_chunk",
                "bad_field")


@pytest.mark.req("C05")
@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b"', b';a="b;c"', b';a="\\""', b";a=b;c=d;e", b" ;a=b",
                                       b"; a = b", b";a=b\t"])
def test_chunk_extensions_are_ignored(proxy, origin, extension):
    o, client = origin(), proxy.client()
    client.send(post(o, "Transfer-Encoding: chunked") + chunked(b"hello", extension=extension) + request("GET",
                                                                                                         o.url + "/2"))
    assert client.response("POST").status == 200 and client.response().status == 200
    assert [(r.method, r.body) for r in o.requests] == [("POST", b"hello"), ("GET", b"")]


@pytest.mark.req("C05", "C04")
@pytest.mark.parametrize("extension", [b';a="\r\n', b";a\x00", b";a\rb", b";a\nb", b";\x7f", b';a="\n"', b";a\x0b=b",
                                       b';a="\\\n"'])
def test_line_ends_and_controls_in_chunk_extensions(proxy, origin, extension):
    o = origin(whole)
    data = post(o, "Transfer-Encoding: chunked") + b"5" + extension + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED
    get_refused(proxy, o, data, "bad_chunk")


@pytest.mark.req("C05", "Z01", "Z10")
@pytest.mark.parametrize("body", [b"5;" + b"x" * 100000 + b"\r\nhello\r\n0\r\n\r\n",
                                  (b"1;" + b"x" * 50 + b"\r\na\r\n") * 2000 + b"0\r\n\r\n"],
                         ids=["one", "many"])
def test_chunk_extensions_are_capped(proxy, origin, body):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + body, "bad_chunk")


@pytest.mark.req("C06", "C07", "C08", "H06")
def test_request_trailers(proxy, origin):
    o, client = origin(), proxy.client()
    bad = (b"Content-Length: 5\r\nHost: evil\r\nTransfer-Encoding: gzip\r\nProxy-Authorization: Basic eDp5\r\n"
           b"Connection: close\r\nAuthorization: x\r\nContent-Type: evil/evil\r\nproxy-authorization: x\r\nTE: x\r\n"
           b"Trailer: x\r\n")
    body = chunked(b"hello", trailers=b"X-Sum: 1\r\n" + bad)
    client.send(post(o, "Transfer-Encoding: chunked", "Trailer: X-Sum") + body)
    assert client.response("POST").status == 200
    assert client.ask("GET", o.url + "/2").status == 200
    assert o.requests[0].body == b"hello"
    assert o.requests[0].trailers in ([], [(b"X-Sum", b"1")])
    assert "X-Sum" not in o.requests[0] and o.requests[0].get("Host") == o.authority.encode()


@pytest.mark.req("C06", "M06")
@pytest.mark.parametrize("trailer", [b"nocolon", b" folded: x", b"A : b", b"A: b\x00", b": x", b"A: b\rc", b"A: b\n c"])
def test_malformed_request_trailers(proxy, origin, trailer):
    o = origin(whole)
    data = post(o, "Transfer-Encoding: chunked") + chunked(b"hello", trailers=trailer + b"\r\n") + SMUGGLED
    get_refused(proxy, o, data, "bad_field", "bad_chunk")


@pytest.mark.req("C09", "Z01", "Z10")
@pytest.mark.parametrize("trailers", [b"A: " + b"x" * 200000 + b"\r\n", b"A: b\r\n" * 30000], ids=["long", "many"])
def test_too_large_request_trailers(proxy, origin, trailers):
    o = origin(whole)
    get_refused(proxy, o, post(o, "Transfer-Encoding: chunked") + chunked(b"hello", trailers=trailers),
                "trailer_too_large")


# ---- responses


BODYLESS = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n"),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
    ("HEAD", b"HTTP/1.1 200 OK\r\n"), ("HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n"),
    ("GET", b"HTTP/1.1 204 None\r\n"), ("GET", b"HTTP/1.1 204 None\r\nContent-Length: 50\r\n"),
    ("GET", b"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n"), ("GET", b"HTTP/1.1 304 Same\r\n"),
    ("GET", b"HTTP/1.1 304 Same\r\nContent-Length: 50\r\n"),
    ("GET", b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n"),
    ("POST", b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n")]


@pytest.mark.req("B01", "B18")
@pytest.mark.parametrize("method,head", BODYLESS)
def test_bodiless_responses_end_at_the_blank_line(proxy, origin, method, head):
    o, client = origin(answer(head + b"\r\n", response(b"next"))), proxy.client()
    first = client.ask(method, o.url + "/")
    assert first.framing == "none"
    if first.status == 204:
        assert "Content-Length" not in first and "Transfer-Encoding" not in first
    if b"304" in head and b"Length" in head:
        assert first.get("Content-Length") in (b"50", None)
    assert client.ask("GET", o.url + "/2").body == b"next"


@pytest.mark.req("B23", "B20", "B01")
@pytest.mark.parametrize("method,head", BODYLESS)
def test_octets_behind_bodiless_responses_are_dropped(proxy, origin, method, head):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"

    def script(peer):
        peer.request()
        peer.send(head + b"\r\n" + evil if peer.index == 0 else response(b"good"))
        peer.rest()
    o, client = origin(script), proxy.client()
    assert client.ask(method, o.url + "/").framing == "none"
    time.sleep(0.05)
    assert client.ask("GET", o.url + "/2").body == b"good"
    assert len(o.peers) == 2


@pytest.mark.req("B04", "S05")
@pytest.mark.parametrize("fields", [b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                                    b"Transfer-Encoding: chunked\r\nContent-Length: 500\r\n"])
def test_response_with_length_and_coding(proxy, origin, fields):
    o = origin(answer(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + chunked(b"hello"), then_close=True))
    client = proxy.client()
    back = client.ask("GET", o.url + "/")
    assert (back.status, back.framing, back.body) == (200, "chunked", b"hello") or back.status == 502


@pytest.mark.req("B13", "S05")
@pytest.mark.parametrize("fields", [["5", "6"], ["5, 6"], ["+5"], ["-5"], ["x"], [""], ["5 5"], ["0x5"],
                                    [str(2**64 + 2)], ["2", "x"], ["5.0"],
                                    [","], ["2;"], ["9" * 300], ["\xb2"]])
def test_bad_response_length(proxy, origin, fields):
    lines = "".join(f"Content-Length: {f}\r\n" for f in fields).encode("latin-1")
    gone = []

    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nok")
        peer.rest()
        gone.append(True)
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "origin_length", closes=False)
    o.wait(lambda _: gone)


@pytest.mark.req("B13", "B11")
@pytest.mark.parametrize("lines", [b"Content-Length: 2\r\nContent-Length: 2\r\n", b"Content-Length: 2, 2\r\n"])
def test_repeated_equal_response_length(proxy, origin, lines):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\nok")), proxy.client()
    back = client.ask("GET", o.url + "/")
    assert back.status == 502 or (back.body == b"ok" and back.all("Content-Length") == [b"2"])


@pytest.mark.req("C10", "B07", "S05", "Q03")
@pytest.mark.parametrize("codings", [["chunked, chunked"], ["chunked", "chunked"], ["gzip"], ["gzip, chunked"],
                                     ["chunked, gzip"], ["identity"], ["x"],
                                     [""], ["chunked;x"], ["xchunked"], ["chunked chunked"], [","]])
def test_bad_response_coding(proxy, origin, codings):
    lines = "".join(f"Transfer-Encoding: {c}\r\n" for c in codings).encode()
    o = origin(answer(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + chunked(b"hello"), then_close=True))
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "origin_coding", closes=False)


@pytest.mark.req("B07")
@pytest.mark.parametrize("value", ["Chunked", "CHUNKED", "chunked ,", ",chunked", "\tchunked\t"])
def test_response_coding_in_any_form(proxy, origin, value):
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n".encode()
    o, client = origin(answer(head + chunked(b"hello", b"world"))), proxy.client()
    assert client.ask("GET", o.url + "/").body == b"helloworld"
    assert client.ask("GET", o.url + "/").body == b"helloworld"


@pytest.mark.req("B14", "S15")
@pytest.mark.parametrize("got", [0, 1, 50, 99])
@pytest.mark.parametrize("how", ["close", "close at once", "reset"])
def test_short_response_body(proxy, origin, got, how):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * got)
        if how != "close at once":
            time.sleep(0.05)
        if how == "reset":
            peer.reset()
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response(whole=False)
    if back.status == 502 and how == "close at once":
        return  # seen before anything was passed on
    assert back.status == 200 and not back.complete and set(back.body) <= {120} and client.ended
    if how != "reset":
        assert len(back.body) == got
    event = proxy.event(client)
    assert (event["cause"], event["status"], event["by"]) == ("origin_reset" if how == "reset" else "origin_cut", 200,
                                                              "origin")


CUT_CHUNKED = [b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"5\r\nhello\r\n0", b"5\r\nhello\r\n0\r\n",
               b"5\r\nhello\r\n0\r\nA: b\r\n", b"5", b"5;a"]


@pytest.mark.req("B15", "S15")
@pytest.mark.parametrize("part", CUT_CHUNKED)
def test_cut_chunked_response(proxy, origin, part):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + part,
                              then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response(whole=False)
    assert back.status == 200 and back.framing == "chunked" and not back.complete and b"hello".startswith(back.body)
    assert proxy.event(client)["cause"] == "origin_cut"


@pytest.mark.req("B15", "B19", "S15")
@pytest.mark.parametrize("part", CUT_CHUNKED)
def test_cut_chunked_response_to_http_1_0(proxy, origin, part):
    """Only a reset can tell an HTTP/1.0 client that a body without length is incomplete."""
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + part,
                              then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/", version="1.0"))
    try:
        assert not client.response(whole=False).complete
    except Cut:
        pass
    assert client.ended == "reset"


@pytest.mark.req("C02", "C03", "C04", "S15", "Z09")
@pytest.mark.parametrize("body", [b"0x5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n",
                                  b"5\nhello\r\n0\r\n\r\n",
                                  b"5\r\nhelloXX0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
                                  b"5\r\nhello0\r\n\r\n", b"g\r\n\r\n",
                                  b"0" * 100000 + b"\r\n\r\n", b"5;" + b"x" * 100000 + b"\r\nhello\r\n0\r\n\r\n",
                                  b" 5\r\nhello\r\n0\r\n\r\n",
                                  b"0\n\n", b"0\r\n\n", b"5\r\nhello\n0\r\n\r\n", b"0\r\nnocolon\r\n\r\n",
                                  b"0\r\nA: b\r\n c\r\n\r\n"])
def test_malformed_chunks_of_a_response(proxy, origin, body):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
                              then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response(whole=False)
    assert back.status == 502 or (back.status == 200 and not back.complete)
    assert proxy.event(client)["cause"] in ("origin_coding", "origin_trailer_too_large")


@pytest.mark.req("C01", "C05")
@pytest.mark.parametrize("step", [1, 2, 5, 13])
def test_chunked_response_in_any_split(proxy, origin, step):
    body = chunked(b"hello", b"w" * 40, b"!", extension=b';x="y z"', trailers=b"X-T: 1\r\n")

    def script(peer):
        while True:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            peer.drip(body, step, 0.001)
    o, client = origin(script), proxy.client()
    for _ in range(2):
        assert client.ask("GET", o.url + "/").body == b"hello" + b"w" * 40 + b"!"


@pytest.mark.req("C07", "C08", "H02", "H07")
def test_response_trailers(proxy, origin):
    bad = (b"Content-Length: 5\r\nTransfer-Encoding: x\r\nConnection: close\r\nProxy-Authenticate: Basic\r\n"
           b"Set-Cookie: a=b\r\nHost: evil\r\n")
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    o, client = origin(answer(head + chunked(b"hello", trailers=b"X-Sum: 1\r\n" + bad))), proxy.client()
    for _ in range(2):
        back = client.ask("GET", o.url + "/", "TE: trailers", "Connection: TE")
        assert back.body == b"hello" and "X-Sum" not in back and "Set-Cookie" not in back
        assert back.trailers in ([], [(b"X-Sum", b"1")])


@pytest.mark.req("C09", "Z01", "S15")
@pytest.mark.parametrize("trailers", [b"A: " + b"x" * 200000 + b"\r\n", b"A: b\r\n" * 30000], ids=["long", "many"])
def test_too_large_response_trailers(proxy, origin, trailers):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    o, client = origin(answer(head + chunked(b"hello", trailers=trailers), then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response(whole=False)
    assert back.status == 502 or (back.status == 200 and not back.complete)
    assert proxy.event(client)["cause"] == "origin_trailer_too_large"


@pytest.mark.req("B16", "P08")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_close_delimited_response(proxy, origin, version):
    data = os.urandom(100000)
    o = origin(answer(f"HTTP/{version} 200 OK\r\n\r\n".encode() + data, then_close=True))
    client = proxy.client()
    back = client.ask("GET", o.url + "/")
    assert back.body == data
    if back.framing == "chunked":
        assert client.ask("GET", o.url + "/2").body == data
    else:
        assert back.framing == "close" and b"close" in back.list("Connection")


@pytest.mark.req("B16", "P02")
def test_close_delimited_response_to_http_1_0(proxy, origin):
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\n\r\nhello", then_close=True)), proxy.client()
    back = client.ask("GET", o.url + "/", version="1.0")
    assert (back.body, back.framing, client.ended) == (b"hello", "close", "eof")


@pytest.mark.req("B16", "S15")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_reset_inside_a_close_delimited_response(proxy, origin, version):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        time.sleep(0.1)
        peer.reset()
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/", version=version))
    back = client.response(whole=False)
    assert back.status == 200 and not back.complete
    assert proxy.event(client)["cause"] == "origin_reset"


@pytest.mark.req("B19", "P03")
def test_chunked_response_to_http_1_0(proxy, origin):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    o = origin(answer(head + chunked(b"hello", b"w" * 70000, b"end", trailers=b"X-T: 1\r\n")))
    client = proxy.client()
    back = client.ask("GET", o.url + "/", "Connection: keep-alive", version="1.0")
    assert "Transfer-Encoding" not in back and "Trailer" not in back
    assert back.body == b"hello" + b"w" * 70000 + b"end"
    assert client.ended == "eof"


@pytest.mark.req("B20", "P08", "B23")
@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"])
def test_octets_behind_the_final_response(proxy, origin, head, pause):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"

    def script(peer):
        peer.request()
        if peer.index:
            peer.send(response(b"good"))
        elif pause:
            peer.send(head)
            time.sleep(pause)
            peer.send(evil)
        else:
            peer.send(head + evil)
        peer.rest()
    o, client = origin(script), proxy.client()
    assert client.ask("GET", o.url + "/").body == b"ok"
    client.quiet(0.15)
    assert client.ask("GET", o.url + "/2").body == b"good"
    assert len(o.peers) == 2


@pytest.mark.req("B20", "P06")
def test_octets_behind_the_final_response_with_pipelining(proxy, origin):
    """The second request is already there when the poisoned answer comes."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"

    def script(peer):
        peer.request()
        peer.send(response(b"ok") + evil if peer.index == 0 else response(b"good"))
        peer.rest()
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/1") + request("GET", o.url + "/2"))
    assert [client.response().body, client.response().body] == [b"ok", b"good"]


@pytest.mark.req("B22", "S05", "S14")
@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nA: b",
                                  b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
                                  b"HTTP/1.1 200 OK\r\nA: b\r\n\r"])
def test_cut_response_head(proxy, origin, part):
    o, client = origin(answer(part, then_close=True)), proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "origin_cut", "origin_invalid", closes=False)


@pytest.mark.req("S14", "S05")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_no_answer_at_all(proxy, origin, how):
    def script(peer):
        peer.request()
        if how == "reset":
            peer.reset()
    o, client = origin(script), proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "origin_empty" if how == "close" else "origin_reset", closes=False)
    assert client.ask("GET", o.url + "/").status == 502


@pytest.mark.req("H10", "B14")
@pytest.mark.parametrize("size", [0, 1, 1000, 34815, 34816, 34817, 100000, 5000000])
def test_bodies_pass_byte_for_byte(proxy, origin, size):
    data = os.urandom(size)
    o, client = origin(answer(response(data, "Content-Encoding: gzip", "Cache-Control: no-transform"))), proxy.client()
    back = client.ask("POST", o.url + "/", "Content-Encoding: br", body=data)
    assert back.body == data and o.requests[0].body == data
    assert back.get("Content-Encoding") == b"gzip" and o.requests[0].get("Content-Encoding") == b"br"


def test_the_suite_itself_is_strict():
    """peers.py refuses what a sloppy reader would let pass."""
    from peers import framing_of, parse_head
    for raw in (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\nc: d\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n"):
        with pytest.raises(Malformed):
            parse_head(raw)
    with pytest.raises(Malformed):
        framing_of(parse_head(b"X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"))
