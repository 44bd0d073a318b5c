# SPDX-License-Identifier: MIT
"""Where requests may lead: addresses, names, several addresses of a name."""
import signal
import subprocess
import time

import pytest

import world
from peers import PATIENCE, Silent, answer, request, response, unused_port
from proxy import BINARY, refused

SPECIAL = ["0.0.0.0", "0.1.2.3", "10.20.30.40", "10.255.255.255", "100.64.3.3", "100.127.255.255", "127.0.0.1",
           "127.255.255.254", "169.254.169.254",
           "172.16.5.5", "172.31.255.255", "192.0.0.1", "192.168.7.7", "198.18.0.9", "198.19.255.255", "224.0.0.1",
           "239.255.255.255", "240.0.0.1",
           "255.255.255.255", "[::]", "[::1]", "[fc00::1]", "[fd12:3456::1]", "[fe80::1]", "[febf::1]", "[ff02::1]"]
EMBEDDED = ["[::ffff:127.0.0.1]", "[::ffff:10.20.30.40]", "[::ffff:a9fe:a9fe]", "[64:ff9b::127.0.0.1]",
            "[64:ff9b::a14:1e28]", "[2002:7f00:1::]",
            "[2002:a14:1e28::1]", "[2002:c0a8:707::1]", "[::ffff:0.0.0.0]", "[0:0:0:0:0:ffff:7f00:0001]"]


@pytest.fixture
def careful(start):
    return start("--connect-ports", "any")


@pytest.mark.req("R02", "S02", "R07")
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
@pytest.mark.parametrize("host", SPECIAL)
def test_special_purpose_addresses(careful, isolated, method, host):
    client = careful.client()
    port = unused_port()
    client.send(request(method, f"{host}:{port}" if method == "CONNECT" else f"http://{host}:{port}/",
                        host=f"{host}:{port}"))
    refused(careful, client, "address_denied", method=method, closes=None)


@pytest.mark.req("R03", "R02")
@pytest.mark.parametrize("host", EMBEDDED)
def test_embedded_special_purpose_addresses(careful, isolated, host):
    client = careful.client()
    client.send(request("GET", f"http://{host}:{unused_port()}/"))
    refused(careful, client, "address_denied", closes=None)


@pytest.mark.req("R01", "R02")
@pytest.mark.parametrize("address", ["127.0.0.1", "10.20.30.40", "169.254.169.254", "::1", "fd12:3456::1",
                                     "::ffff:127.0.0.1"])
@pytest.mark.parametrize("kind", ["GET", "CONNECT", "websocket"])
def test_names_that_lead_to_special_purpose_addresses(careful, origin, names, address, kind):
    name = "rebind." + address.replace(".", "-").replace(":", "x") + ".example.test"
    names.zone[name] = [address]
    o, client = origin(host=address if address != "::ffff:127.0.0.1" else "127.0.0.1"), careful.client()
    if kind == "CONNECT":
        client.send(request("CONNECT", f"{name}:{o.port}"))
    else:
        fields = ["Connection: upgrade", "Upgrade: websocket"] if kind == "websocket" else []
        client.send(request("GET", f"http://{name}:{o.port}/", *fields))
    refused(careful, client, "address_denied", method=kind, closes=None)
    assert not o.peers and names.asked(name) > 0


@pytest.mark.req("R01", "R02", "K02")
def test_localhost_by_name(careful, origin):
    o, client = origin(), careful.client()
    client.send(request("GET", f"http://localhost:{o.port}/"))
    refused(careful, client, "address_denied", closes=None)
    assert not o.peers


@pytest.mark.req("R01", "D06")
def test_only_permitted_addresses_of_a_name_are_used(careful, origin, names):
    names.zone["mixed.example.test"] = ["127.0.0.1", world.PUBLIC, "10.20.30.40"]
    good = origin(answer(response(b"good")), host=world.PUBLIC)
    bad = [origin(host=host, port=good.port) for host in ("127.0.0.1", "10.20.30.40")]
    for _ in range(4):
        assert careful.client().ask("GET", f"http://mixed.example.test:{good.port}/").body == b"good"
    assert not any(o.peers for o in bad)


