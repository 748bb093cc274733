"""Hosts, ports and URLs: internal addresses, IPv6 in brackets, what is shown of a URL that has a password. Pure."""

import ipaddress
import re
from dataclasses import dataclass

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.hosts import bare

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")
_PASSWORD = re.compile(r"(?<=[?&\s]password=)[^&\s]*|(?<=^password=)[^&\s]*")


@dataclass(eq=False)
class AddressRefused(InvalidInput):
    """A name or address of this machine or its network, to which requests for strangers must not go."""

    code = "address_refused"
    host: str
    port: int
    address: str
    kind: str

    def __str__(self) -> str:
        where = self.host if self.host == self.address else f"{self.host} is {self.address}, which"
        return f"{where} is a {self.kind} address: requests to servers that others name do not go there"


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL: an IPv6 address in brackets.

    >>> authority("::1", 8080), authority("localhost", 8080)
    ('[::1]:8080', 'localhost:8080')
    """
    host = bare(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """The host by which this machine reaches a server that listens on `host`: loopback where that is every address.

    >>> reachable("0.0.0.0"), reachable("[::]"), reachable("10.0.0.1")
    ('127.0.0.1', '::1', '10.0.0.1')
    """
    host = bare(host)
    return WILDCARDS.get(host, host)


def internal_kind(address: str) -> str:
    """What an address is that is not one of the public Internet; "" for a public one.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) counts as itself.

    >>> internal_kind("169.254.169.254"), internal_kind("::ffff:127.0.0.1"), internal_kind("93.184.216.34")
    ('link-local', 'loopback', '')
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return internal_kind(str(inner))
    kinds = {
        "unspecified": parsed.is_unspecified,
        "loopback": parsed.is_loopback,
        "link-local": parsed.is_link_local,
        "multicast": parsed.is_multicast,
        "private": not parsed.is_global or (isinstance(parsed, ipaddress.IPv6Address) and parsed.is_site_local),
    }
    return next((kind for kind, found in kinds.items() if found), "")


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks and addresses, comma-separated. Errors: ValueError that names the one that is none.

    >>> networks_of("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    return tuple(ipaddress.ip_network(part) for each in text.split(",") if (part := each.strip()))


def without_credentials(url: str) -> str:
    """A URL, or several, as it may be shown.

    >>> without_credentials("nats://token@a:4222,nats://u:p%40@b:4222")
    'nats://***@a:4222,nats://***@b:4222'
    >>> without_credentials("postgresql://h/forge?user=u&password=p")
    'postgresql://h/forge?user=u&password=***'
    """
    return ",".join(_PASSWORD.sub("***", _USERINFO.sub("***@", part)) for part in url.split(","))
