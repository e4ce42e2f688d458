"""Where a request comes from, and whether that place may ask."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache

from bc_pipeline.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED = 4096
# Nobody has more proxies in a row; what stands further left is a client's invention.
_HOPS = 32


class AddressBook:
    """The allow-list, and the proxies that may say for whom they ask.

    Parameters
    ----------
    allowed, proxies : sequence of str
        Networks as CIDR; no allowed ones: every address may ask.
    """

    def __init__(self, allowed: Sequence[str] = (), proxies: Sequence[str] = ()) -> None:
        self._open = not allowed
        self._alone = not proxies
        self._allowed = _membership(allowed)
        self._trusted = _membership(proxies)

    @classmethod
    def of(cls, settings: Settings) -> AddressBook:
        return cls(settings.allowed_addresses, settings.trusted_proxies)

    def client(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address that a request comes from.

        ``X-Forwarded-For`` counts only where the peer is a trusted proxy: then it is the
        right-most address that is no trusted proxy itself, which is the last one that a
        trusted proxy has seen with its own eyes.
        """
        if self._alone or not self._trusted(peer):
            return peer
        value = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        found = peer
        for hop in reversed(value.decode("latin-1").rsplit(",", _HOPS)[-_HOPS:]):
            address = _parse_hop(hop)
            if address is None:
                return peer
            found = str(address)
            if not self._trusted(found):
                break
        return found

    def allowed(self, address: str) -> bool:
        """Whether an address may ask."""
        return self._open or self._allowed(address)


@lru_cache(_REMEMBERED)
def network_of(address: str) -> str:
    """What an address is counted by: an IPv6 client owns the 2**64 addresses of its network."""
    parsed = _parse(address)
    if parsed is None or parsed.version == 4:
        return address if parsed is None else str(parsed)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _membership(words: Sequence[str]) -> Callable[[str], bool]:
    networks = tuple(ipaddress.ip_network(word) for word in words)

    @lru_cache(_REMEMBERED)
    def is_member(text: str) -> bool:
        address = _parse(text)
        return address is not None and any(address in network for network in networks)

    return is_member


def _parse(text: str) -> Address | None:
    """An address in its one form: IPv4 within IPv6 is IPv4, a zone is dropped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_hop(text: str) -> Address | None:
    """One entry of ``X-Forwarded-For``; some proxies write the port too."""
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