@pytest.mark.req("R01")
def test_rebinding_between_requests(start, origin, names):
    """The address is judged when it is connected, each time."""
    proxy = start()
    public, private = origin(host=world.PUBLIC), None
    names.zone["turn.example.test"] = [world.PUBLIC]
    client = proxy.client()
    assert client.ask("GET", f"http://turn.example.test:{public.port}/", "Connection: close").status == 200
    private = origin(host="127.0.0.1", port=public.port)
    names.zone["turn.example.test"] = ["127.0.0.1"]
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line("reloaded")
    client = proxy.client()
    client.send(request("GET", f"http://turn.example.test:{public.port}/"))
    refused(proxy, client, "address_denied", closes=None)
    assert not private.peers


@pytest.mark.req("R07", "R02", "T01")
def test_public_addresses_are_reachable_by_default(start, origin, isolated, ipv6):
    proxy = start()
    for host in (world.PUBLIC, world.PUBLIC6):
        o = origin(host=host)
        assert proxy.client().ask("GET", o.url + "/").status == 200


@pytest.mark.req("R02")
def test_private_networks_can_be_opened_one_by_one(start, origin, isolated):
    proxy = start("--allow-private=10.20.0.0/16,fd12:3456::/32")
    for host, status in (("10.20.30.40", 200), ("fd12:3456::1", 200), (world.PUBLIC, 200), ("192.168.7.7", 403),
                         ("127.0.0.1", 403), ("::1", 403)):
        o = origin(host=host)
        assert proxy.client().ask("GET", o.url + "/").status == status, host


@pytest.mark.req("R07", "A15")
@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.20.30.40:0", world.PUBLIC + ":0"])
def test_open_proxy_needs_a_word(listen):
    done = subprocess.run([BINARY, "--listen", listen], capture_output=True, timeout=PATIENCE)
    assert done.returncode != 0 and b"--clients" in done.stderr


@pytest.mark.req("R07")
def test_default_serves_this_machine_alone(start, origin, isolated):
    proxy = start("--clients", "127.0.0.0/8", listen="0.0.0.0:0")
    o = origin(host=world.PUBLIC)
    assert proxy.client().ask("GET", o.url + "/").status == 200
    proxy.host = "10.20.30.40"
    client = proxy.client(source="10.20.30.40")
    client.send(request("GET", o.url + "/"))
    refused(proxy, client, "policy_denied", closes=None)
    assert len(o.peers) == 1


# ---- Names and several addresses

@pytest.mark.req("R01", "G06")
def test_names_are_complete(start, origin, names, tmp_path):
    """A search list in resolv.conf makes no other names of those that a policy was asked about."""
    names.zone["hr.searched.test"] = [world.PUBLIC]
    policy = tmp_path / "names.policy"
    policy.write_text("deny hosts hr.searched.test\nallow ports any\n")
    o, proxy = origin(host=world.PUBLIC), start("--policy", str(policy))
    client = proxy.client()
    client.send(request("GET", f"http://hr.searched.test:{o.port}/"))
    refused(proxy, client, "policy_denied", closes=None)
    client = proxy.client()
    client.send(request("GET", f"http://hr:{o.port}/"))
    refused(proxy, client, "name_not_found", closes=None)
    assert names.asked("hr.searched.test") == 0 and not o.peers
    assert names.asked("hr") <= 2, "once for each family"


@pytest.mark.req("G06")
def test_search_list_that_the_operator_asks_for(start, origin, names):
    names.zone["hr.searched.test"] = [world.PUBLIC]
    o, proxy = origin(host=world.PUBLIC), start(prefix=("env", "LOCALDOMAIN=searched.test"))
    assert proxy.client().ask("GET", f"http://hr:{o.port}/").status == 200



@pytest.mark.req("D02", "D03")
def test_both_families_are_asked_for(start, origin, names, ipv6):
    names.zone["both.example.test"] = ["127.0.0.1"]
    o, proxy = origin(), start("--allow-private")
    assert proxy.client().ask("GET", f"http://both.example.test:{o.port}/").status == 200
    assert {kind for name, kind in names.queries if name == "both.example.test"} == {"A", "AAAA"}


@pytest.mark.req("D04", "D06", "D05", "D03")
@pytest.mark.parametrize("silent_host,good_host", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_silent_address_costs_no_more_than_a_head_start(start, origin, names, ipv6, silent_host, good_host):
    """Either family may be dead: the other one serves long before the connect timeout."""
    names.zone["halfdead.example.test"] = ["127.0.0.1", "::1"]
    proxy = start("--allow-private", "--timeout", "connect=8", "--timeout", "attempt=0.2")
    o = origin(host=good_host)
    with Silent(silent_host, o.port):
        client = proxy.client()
        client.send(request("POST", f"http://halfdead.example.test:{o.port}/", body=b"once"))
        assert client.response("POST").status == 200
    assert len(o.requests) == 1 and o.requests[0].body == b"once"
    assert proxy.event(client)["connect_ms"] < 4000
    assert proxy.event(client)["address"] == o.authority


@pytest.mark.req("D06", "D05")
def test_refusing_addresses_are_passed_over(start, origin, names, isolated):
    names.zone["several.example.test"] = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]
    proxy, o = start("--allow-private"), origin(host="127.0.0.4")
    client = proxy.client()
    assert client.ask("GET", f"http://several.example.test:{o.port}/").status == 200
    assert len(o.requests) == 1


