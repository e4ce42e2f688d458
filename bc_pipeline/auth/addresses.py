"""Client addresses: trusted proxies, the allow-list, and the network that limits apply to."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache

from bc_pipeline.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CACHE_SIZE = 4096
# Longer chains of proxies are not expected: entries further left are ignored.
_HOPS = 32


class AddressRules:
    """The allow-list of addresses, and the proxies whose X-Forwarded-For is trusted.

    Parameters
    ----------
    allowed, proxies : sequence of str
        Networks in CIDR notation; without allowed ones every address is.
    """

    def __init__(self, allowed: Sequence[str] = (), proxies: Sequence[str] = ()) -> None:
        self._any = not allowed
        self._no_proxies = not proxies
        self._allowed = _membership(allowed)
        self._trusted = _membership(proxies)

    @classmethod
    def from_settings(cls, settings: Settings) -> AddressRules:
        return cls(settings.allowed_addresses, settings.trusted_proxies)

    def client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address that a request comes from.

        ``X-Forwarded-For`` counts only where the peer is a trusted proxy: the client is then
        its right-most address that is not a trusted proxy. Addresses further left were
        written by the client itself or by proxies that are not trusted.
        """
        if self._no_proxies or not self._trusted(peer):
            return peer
        value = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        client = peer
        for hop in reversed(value.decode("latin-1").rsplit(",", _HOPS)[-_HOPS:]):
            address = _parse_hop(hop)
            if address is None:
                return peer
            client = str(address)
            if not self._trusted(client):
                break
        return client

    def allowed(self, address: str) -> bool:
        """Whether the allow-list admits an address."""
        return self._any or self._allowed(address)


@lru_cache(_CACHE_SIZE)
def network_of(address: str) -> str:
    """The network that limits apply to: an IPv6 client owns the 2**64 addresses of its /64."""
    parsed = _parse(address)
    if parsed is None or parsed.version == 4:
        return address if parsed is None else str(parsed)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _membership(words: Sequence[str]) -> Callable[[str], bool]:
    networks = tuple(ipaddress.ip_network(word) for word in words)

    @lru_cache(_CACHE_SIZE)
    def is_member(text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in networks)

    return is_member


def _parse(text: str) -> Address | None:
    """Normalize an address: IPv4 mapped to IPv6 becomes IPv4, a zone is dropped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_hop(text: str) -> Address | None:
    """Parse an entry of ``X-Forwarded-For``; some proxies add the port."""
    hop = text.strip()
    if hop.startswith("["):
        inside, _, rest = hop[1:].partition("]")
        return _parse(inside) if not rest or _is_port(rest) else None
    host, colon, port = hop.partition(":")
    if colon and ":" not in port:
        return _parse(host) if _is_port(colon + port) else None
    return _parse(hop)


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()
