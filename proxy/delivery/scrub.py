"""What another program or server says, as far as it may be repeated: one short line without the secret.

An error text goes into logs and the journal. A program that echoes what it was given must not put it there.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.tokens.secret import Secret

_MAX_CHARS: Final = 200
#: So many characters of a secret in a row are no coincidence, and no harm when fewer are told.
_TELLING: Final = 8


def first_line(said: bytes, *secrets: Secret) -> str:
    """The first line of `said` that is not blank, printable and cut; withheld if it holds a part of one of `secrets`.

    As it is or in base64, which is how Kubernetes and basic auth write it.
    """
    text = said.decode(errors="replace")
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if any(_holds(line, form) for secret in secrets for form in _forms(secret)):
        return "(what it said is withheld: it holds the secret)"
    return "".join(char if char.isprintable() else " " for char in line[:_MAX_CHARS])


def _forms(secret: Secret) -> list[str]:
    clear = secret.reveal()
    # Base64 depends on how many bytes stand before, modulo 3; the ends depend on what stands around.
    shifted = [base64.b64encode(b"\0" * shift + clear.encode()).decode() for shift in range(3)]
    return [_own_part(clear), *(form[4:-4] for form in shifted if len(form) >= 8 + _TELLING)]


def _own_part(clear: str) -> str:
    """A minted token's prefix and id are public, and are told all the time."""
    return clear.rpartition("_")[2] if clear.startswith(("pgw_", "pgr_")) else clear


def _holds(line: str, form: str) -> bool:
    return bool(form) and any(form[at : at + _TELLING] in line for at in range(max(1, len(form) - _TELLING + 1)))
