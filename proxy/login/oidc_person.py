"""What an OpenID provider says of a person -> who that is here, and which keys of roles they have.

A claim of another type than its own is no claim. An e-mail is a name only where the provider vouches for it, and in the
same breath: `email_verified` of one source says nothing of the `email` of another.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from proxy.login.claims import texts_of
from proxy.login.id_token import session_id
from proxy.login.people import Person, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.providers import OidcLogin

#: It becomes part of an identity, which goes into logs and headers: visible ASCII without a comma, in lower case.
is_mail = re.compile(r"[!-+\--?A-~]{1,64}@[a-z0-9.-]{1,255}").fullmatch


def fold_mail(value: object) -> str:
    """An e-mail in the spelling in which it is compared; nothing for what is none, or cannot be a name."""
    if not isinstance(value, str) or not value.isascii():
        return ""
    mail = value.lower()
    return mail if is_mail(mail) else ""


def is_enough(written: OidcLogin, claims: Mapping[str, Any]) -> bool:
    """Whether the claims tell all that matters here, so that the provider need not be asked for more."""
    wants_groups = written.allowed_groups or any(key.startswith(f"{written.prefix}group:") for key in written.known)
    return bool(_mail(written, claims)) and not (wants_groups and not list(texts_of(claims, written.groups_claim)))


def build_person(
    written: OidcLogin, told: Mapping[str, Any], more: Mapping[str, Any], tokens: Mapping[str, str], fresh_until: float
) -> Person | Refused:
    """`told` is of the ID token, `more` of the userinfo endpoint, empty where it was not asked. Both are of one `sub`.

    `tokens` has `refresh_token` and `id_token`.
    """
    subject = str(told["sub"])
    mail = _mail(written, told) or _mail(written, more)
    domain = mail.rpartition("@")[2]
    groups = set(texts_of(told, written.groups_claim)) or set(texts_of(more, written.groups_claim))
    if written.allowed_domains and domain not in written.allowed_domains:
        what = f"{domain} is none of the domains that may" if mail else "without an e-mail that is verified nobody may"
        return Refused(f"{what} log in here: ask whoever runs it, or your provider")
    if written.allowed_groups and not written.allowed_groups & groups:
        return Refused("you are in none of the groups that may log in here: ask whoever runs it, or your provider")
    name = f"{written.prefix}user:{mail}" if mail else f"{written.prefix}sub:{subject}"
    keys = {f"{written.prefix}any", f"{written.prefix}sub:{subject}"}
    keys.update(f"{written.prefix}group:{group}" for group in groups)
    if mail:
        keys.add(f"{written.prefix}domain:{domain}")
    return Person(
        provider=written.name,
        name=name,
        subject=subject,
        granted=(name, *sorted((keys & written.known) - {name})),
        provider_session=session_id(told),
        refresh_token=tokens["refresh_token"],
        id_token=tokens["id_token"],
        fresh_until=fresh_until if tokens["refresh_token"] else float("inf"),
    )


def _mail(written: OidcLogin, claims: Mapping[str, Any]) -> str:
    if not written.takes_unverified_email and claims.get("email_verified") is not True:
        return ""
    return fold_mail(claims.get(written.email_claim))
