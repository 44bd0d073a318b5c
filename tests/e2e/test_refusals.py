# SPDX-License-Identifier: MIT
"""Status codes, texts and Proxy-Status of the proxy's own responses, and its timeouts."""
import contextlib
import re
import socket
import threading
import time

import pytest

import world
from peers import Silent, answer, chunked, request, response, unused_port
from proxy import CAUSES, TLS_CAUSES, refused


@pytest.mark.req("Q06", "Q03", "S10")
def test_table_of_causes_follows_rfc_9209():
    recommended = {"dns_timeout": 504, "dns_error": 502, "destination_unavailable": 503,
                   "destination_ip_prohibited": (502, 403),
                   "destination_ip_unroutable": 502, "connection_refused": 502, "connection_terminated": 502,
                   "connection_timeout": 504,
                   "connection_read_timeout": 504, "connection_write_timeout": 504, "connection_limit_reached": 503,
                   "http_request_denied": 403,
                   "http_response_incomplete": 502, "http_response_header_section_size": 502,
                   "http_response_trailer_section_size": 502,
                   "http_response_transfer_coding": 502, "http_response_timeout": 504, "http_upgrade_failed": 502,
                   "http_protocol_error": 502,
                   "proxy_internal_error": 500, "proxy_loop_detected": 502,
                   "tls_certificate_error": 502, "tls_alert_received": 502, "tls_protocol_error": 502,
                   "proxy_configuration_error": 500}
    assert not CAUSES.keys() & TLS_CAUSES.keys()
    for cause in [*CAUSES.values(), *TLS_CAUSES.values()]:
        assert cause.status != 421
        if cause.status == 0:
            assert cause.type == cause.text == ""
        elif cause.type == "http_request_error":
            assert 400 <= cause.status < 506
        elif cause.type != "proxy_internal_response":
            right = recommended[cause.type]
            assert cause.status in (right if isinstance(right, tuple) else (right,)), cause


@pytest.mark.req("Q06")
def test_every_cause_is_named_by_a_test():
    """Only what no peer can bring about may be missing."""
    import glob
    import os
    text = ""
    for path in glob.glob(os.path.join(os.path.dirname(__file__), "test_*.py")):
        with open(path, encoding="utf-8") as f:
            text += f.read()
    missing = {token for token in CAUSES if token != "-" and text.count(f'"{token}"') == 0}
    assert missing <= {"internal_error"}, missing


@pytest.mark.req("S12", "S11")
@pytest.mark.parametrize("url,token", [("http://[/", "bad_target"), ("https://localhost/", "scheme_unsupported")])
def test_refusal_of_head_has_no_body(proxy, url, token):
    client = proxy.client()
    client.send(request("HEAD", url, host="localhost"))
    message = refused(proxy, client, token, method="HEAD", closes=None)
    assert message.body == b""


@pytest.mark.req("S12", "S05", "P01")
def test_refusal_of_head_keeps_the_connection_in_step(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("HEAD", f"http://127.0.0.1:{unused_port()}/"))
    refused(proxy, client, "connection_refused", method="HEAD", closes=False)
    assert client.ask("GET", o.url + "/").body == b"ok"


@pytest.mark.req("S05", "S14", "Q01", "Q03")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_connection(proxy, origin, method):
    o, client = origin(), proxy.client()
    client.send(request(method, f"http://127.0.0.1:{unused_port()}/x"))
    refused(proxy, client, "connection_refused", method=method, closes=False)
    assert client.ask("GET", o.url + "/").status == 200


@pytest.mark.req("S05", "P05", "P11")
def test_refused_connection_with_a_body(proxy, origin):
    o, client = origin(), proxy.client()
    client.send(request("POST", f"http://127.0.0.1:{unused_port()}/", body=request("GET", o.url + "/smuggled") * 100))
    refused(proxy, client, "connection_refused", method="POST", closes=None)
    time.sleep(0.05)
    assert not o.peers


