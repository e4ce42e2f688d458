from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bc_pipeline.auth.addresses import AddressRules, network_of
from bc_pipeline.settings import Settings

PROXIES = ("10.0.0.0/8", "2001:db8:ffff::/48")
CLIENT = "203.0.113.7"


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in values)]


@pytest.mark.parametrize("peer", [CLIENT, "::1", "", "testclient"])
def test_without_proxies_only_the_peer_counts(peer: str) -> None:
    assert AddressRules().client(peer, forwarded("198.51.100.1")) == peer


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        # A stranger says whatever he likes.
        (CLIENT, ["198.51.100.1"], CLIENT),
        ("10.0.0.1", [CLIENT], CLIENT),
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        ("10.0.0.1", [f"198.51.100.1, {CLIENT}"], CLIENT),
        ("10.0.0.1", [f"198.51.100.1, {CLIENT}, 10.9.9.9"], CLIENT),
        ("10.0.0.1", ["198.51.100.1", f"{CLIENT}", "10.9.9.9"], CLIENT),
        ("10.0.0.1", [f"garbage, {CLIENT}"], CLIENT),
        ("10.0.0.1", [f"{CLIENT}:4711"], CLIENT),
        ("10.0.0.1", [f"::ffff:{CLIENT}"], CLIENT),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0::1%eth0"], "2001:db8::1"),
        ("2001:db8:ffff::1", [CLIENT], CLIENT),
        # Everybody in the chain is trusted: the first one asks for himself.
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["unknown, 10.2.2.2"], "10.0.0.1"),
        ("10.0.0.1", [f"{CLIENT}, "], "10.0.0.1"),
        ("10.0.0.1", [f"{CLIENT}, 10.1"], "10.0.0.1"),
        ("10.0.0.1", [f"{CLIENT}:http"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1]x"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7 198.51.100.1"], "10.0.0.1"),
        ("", [CLIENT], ""),
    ],
)
def test_the_right_most_untrusted_address_is_the_client(
    peer: str, values: list[str], client: str
) -> None:
    assert AddressRules(proxies=PROXIES).client(peer, forwarded(*values)) == client


@given(
    invented=st.lists(st.binary(max_size=40), max_size=5),
    real=st.ip_addresses().filter(
        # An IPv4 address may be written as an IPv6 address.
        lambda a: (getattr(a, "ipv4_mapped", None) or a) not in ipaddress.ip_network("10.0.0.0/8")
    ),
)
def test_a_header_of_an_untrusted_peer_is_ignored(
    invented: list[bytes], real: ipaddress.IPv4Address
) -> None:
    rules = AddressRules(proxies=("10.0.0.0/8",))
    headers = [(b"x-forwarded-for", value) for value in (*invented, str(real).encode())]
    bare = rules.client("10.0.0.1", headers[-1:])
    assert rules.client("10.0.0.1", headers) == bare


def test_a_very_long_chain_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = AddressRules(proxies=PROXIES)
    chain = "198.51.100.1, " + ", ".join(["10.2.2.2"] * 100_000)
    assert rules.client("10.0.0.1", forwarded(chain)) == "10.2.2.2"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.1", True),
        ("192.0.3.1", False),
        ("::ffff:192.0.2.1", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("unix", False),
    ],
)
def test_only_listed_networks_are_allowed(address: str, allowed: bool) -> None:
    rules = AddressRules.from_settings(
        Settings(allowed_addresses=("192.0.2.0/24", "2001:db8::/32"))
    )
    assert rules.allowed(address) is allowed
    assert AddressRules().allowed(address) is True


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:bbbb::2", "2001:db8:0:1::/64"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
