# SPDX-License-Identifier: MIT
"""Request targets, Host and methods."""

import pytest

from peers import request, unused_port
from proxy import refused


def check_refused(proxy, origin, method, url, *tokens, host="localhost", **kind):
    client = proxy.client()
    client.send(request(method, url, host=host, **kind))
    message = refused(proxy, client, *tokens, method=method)
    if origin:
        assert not origin.peers, "the origin was contacted"
    return message


@pytest.mark.req("T01")
@pytest.mark.parametrize("scheme", ["http", "HTTP", "Http", "hTtP"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "LocalHost", "127.0.0.1"])
def test_absolute_form_in_any_case(proxy, origin, scheme, host):
    o, client = origin(), proxy.client()
    assert client.ask("GET", f"{scheme}://{host}:{o.port}/x").status == 200
    assert o.requests[0].target == b"/x"
    assert o.requests[0].get("Host").lower() == f"{host}:{o.port}".lower().encode()


@pytest.mark.req("T02")
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.2", "localhost:1", "[::1]:99"])
def test_host_comes_from_the_target(proxy, origin, host):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", host=host).status == 200
    assert o.requests[0].get("Host") == o.authority.encode()


@pytest.mark.req("T02", "T23")
@pytest.mark.parametrize("authority", ["127.0.0.1", "127.0.0.1:80", "127.0.0.1:"])
def test_default_port(proxy, origin, isolated, authority):
    o, client = origin(port=80), proxy.client()
    assert client.ask("GET", f"http://{authority}/a").status == 200
    assert o.requests[0].get("Host") == b"127.0.0.1"


@pytest.mark.req("T03", "T24", "T05")
@pytest.mark.parametrize("given,expected", [("", "/"), ("/", "/"), ("?q", "/?q"), ("?", "/?"),
                                            ("?a=b&c=/../d", "/?a=b&c=/../d"),
                                            ("?http://x@y:1/", "/?http://x@y:1/"), ("/?q", "/?q")])
def test_origin_form(proxy, origin, given, expected):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + given, host=o.authority).status == 200
    assert o.requests[0].target == expected.encode()


@pytest.mark.req("T04")
@pytest.mark.parametrize("given,expected", [("", "*"), ("/", "/"), ("/x", "/x"), ("?q", "/?q")])
def test_options(proxy, origin, given, expected):
    o, client = origin(), proxy.client()
    assert client.ask("OPTIONS", o.url + given, host=o.authority).status == 200
    assert (o.requests[0].method, o.requests[0].target) == ("OPTIONS", expected.encode())


@pytest.mark.req("T05")
@pytest.mark.parametrize("path", ["/%41%2f%2F%00%zz%", "/a/../b/./c", "//x//y//", "/..;/x", "/a;b=c,d=e",
                                  "/~!$&'()*+,;=:@", "/a?b?c/../d",
                                  "/%e4%C3%84", "/a?", "/?a=%20+%2B&&", "/a|b^c`{d}", "/a\\b", '/"<>', "/[x]",
                                  "/http://other/"])
def test_path_and_query_stay_as_they_are(proxy, origin, path):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + path, host=o.authority))
    status = client.response().status
    if status == 400 and any(c in path for c in '|^`{}\\"<>[]'):
        assert not o.peers  # not URI characters: refusing is right too, changing is not
        return
    assert status == 200 and o.requests[0].target == path.encode()


@pytest.mark.req("T06")
def test_host_names_stay_as_they_are(proxy, origin, names):
    names.zone["some-host.example.test"] = names.zone["x"] = ["127.0.0.1"]
    o, client = origin(), proxy.client()
    for name in ("some-host.example.test", "x"):
        assert client.ask("GET", f"http://{name}:{o.port}/").status == 200
        assert o.requests[-1].get("Host") == f"{name}:{o.port}".encode()


@pytest.mark.req("T06")
def test_absolute_names(proxy, origin, names):
    names.zone["some-host.example.test"] = ["127.0.0.1"]
    o, client = origin(), proxy.client()
    assert client.ask("GET", f"http://some-host.example.test.:{o.port}/").status == 200
    assert o.requests[-1].get("Host") == f"some-host.example.test.:{o.port}".encode()


@pytest.mark.req("T07", "S01")
def test_missing_host(proxy, origin):
    o = origin()
    check_refused(proxy, o, "GET", o.url + "/", "bad_host", host=False)


@pytest.mark.req("T07")
def test_missing_host_is_fine_in_http_1_0(proxy, origin):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", host=False, version="1.0").status == 200
    assert o.requests[0].get("Host") == o.authority.encode()


