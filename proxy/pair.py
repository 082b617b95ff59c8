"""Why OpenSSL does not take a certificate and its key, said once: to who checks a configuration, and to who serves."""

from __future__ import annotations

from typing import Final, NamedTuple

_MISMATCHES: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})
_TOO_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})


class PairFault(NamedTuple):
    """`text` names the file and says what to do. `is_of_key`: it is the key that is wrong."""

    is_of_key: bool
    text: str


def explain_pair(exc: Exception, cert: str, key: str) -> PairFault:
    """`cert` and `key` as they are shown; `exc` is what load_cert_chain raised (an ssl.SSLError has a `reason`)."""
    reason = getattr(exc, "reason", None) or ""
    if reason in _MISMATCHES:
        return PairFault(True, f"{key}: not the key of {cert}: give the two that were issued together")
    if reason in _TOO_WEAK:
        remedy = "issue one with P-256 or RSA of 2048 bits or more"
        return PairFault(False, f"{cert}: refused as too weak ({reason.lower()}): {remedy}")
    detail = reason or str(exc)
    remedy = "see `promgate certs show`, or issue anew"
    return PairFault(False, f"{cert}, {key}: OpenSSL cannot use them ({detail}): {remedy}")