@pytest.mark.req("S05", "Q03")
def test_unreachable_network(proxy, isolated):
    client = proxy.client()
    client.send(request("GET", "http://203.0.113.7/"))
    refused(proxy, client, "unreachable", closes=False)


@pytest.mark.req("S05", "Q03")
def test_unknown_name(start, names):
    proxy = start()
    client = proxy.client()
    client.send(request("GET", "http://unknown.example.test/"))
    refused(proxy, client, "name_not_found", closes=False)
    client.send(request("CONNECT", "unknown.example.test:443"))
    refused(proxy, client, "name_not_found", method="CONNECT")


@pytest.mark.req("S05", "Q03")
def test_failing_name_server(start, names):
    names.zone["failing.example.test"] = "servfail"
    proxy = start()
    client = proxy.client()
    client.send(request("GET", "http://failing.example.test/"))
    refused(proxy, client, "dns_failed", closes=False)


@pytest.mark.req("S06", "D01", "Z03", "Q03")
def test_silent_name_server(start, origin, names):
    """504 at the deadline, which comes before libc's own (see world.FILES); nobody else waits."""
    names.zone["silent.example.test"] = "silent"
    o, proxy = origin(), start("--allow-private", "--timeout", "dns=2" if world.STACK else "dns=1.2")
    waiting = [proxy.client() for _ in range(min(20, world.names))]
    for client in waiting:
        client.send(request("GET", "http://silent.example.test/"))
    other = proxy.client()
    for _ in range(5):
        assert other.ask("GET", o.url + "/").status == 200
    assert not any(proxy.records()[i]["cause"] for i in range(len(proxy.records()))), "the others were served first"
    for client in waiting:
        refused(proxy, client, "dns_timeout", closes=False)


@pytest.mark.req("S05", "Q03")
def test_name_server_that_never_answers(start, names):
    """Who asks for the name later may share the first one's wait, and takes its end for no answer either."""
    names.zone["silent.example.test"] = "silent"
    proxy = start("--timeout", "dns=30")
    waiting = []
    for _ in range(2):
        waiting.append(proxy.client())
        waiting[-1].send(request("GET", "http://silent.example.test/"))
        time.sleep(1.5)
    for client in waiting:
        refused(proxy, client, "dns_failed", closes=False)


@pytest.mark.req("D01")
def test_silent_names_do_not_stall_other_names(start, origin, names):
    """All resolver threads may hang, yet literals and known names go on."""
    o, proxy = origin(), start("--allow-private", "--timeout", "dns=1.5")
    names.zone["quick.example.test"] = ["127.0.0.1"]
    assert proxy.client().ask("GET", f"http://quick.example.test:{o.port}/").status == 200
    waiting = []
    for i in range(min(30, world.names - 1)):
        names.zone[f"silent{i}.example.test"] = "silent"
        waiting.append(proxy.client())
        waiting[-1].send(request("GET", f"http://silent{i}.example.test/"))
    assert proxy.client().ask("GET", f"http://quick.example.test:{o.port}/").status == 200
    assert proxy.client().ask("GET", o.url + "/").status == 200
    for client in waiting:
        refused(proxy, client, "dns_timeout", "dns_failed", closes=False)


@pytest.mark.req("D01", "S14")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves_during_a_lookup(start, names, how):
    names.zone["silent.example.test"] = "silent"
    proxy = start("--allow-private", "--timeout", "dns=0.8")
    clients = [proxy.client() for _ in range(10)]
    for client in clients:
        client.send(request("GET", "http://silent.example.test/"))
    time.sleep(0.05)
    for client in clients:
        client.reset() if how == "reset" else client.close()
    proxy.wait_idle()


@pytest.mark.req("S06", "Z03", "Q03")
def test_connect_timeout_of_a_get(start):
    proxy = start("--allow-private", "--timeout", "connect=0.5")
    with Silent() as silent:
        client = proxy.client()
        client.send(request("GET", f"http://127.0.0.1:{silent.port}/"))
        refused(proxy, client, "connect_timeout", closes=False)


