"""What kind of address an IP address is, and so whether a stranger may make this server connect to it. Knows no names."""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """Whom an address belongs to; the words stand in error messages."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "carrier-grade NAT"
    LINK_LOCAL = "link-local"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    RESERVED = "reserved"
    METADATA = "cloud metadata"


# The addresses under which cloud machines hand out their credentials; some lie in networks that are otherwise public.
METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # nearly all
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

# IANA IPv4 Special-Purpose Address Registry, and RFC 5771 (multicast).
SPECIAL_IPV4 = {
    IPv4Network("0.0.0.0/8"): Kind.UNSPECIFIED,
    IPv4Network("10.0.0.0/8"): Kind.PRIVATE,
    IPv4Network("100.64.0.0/10"): Kind.SHARED,
    IPv4Network("127.0.0.0/8"): Kind.LOOPBACK,
    IPv4Network("169.254.0.0/16"): Kind.LINK_LOCAL,
    IPv4Network("172.16.0.0/12"): Kind.PRIVATE,
    IPv4Network("192.0.0.0/24"): Kind.RESERVED,
    IPv4Network("192.0.2.0/24"): Kind.RESERVED,
    IPv4Network("192.88.99.0/24"): Kind.RESERVED,
    IPv4Network("192.168.0.0/16"): Kind.PRIVATE,
    IPv4Network("198.18.0.0/15"): Kind.RESERVED,
    IPv4Network("198.51.100.0/24"): Kind.RESERVED,
    IPv4Network("203.0.113.0/24"): Kind.RESERVED,
    IPv4Network("224.0.0.0/4"): Kind.MULTICAST,
    IPv4Network("240.0.0.0/4"): Kind.RESERVED,
}

# IANA IPv6 Special-Purpose Address Registry. What is in none of these is public only inside 2000::/3.
SPECIAL_IPV6 = {
    IPv6Network("::/128"): Kind.UNSPECIFIED,
    IPv6Network("::1/128"): Kind.LOOPBACK,
    IPv6Network("fc00::/7"): Kind.PRIVATE,
    IPv6Network("fec0::/10"): Kind.PRIVATE,  # site-local, RFC 3879
    IPv6Network("fe80::/10"): Kind.LINK_LOCAL,
    IPv6Network("ff00::/8"): Kind.MULTICAST,
    IPv6Network("2001::/23"): Kind.RESERVED,  # Teredo among them
    IPv6Network("2001:db8::/32"): Kind.RESERVED,
    IPv6Network("3fff::/20"): Kind.RESERVED,
}
GLOBAL_IPV6 = IPv6Network("2000::/3")

# IPv6 forms of an IPv4 address, and how many bits follow the IPv4 address in them.
FORMS = {
    IPv6Network("::ffff:0:0/96"): 0,  # mapped, RFC 4291
    IPv6Network("64:ff9b::/96"): 0,  # NAT64, RFC 6052
    IPv6Network("2002::/16"): 80,  # 6to4, RFC 3056
}


def kind(address: Address) -> Kind:
    """What an address is; an IPv6 form of an IPv4 address is what that one is."""
    if (plain := unwrapped(address)) in METADATA:
        return Kind.METADATA
    if isinstance(plain, IPv4Address):
        return next((found for network, found in SPECIAL_IPV4.items() if plain in network), Kind.PUBLIC)
    other = Kind.PUBLIC if plain in GLOBAL_IPV6 else Kind.RESERVED
    return next((found for network, found in SPECIAL_IPV6.items() if plain in network), other)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does; else the address itself, without its zone."""
    if isinstance(address, IPv4Address):
        return address
    for network, bits in FORMS.items():
        if address in network:
            return IPv4Address(int(address) >> bits & 0xFFFFFFFF)
    return IPv6Address(int(address))