@pytest.mark.req("D06", "Q03", "S05")
def test_last_error_is_told(start, names):
    names.zone["dead.example.test"] = ["127.0.0.2", "127.0.0.3"]
    proxy = start("--allow-private")
    client = proxy.client()
    client.send(request("GET", f"http://dead.example.test:{unused_port()}/"))
    refused(proxy, client, "connection_refused", closes=False)


@pytest.mark.req("D06", "S06", "Z03")
def test_all_addresses_share_one_deadline(start, names):
    names.zone["tarpit.example.test"] = [f"127.0.0.{i}" for i in range(2, 6)]
    proxy = start("--allow-private", "--timeout", "connect=0.8", "--timeout", "attempt=0.1")
    port = unused_port()
    silents = [Silent(f"127.0.0.{i}", port) for i in range(2, 6)]
    client, begun = proxy.client(), time.monotonic()
    client.send(request("GET", f"http://tarpit.example.test:{port}/"))
    refused(proxy, client, "connect_timeout", closes=False)
    assert time.monotonic() - begun < 0.8 * 3
    for silent in silents:
        silent.__exit__()


@pytest.mark.req("D05")
def test_losing_attempts_carry_no_request(start, origin, names):
    """Two addresses answer; one connection gets the request, the other one none."""
    names.zone["twice.example.test"] = ["127.0.0.2", "127.0.0.3"]
    proxy = start("--allow-private", "--timeout", "attempt=0.001")
    one = origin(host="127.0.0.2")
    two = origin(host="127.0.0.3", port=one.port)
    for i in range(20):
        assert proxy.client().ask("POST", f"http://twice.example.test:{one.port}/{i}", body=b"x").status == 200
    assert sorted(r.target for r in one.requests + two.requests) == sorted(b"/%d" % i for i in range(20))


@pytest.mark.req("D08")
def test_names_are_remembered_until_told_otherwise(start, origin, names):
    names.zone["known.example.test"] = ["127.0.0.1", "::1"]  # of both families: that one is missing is another matter
    o, proxy = origin(), start("--allow-private")
    url = f"http://known.example.test:{o.port}/"
    for _ in range(5):
        assert proxy.client().ask("GET", url).status == 200
    asked = names.asked("known.example.test")
    assert asked <= 2
    proxy.process.send_signal(signal.SIGHUP)
    proxy.line("reloaded")
    assert proxy.client().ask("GET", url).status == 200
    assert names.asked("known.example.test") > asked


@pytest.mark.req("D08")
def test_missing_names_are_remembered_briefly(start, origin, names):
    o, proxy = origin(), start("--allow-private")
    url = f"http://later.example.test:{o.port}/"
    for _ in range(5):
        assert proxy.client().ask("GET", url).status == 502
    assert names.asked("later.example.test") <= 2
    names.zone["later.example.test"] = ["127.0.0.1"]
    deadline = time.monotonic() + 15
    while proxy.client().ask("GET", url).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.mark.req("D01", "D08", "Z08")
def test_more_names_than_the_cache_holds(start, origin, names):
    o, proxy = origin(), start("--allow-private")
    client = proxy.client()
    for i in range(600):
        names.zone[f"n{i}.example.test"] = ["127.0.0.1"]
        assert client.ask("GET", f"http://n{i}.example.test:{o.port}/").status == 200


@pytest.mark.req("K03", "D04")
def test_connect_tunnel_past_a_silent_address(start, origin, names, ipv6):
    names.zone["tunnel.example.test"] = ["127.0.0.1", "::1"]
    proxy = start("--allow-private", "--connect-ports", "any", "--timeout", "attempt=0.2")
    o = origin(lambda peer: peer.send(peer.exactly(5)))
    with Silent("::1", o.port):
        client = proxy.client()
        client.send(request("CONNECT", f"tunnel.example.test:{o.port}") + b"early")
        assert client.response("CONNECT").status == 200
        assert client.exactly(5) == b"early"
