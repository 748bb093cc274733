"""Which servers a request may reach that others name: see `outgoing`, which imports an HTTP client for it."""

from dataclasses import dataclass
from ipaddress import ip_address

from dreamforge.runtime.network import AddressRefused, Network, internal_kind


@dataclass(frozen=True, slots=True)
class OutgoingRule:
    """What may be connected to: public addresses, those in `networks`, and each of `servers` (host, port) by name."""

    networks: tuple[Network, ...] = ()
    servers: frozenset[tuple[str, int]] = frozenset()

    def refusal(self, host: str, port: int, address: str) -> AddressRefused | None:
        """Why this address of a host is not connected to; None if it may be. Pure.

        >>> OutgoingRule().refusal("a.example", 80, "10.0.0.1").kind
        'private'
        """
        if (host, port) in self.servers or not (kind := internal_kind(address)):
            return None
        parsed = ip_address(address)
        if any(parsed.version == network.version and parsed in network for network in self.networks):
            return None
        return AddressRefused(host, port, address, kind)