@pytest.mark.req("T08")
@pytest.mark.parametrize("second", ["Host: {0}", "Host: evil.example", "hOST: {0}", "Host:"])
def test_repeated_host(proxy, origin, second):
    o, client = origin(), proxy.client()
    client.send(request("GET", o.url + "/", second.format(o.authority), host=o.authority))
    refused(proxy, client, "bad_host")
    assert not o.peers


@pytest.mark.req("T09")
@pytest.mark.parametrize("host", ["a,b", "a b", "u@h", "u:p@h", "h:99999", "h:abc", "h:-1", "h:0x50", "[::1", "::1",
                                  "h:80:80", "http://h",
                                  "h/", "h/x", "h?x", "h#x", "[::1]x", "h:80x", "h: 80", "a\tb", "h,", "h:65536",
                                  "\\h", "[]", "[::g]",
                                  "h\x80", "<h>", "a;b\"c"])
def test_malformed_host(proxy, origin, host):
    o = origin()
    check_refused(proxy, o, "GET", o.url + "/", "bad_host", host=host)


@pytest.mark.req("T09", "T02")
@pytest.mark.parametrize("host", ["h", "h:80", "h:", "[::1]", "[::1]:80", "1.2.3.4:1", "a-b.c_d.example."])
def test_well_formed_host_is_ignored(proxy, origin, host):
    o, client = origin(), proxy.client()
    assert client.ask("GET", o.url + "/", host=host).status == 200
    assert o.requests[0].get("Host") == o.authority.encode()


@pytest.mark.req("T10")
@pytest.mark.parametrize("url", ["http:///x", "http://:80/", "http://", "http:///", "http://?q", "http://:/",
                                 "http:/x", "http:x", "http:",
                                 "http//x/", "http:/localhost/", "http:\\\\localhost/", "http://.", "http://../x"])
def test_empty_host(proxy, url):
    check_refused(proxy, None, "GET", url, "bad_target", "name_not_found" if url in ("http://.",
                                                                                     "http://../x") else "bad_target")


@pytest.mark.req("T11", "G02")
@pytest.mark.parametrize("userinfo", ["user:sesame@", "user@", "@", ":@", "sesame%40x@", "a:b:sesame@",
                                      "127.0.0.1:80@"])
def test_userinfo(proxy, origin, userinfo):
    o = origin()
    message = check_refused(proxy, o, "GET", f"http://{userinfo}{o.authority}/", "bad_target")
    assert b"sesame" not in message.body
    with open(proxy.log, "rb") as f:
        assert b"sesame" not in f.read()


@pytest.mark.req("T12", "M06")
@pytest.mark.parametrize("form", ["GET  {0} HTTP/1.1", "GET {0}  HTTP/1.1", "GET\t{0} HTTP/1.1", "GET {0}\tHTTP/1.1",
                                  " GET {0} HTTP/1.1",
                                  "GET {0} x HTTP/1.1", "GET {0} HTTP/1.1 x", "GET {0} HTTP/1.1 ",
                                  "GET {0}a b HTTP/1.1", "\tGET {0} HTTP/1.1",
                                  "GET {0}\x0bHTTP/1.1", "GET {0}\x0cHTTP/1.1", "GET {0}\xa0HTTP/1.1", "GET HTTP/1.1",
                                  "{0} HTTP/1.1",
                                  "GET {0} HTTP/1.1 HTTP/1.1", "G@T {0} HTTP/1.1", "GE(T {0} HTTP/1.1",
                                  "G:T {0} HTTP/1.1", "(GET {0} HTTP/1.1"])
def test_sloppy_request_line(proxy, origin, form):
    o, client = origin(), proxy.client()
    client.send(form.format(o.url + "/").encode("latin-1") + b"\r\nHost: x\r\n\r\n")
    refused(proxy, client, "bad_request_line", "bad_target")
    assert not o.peers


@pytest.mark.req("T13", "Z01", "P11", "S14")
@pytest.mark.parametrize("size", [70000, 1000000])
def test_too_long_target(proxy, origin, size):
    o = origin()
    check_refused(proxy, o, "GET", o.url + "/" + "x" * size, "target_too_long", host=o.authority)


@pytest.mark.req("T14", "T13")
@pytest.mark.parametrize("size", [8000, 16000, 30000])
def test_long_request_lines_work(proxy, origin, size):
    o, client = origin(), proxy.client()
    line = len(f"GET {o.url}/ HTTP/1.1")
    assert client.ask("GET", o.url + "/" + "x" * (size - line), host=o.authority).status == 200
    assert o.requests[0].target == b"/" + b"x" * (size - line)


