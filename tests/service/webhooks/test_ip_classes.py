"""Kinds of addresses, compared with the standard library's classification."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upres.service.webhooks.ip_classes import FORMS, Kind, kind, unwrapped

FORMERLY_PUBLIC = {
    IPv4Address("168.63.129.16")
}  # public for the standard library, which does not know Azure's use of it
ipv4 = st.ip_addresses(v=4)


@given(ipv4)
@example(IPv4Address("168.63.129.16"))
@example(IPv4Address("100.64.0.1"))
@example(IPv4Address("192.88.99.1"))
def test_no_ipv4_address_is_public_that_the_standard_library_calls_special(address):
    special = address.is_multicast or address.is_reserved or not address.is_global
    assert kind(address) is not Kind.PUBLIC or not special
    if kind(address) is not Kind.PUBLIC and not special:
        assert address in FORMERLY_PUBLIC or kind(address) is Kind.RESERVED


@given(st.ip_addresses(v=6))
@example(IPv6Address("2001::1"))
@example(IPv6Address("::7f00:1"))
@example(IPv6Address("::ffff:0:7f00:1"))
def test_no_ipv6_address_is_public_that_the_standard_library_calls_special(address):
    if unwrapped(address) == address:
        special = address.is_multicast or address.is_reserved or address.is_site_local or not address.is_global
        assert kind(address) is not Kind.PUBLIC or not special


@given(ipv4, st.sampled_from(sorted(FORMS.items())), st.integers(0, 2**80 - 1))
def test_an_ipv6_form_of_an_ipv4_address_is_what_that_one_is(address, form, rest):
    network, bits = form
    wrapped = IPv6Address(int(network.network_address) | int(address) << bits | rest % 2**bits)
    assert unwrapped(wrapped) == address and kind(wrapped) is kind(address)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.8.8.8", Kind.PUBLIC),
        ("2606:4700::1111", Kind.PUBLIC),
        ("127.0.0.1", Kind.LOOPBACK),
        ("127.255.255.254", Kind.LOOPBACK),
        ("::1", Kind.LOOPBACK),
        ("10.1.2.3", Kind.PRIVATE),
        ("172.31.255.255", Kind.PRIVATE),
        ("172.32.0.0", Kind.PUBLIC),
        ("192.168.0.1", Kind.PRIVATE),
        ("fd12::1", Kind.PRIVATE),
        ("100.127.255.255", Kind.SHARED),
        ("169.254.1.1", Kind.LINK_LOCAL),
        ("fe80::1%eth0", Kind.LINK_LOCAL),
        ("224.0.0.1", Kind.MULTICAST),
        ("ff02::1", Kind.MULTICAST),
        ("0.0.0.0", Kind.UNSPECIFIED),
        ("::", Kind.UNSPECIFIED),
        ("255.255.255.255", Kind.RESERVED),
        ("::7f00:1", Kind.RESERVED),
        ("::ffff:0:7f00:1", Kind.RESERVED),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Kind.RESERVED),
        ("64:ff9b:1::7f00:1", Kind.RESERVED),
        ("::ffff:127.0.0.1", Kind.LOOPBACK),
        ("2002:7f00:1::", Kind.LOOPBACK),
        ("64:ff9b::a00:1", Kind.PRIVATE),
        ("169.254.169.254", Kind.METADATA),
        ("::ffff:169.254.169.254", Kind.METADATA),
        ("fd00:ec2::254", Kind.METADATA),
        ("168.63.129.16", Kind.METADATA),
    ],
)
def test_every_kind_is_known(text, expected):
    assert kind(ip_address(text)) is expected