@pytest.mark.req("S06", "Z03", "Q03")
def test_first_byte_timeout(start, origin):
    gone = []
    o = origin(lambda peer: (peer.request(), peer.rest(), gone.append(True)))
    proxy = start("--allow-private", "--timeout", "first_byte=0.5")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    client.quiet(0.3)
    refused(proxy, client, "first_byte_timeout", closes=False)
    o.wait(lambda _: gone)


@pytest.mark.req("S06", "Z03")
@pytest.mark.parametrize("part", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_pause_inside_a_response_head(start, origin, part):
    o = origin(lambda peer: (peer.request(), peer.send(part), peer.rest()))
    proxy = start("--allow-private", "--timeout", "response=0.5", "--timeout", "first_byte=0.5")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "origin_read_timeout", "first_byte_timeout", closes=False)


@pytest.mark.req("S15", "Z03", "B14")
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"])
def test_pause_inside_a_response_body(start, origin, head):
    o = origin(lambda peer: (peer.request(), peer.send(head + b"part"), peer.rest()))
    proxy = start("--allow-private", "--timeout", "response=0.5")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    back = client.response(whole=False)
    assert back.status == 200 and not back.complete and b"part".startswith(back.body)
    event = proxy.event(client)
    assert (event["cause"], event["status"], event["by"]) == ("origin_read_timeout", 200, "origin")


@pytest.mark.req("S03", "Z03", "P02")
@pytest.mark.parametrize("framing,part", [("Content-Length: 100", b"x" * 10), ("Content-Length: 100", b""),
                                          ("Transfer-Encoding: chunked", b"5\r\nhel"),
                                          ("Transfer-Encoding: chunked", b"")])
def test_body_timeout(start, origin, framing, part):
    o = origin(lambda peer: peer.rest())
    proxy = start("--allow-private", "--timeout", "body=0.5")
    client = proxy.client()
    client.send(request("POST", o.url + "/", framing) + part)
    refused(proxy, client, "body_timeout", method="POST")
    assert o.peers and not o.peers[0].received.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.req("Z03", "S06", "E05")
def test_origin_that_stops_reading(start, origin):
    def script(peer):
        peer.request(body=False)
        time.sleep(3)
    o = origin(script, receive_buffer=4096)
    proxy = start("--allow-private", "--timeout", "write=0.6")
    client = proxy.client()
    client.send(request("POST", o.url + "/", "Content-Length: 100000000"))
    stop = threading.Event()

    def upload():
        try:
            while not stop.is_set():
                client.sock.sendall(b"x" * 65536)
        except OSError:
            pass
    sender = threading.Thread(target=upload)
    sender.start()
    try:
        back = client.response("POST")
    finally:
        stop.set()
        with contextlib.suppress(OSError):  # the proxy may have closed it by now
            client.sock.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert back.status == 504 and b"connection_write_timeout" in back.get("Proxy-Status")
    assert proxy.event(client)["cause"] == "origin_write_timeout"


@pytest.mark.req("Z03", "S15")
def test_client_that_stops_reading(start, origin):
    gone = []

    def script(peer):
        try:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            for _ in range(1500):
                peer.send(b"x" * 65536)
        except OSError:
            pass
        gone.append(True)
    o = origin(script)
    proxy = start("--allow-private", "--timeout", "write=0.6", "--timeout", "response=20")
    client = proxy.client(receive_buffer=4096)
    client.send(request("GET", o.url + "/"))
    assert proxy.event(client)["cause"] == "client_write_timeout"
    o.wait(lambda _: gone)


@pytest.mark.req("Z03", "S06", "S15")
def test_total_timeout(start, origin):
    def script(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(200):
            peer.send(b"x")
            time.sleep(0.05)
    o, proxy = origin(script), start("--allow-private", "--timeout", "total=0.8")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    assert not client.response(whole=False).complete
    assert proxy.event(client)["cause"] == "total_timeout"


@pytest.mark.req("Z03", "S06", "Q03")
def test_total_timeout_before_the_response(start, origin):
    o = origin(lambda peer: (peer.request(), peer.rest()))
    proxy = start("--allow-private", "--timeout", "total=0.5")
    client = proxy.client()
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "total_timeout", closes=None)