@pytest.mark.req("T15")
@pytest.mark.parametrize("method", ["get", "Get", "head", "post", "connect", "options", "trace"])
def test_method_case_matters(proxy, origin, method):
    o, client = origin(), proxy.client()
    assert client.ask(method, o.url + "/").status == 200
    assert o.requests[0].method == method
    assert o.requests[0].target == b"/"


@pytest.mark.req("T15", "T18")
def test_lower_case_connect_is_not_connect(proxy, origin):
    o = origin()
    check_refused(proxy, o, "connect", o.authority, "bad_target", "scheme_unsupported", host=o.authority)


@pytest.mark.req("T16")
@pytest.mark.parametrize("method", ["PATCH", "PROPFIND", "FOO", "M-SEARCH", "PURGE", "x", "!#$%&'*+.^_`|~", "DELETE",
                                    "PUT", "GET"])
@pytest.mark.parametrize("coded", [False, True])
def test_any_method_with_a_body(proxy, origin, method, coded):
    o, client = origin(), proxy.client()
    client.send(request(method, o.url + "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n" if coded else
                request(method, o.url + "/", body=b"abc"))
    assert client.response().status == 200
    assert (o.requests[0].method, o.requests[0].body) == (method, b"abc")
    assert client.ask("GET", o.url + "/next").status == 200


@pytest.mark.req("T17", "S09")
@pytest.mark.parametrize("size", [300, 5000])
def test_too_long_method(proxy, origin, size):
    o = origin()
    check_refused(proxy, o, "M" * size, o.url + "/", "method_too_long")


@pytest.mark.req("T17", "Q03")
@pytest.mark.parametrize("size", [100000])
def test_endless_method(proxy, origin, size):
    o, client = origin(), proxy.client()
    client.send(b"M" * size)
    refused(proxy, client, "method_too_long", "target_too_long")
    assert not o.peers


@pytest.mark.req("T18")
@pytest.mark.parametrize("method,target", [("GET", "localhost:80"), ("POST", "*"), ("GET", "*"),
                                           ("OPTIONS", "localhost:80"), ("HEAD", "*"),
                                           ("CONNECT", "*"), ("CONNECT", "/x"), ("CONNECT", "http://localhost:443/"),
                                           ("GET", "**"),
                                           ("OPTIONS", "*x"), ("CONNECT", "localhost:443/"),
                                           ("CONNECT", "localhost:443?x")])
def test_target_form_must_fit_the_method(proxy, method, target):
    check_refused(proxy, None, method, target, "bad_target",
                  "scheme_unsupported" if target == "localhost:80" else "bad_target",
                  "not_a_proxy_request" if target == "/x" else "bad_target")


@pytest.mark.req("T19")
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "FOO"])
@pytest.mark.parametrize("target", ["/index.html", "/index.html?x=http://localhost/", "//localhost/", "/http://localhost/"])
def test_origin_form_is_not_routed_by_host(proxy, origin, method, target):
    o = origin()
    check_refused(proxy, o, method, target, "not_a_proxy_request", host=o.authority)


@pytest.mark.req("T19", "T18")
def test_options_asterisk_stays_here(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("OPTIONS", "*", host=o.authority))
    assert client.response("OPTIONS").status in (200, 204, 400)
    assert not o.peers


@pytest.mark.req("T20", "S09")
@pytest.mark.parametrize("scheme", ["https", "HTTPS", "ftp", "ws", "wss", "gopher", "file", "httpx", "h", "x-y+z.1"])
def test_other_schemes_are_never_sent_in_clear(proxy, origin, scheme):
    o = origin()
    check_refused(proxy, o, "GET", f"{scheme}://{o.authority}/", "scheme_unsupported")


@pytest.mark.req("T20", "T18")
@pytest.mark.parametrize("target", ["urn:isbn:1", "mailto:a@b", "javascript:alert(1)", "://localhost/",
                                    "1http://localhost/", "ht tp://x/",
                                    "localhost", "localhost/", "x", "-", "%", "http;//x/", "\xe4://x/", "_x://y/"])
def test_targets_that_are_no_url(proxy, target):
    check_refused(proxy, None, "GET", target, "scheme_unsupported", "bad_target", "bad_request_line")


@pytest.mark.req("T21")
@pytest.mark.parametrize("tail", ["/#x", "#x", "/#", "/?q#x", "/%23#", "#"])
def test_fragment(proxy, origin, tail):
    o = origin()
    check_refused(proxy, o, "GET", o.url + tail, "bad_target", host=o.authority)


