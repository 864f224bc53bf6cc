"""Classification of IP addresses, by which to decide whether clients may make this server connect to them."""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """Kind of an address; the values are used in error messages."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "carrier-grade NAT"
    LINK_LOCAL = "link-local"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"
    METADATA = "cloud metadata"


# Addresses of the metadata services of clouds, which return credentials; some lie in networks that are otherwise public.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # AWS containers
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google Cloud
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba Cloud
        "192.0.0.192",  # Oracle Cloud
        "fd00:42::42",  # Scaleway
    )
)

NAMED = {
    "is_unspecified": Kind.UNSPECIFIED,
    "is_loopback": Kind.LOOPBACK,
    "is_link_local": Kind.LINK_LOCAL,
    "is_multicast": Kind.MULTICAST,
}
NETWORKS: dict[IPv4Network | IPv6Network, Kind] = {
    IPv4Network("10.0.0.0/8"): Kind.PRIVATE,  # RFC 1918
    IPv4Network("172.16.0.0/12"): Kind.PRIVATE,
    IPv4Network("192.168.0.0/16"): Kind.PRIVATE,
    IPv4Network("100.64.0.0/10"): Kind.SHARED,  # RFC 6598
    IPv6Network("fc00::/7"): Kind.PRIVATE,  # RFC 4193
    IPv6Network("fec0::/10"): Kind.PRIVATE,  # site-local, RFC 3879
    IPv4Network("192.88.99.0/24"): Kind.RESERVED,  # 6to4 relays, RFC 7526; global according to the standard library
    IPv6Network("2001::/23"): Kind.RESERVED,  # IETF protocols including Teredo; not in every version of the library
    IPv6Network("3fff::/20"): Kind.RESERVED,  # documentation, RFC 9637; likewise
}
GLOBAL_IPV6 = IPv6Network("2000::/3")  # outside of it, the standard library reports unassigned addresses as global

# IPv6 forms of an IPv4 address, with the number of bits that follow the IPv4 address.
FORMS = {
    IPv6Network("::ffff:0:0/96"): 0,  # mapped, RFC 4291
    IPv6Network("64:ff9b::/96"): 0,  # NAT64, RFC 6052
    IPv6Network("2002::/16"): 80,  # 6to4, RFC 3056
}


def kind(address: Address) -> Kind:
    """Classify an address; an IPv6 form of an IPv4 address is classified as that address."""
    if (plain := unwrapped(address)) in METADATA:
        return Kind.METADATA
    for name, named in NAMED.items():
        if getattr(plain, name):
            return named
    for network, of_network in NETWORKS.items():
        if plain in network:
            return of_network
    assigned = isinstance(plain, IPv4Address) or plain in GLOBAL_IPV6
    return Kind.PUBLIC if plain.is_global and not plain.is_reserved and assigned else Kind.RESERVED


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address embeds, if any; otherwise the address itself, without its zone."""
    if isinstance(address, IPv4Address):
        return address
    for network, bits in FORMS.items():
        if address in network:
            return IPv4Address(int(address) >> bits & 0xFFFFFFFF)
    return IPv6Address(int(address))
