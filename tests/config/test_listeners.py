"""Which two addresses cannot both be had: as the kernel says, for the sockets that promgate binds."""

from __future__ import annotations

import asyncio
import errno
import itertools

import pytest

from proxy.config.listeners import collide
from proxy.config.units import Address
from proxy.relay.accepting import bind
from tests.kit.process import free_port

HOSTS = ["", "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "localhost"]


async def is_refused(one: str, other: str) -> bool:
    """Whether `other` cannot be listened on beside `one`."""
    port = free_port()
    first = await bind(one, port)
    try:
        for sock in first:
            sock.listen()
        second = await bind(other, port)
    except OSError:
        return True
    else:
        for sock in second:
            sock.close()
        return False
    finally:
        for sock in first:
            sock.close()


#: Whether it has an address of IPv6 is for the machine to say.
UNTOLD = {("localhost", "::"), ("localhost", "::1"), ("::", "localhost"), ("::1", "localhost")}


@pytest.mark.parametrize(("one", "other"), sorted(set(itertools.product(HOSTS, HOSTS)) - UNTOLD))
def test_it_is_as_the_kernel_has_it(one: str, other: str) -> None:
    try:
        refused = asyncio.run(is_refused(one, other))
    except OSError as error:
        if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
            raise
        pytest.skip("this machine has no such address")
    assert collide(Address(one, 9443), Address(other, 9443)) is refused


def test_the_system_s_choice_and_another_port_collide_with_nothing() -> None:
    assert not collide(Address("", 0), Address("", 0))
    assert not collide(Address("", 9443), Address("", 9444))