BAD_LITERALS = ["0177.0.0.1", "0x7f.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "017700000001",
                "127.0.0.01", "127.00.0.1",
                "256.0.0.1", "1.2.3.4.5", "127.0.0.256", "127.0.0", "1", "0", "127.0.0.1.", "0x7f.1", "127.0.0.0x1",
                "999999999999",
                "127.0.0.00000001", "00.0.0.0"]


@pytest.mark.req("T22", "R03")
@pytest.mark.parametrize("host", BAD_LITERALS)
def test_loose_ipv4_forms(proxy, host):
    check_refused(proxy, None, "GET", f"http://{host}:{unused_port()}/", "bad_target")


@pytest.mark.req("T22")
@pytest.mark.parametrize("host", ["127.0.0.1e0", "1.2.3.x4", "0.a", "1-2.3.4.5x"])
def test_names_that_look_like_addresses(proxy, names, host):
    """The last label is no number: a name like others, looked up as it stands."""
    client = proxy.client()
    client.send(request("GET", f"http://{host}/"))
    refused(proxy, client, "name_not_found", closes=False)
    assert names.asked(host) > 0


@pytest.mark.req("T22", "K01")
@pytest.mark.parametrize("host", BAD_LITERALS[:10] + ["[::1%lo]", "[fe80::1%25eth0]"])
def test_loose_literals_in_connect(proxy, host):
    check_refused(proxy, None, "CONNECT", f"{host}:{unused_port()}", "bad_target")


@pytest.mark.req("T22")
@pytest.mark.parametrize("host", ["::1", "[::1%25lo]", "[::1%lo]", "[fe80::1%25eth0]", "[::1", "::1]", "[]", "[:::1]",
                                  "[1::2::3]", "[g::1]",
                                  "[127.0.0.1]", "[v1.x]", "[::1]x", "x[::1]", "[1:2:3:4:5:6:7]",
                                  "[1:2:3:4:5:6:7:8:9]", "[::12345]",
                                  "[::127.0.0.01]", "[::1.2.3]", "[:1]", "[1:]", "[::1]]", "[[::1]", "[::1:]",
                                  "[::1.2.3.4:1]", "[:]", "[ ::1]"])
def test_malformed_ipv6(proxy, host):
    check_refused(proxy, None, "GET", f"http://{host}/", "bad_target", "bad_request_line")


@pytest.mark.req("T22")
@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[0::1]",
                                  "[::0:1]", "[::0.0.0.1]"])
def test_ipv6_literals(proxy, origin, ipv6, host):
    o, client = origin(host="::1"), proxy.client()
    assert client.ask("GET", f"http://{host}:{o.port}/").status == 200
    assert o.requests[0].get("Host") == f"{host}:{o.port}".encode()


@pytest.mark.req("T22", "R03")
@pytest.mark.parametrize("host", ["[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"])
def test_mapped_literals(proxy, origin, ipv6, host):
    o, client = origin(), proxy.client()
    assert client.ask("GET", f"http://{host}:{o.port}/").status in (200, 403, 502)


@pytest.mark.req("T23", "Z09")
@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "+80", "8o", "80a", "0x50", "000080", "1e2", "80,81",
                                  "80:80", "4294967376",
                                  "18446744073709551696", "%38%30", "8\xb2", "00000"])
def test_malformed_ports(proxy, port):
    check_refused(proxy, None, "GET", f"http://localhost:{port}/", "bad_target", "bad_request_line")


@pytest.mark.req("T22", "T12", "R08")
@pytest.mark.parametrize("host", ["h%41st", "h%00st", "a\\b", "a\xe4b", "a<b", "a\"b", "a^b", "a|b", "a`b", "{a}",
                                  "a\x7fb", "a;b", "a,b", "a'b",
                                  "a*b", "a$b", "a(b)", "a=b", "a!b", "a~b", "a&b", "x" * 254, "a..b", ".a",
                                  "a%0d%0ab"])
def test_odd_host_names_never_get_far(proxy, names, host):
    """Refused by syntax, or looked up and not found; never anything else."""
    check_refused(proxy, None, "GET", f"http://{host}/", "bad_target", "bad_request_line", "name_not_found",
                  "dns_failed")


@pytest.mark.req("S13", "R08")
@pytest.mark.parametrize("url", ["http://localhost:1/<script>alert(1)</script>", "http://<img src=x>/",
                                 "http://a\"b'/<b>", "<script>:x"])
def test_nothing_is_reflected_unescaped(proxy, url):
    client = proxy.client()
    client.send(request("GET", url.replace(" ", "+"), host="localhost"))
    message = client.response()
    assert message.status >= 400 and b"<" not in message.body and b"script" not in message.body
    assert not any(b"<" in value or b"script" in value for _, value in message.fields)
