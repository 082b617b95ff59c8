"""From what is configured to what asks: one PeopleProvider for each entry of `oauth2`.

The two kinds are imported with the first of them: what a configuration does not use is not paid for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.providers import GithubLogin

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.gate.providers import Provider
    from proxy.login.people import PeopleProvider


def make_provider(written: Provider, drift_s: Callable[[], float] = lambda: 0.0) -> PeopleProvider:
    """The provider of one entry. Nothing is asked before the first login; `aclose` ends it.

    `drift_s`: how far the machine's time is ahead of the one that the provider is told, in seconds.
    """
    if isinstance(written, GithubLogin):
        from proxy.login.github import GithubProvider  # noqa: PLC0415 - see the module's docstring

        return GithubProvider(written)
    from proxy.login.oidc import OidcProvider  # noqa: PLC0415

    return OidcProvider(written, drift_s=drift_s)