@pytest.mark.req("Z03")
def test_timers_do_not_depend_on_each_other(start, origin):
    """A slow but moving exchange outlives every short timer that is not its own."""
    def script(peer):
        message = peer.request()
        time.sleep(0.9)  # longer than each of them
        peer.send(response(message.body))
        peer.rest()
    o = origin(script)
    proxy = start("--allow-private", *(part for name in ("head", "body", "dns", "connect", "write", "tunnel",
                                                         "half_closed", "linger", "refuse")
                                       for part in ("--timeout", f"{name}=0.6")))
    client = proxy.client()
    client.send(request("POST", o.url + "/", "Content-Length: 5"))
    for octet in b"hello":
        client.send(bytes([octet]))
        time.sleep(0.15)
    assert client.response("POST").body == b"hello"


@pytest.mark.req("Q02")
def test_proxy_status_of_others_is_kept(proxy, origin):
    o, client = origin(answer(response(b"ok", "Proxy-Status: inner; error=dns_timeout", status=504))), proxy.client()
    members = b", ".join(client.ask("GET", o.url + "/").all("Proxy-Status"))
    assert members.startswith(b"inner; error=dns_timeout")


@pytest.mark.req("Q04")
def test_no_proxy_status_in_trailers(proxy, origin):
    body = chunked(b"x", trailers=b"A: b\r\n")
    o, client = origin(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)), proxy.client()
    assert not any(k.lower() == b"proxy-status" for k, _ in client.ask("GET", o.url + "/").trailers)


@pytest.mark.req("Q05", "V03")
def test_proxy_status_tells_no_topology(start, names):
    names.zone["inner.example.test"] = ["127.0.0.1"]
    proxy = start("--allow-private", "--name", "edge")
    client = proxy.client()
    client.send(request("GET", f"http://inner.example.test:{unused_port()}/"))
    message = refused(proxy, client, "connection_refused", closes=False)
    assert re.fullmatch(rb"edge; *error=connection_refused", message.get("Proxy-Status"))
    text = b" ".join(value for _, value in message.fields) + message.body
    assert b"127.0.0.1" not in text and b"inner" not in text


@pytest.mark.req("S11", "S16", "H12")
def test_form_of_a_refusal(proxy):
    client = proxy.client()
    client.send(request("GET", f"http://127.0.0.1:{unused_port()}/"))
    message = refused(proxy, client, "connection_refused", closes=False)
    assert re.fullmatch(rb"HTTP/1\.1 502 Bad Gateway", message.start)
    assert message.framing == "length" and message.body.endswith(b"\n") and "Date" in message


@pytest.mark.req("S09")
@pytest.mark.parametrize("data,status,reason", [
    (b"GET http://x/ HTTP/3.0\r\n\r\n", 505, b"HTTP Version Not Supported"),
    (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 501, b"Not Implemented"),
    (b"x\r\n\r\n", 400, b"Bad Request")])
def test_reason_phrases(proxy, data, status, reason):
    client = proxy.client()
    client.send(data)
    message = client.response()
    assert (message.status, message.reason) == (status, reason)


@pytest.mark.req("S03", "S14", "S01")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_refusals_to_old_clients_are_framed_too(proxy, version):
    client = proxy.client()
    client.send(request("GET", f"http://127.0.0.1:{unused_port()}/", version=version))
    refused(proxy, client, "connection_refused", closes=version == "1.0")


@pytest.mark.req("S08", "S10")
def test_no_500_and_no_421_were_needed(proxy):
    """Of everything that the shared proxy has logged so far."""
    assert not {500, 421} & {r["status"] for r in proxy.records()}
