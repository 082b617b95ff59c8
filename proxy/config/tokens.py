"""The section `tokens`: where they are kept, the times of their life, and where a new one goes."""

from __future__ import annotations

from proxy.config.canary import CanaryOf
from proxy.config.delivery import TargetOf
from proxy.config.schedule import WindowOf
from proxy.config.shape import ListOf, MapOf, Section, Table, choice, option
from proxy.config.words import DURATION, SPAN, STORE


class Tokens(Section):
    """The tokens that promgate checks itself, and the times of their rotation."""

    store: str | None = option(
        STORE,
        None,
        "SQLite file of the tokens: `sqlite:////absolute/path.db`, or with three slashes a path relative to the "
        "configuration. It is made when it is not there. Without it no route may take tokens.",
    )
    overlap_period: float = option(
        DURATION, "24h", "How long the previous token is accepted after a rotation. Under 5m a warning is given."
    )
    max_overlap: float = option(
        DURATION,
        "7d",
        "The longest overlap that a rotation may ask for, and the end of the one that a late sender prolongs: a token "
        "that a sender of before the rotation still uses is accepted until then.",
    )
    finish_when_quiet: float | None = option(
        SPAN,
        None,
        "An overlap ends early once every sender that the ledger knows has moved, and the previous token was silent "
        "for so long. Left out: it never does. A sender that is not known yet (a nightly one) finds its token ended.",
    )
    retry_grace: float = option(
        DURATION,
        "1h",
        "For this long after its end, a retired token gets 503 and Retry-After on a `remote_write` route, not 401: "
        "nothing is let in, and a sender keeps its batch instead of dropping it.",
    )
    deliver: dict[str, tuple[TargetOf, ...]] = option(
        MapOf("name", ListOf(Table(TargetOf), or_one=True)),
        {},
        "Name -> the places where `promgate token rotate NAME` puts the new token, in this order. The token of a name "
        "that is not here is printed.",
    )
    canary: CanaryOf | None = option(
        Table(CanaryOf), None, "Prove a new token before it is delivered. Left out: it is not proven."
    )
    senders: dict[str, str] = option(
        MapOf("name", choice("one")),
        {},
        "Name -> `one`, of names with one sender, which fetches its new token itself (`promgate token renew`). Whoever "
        "else comes for it is an alarm, and stops the rotation.",
    )
    rotation_period: float | None = option(
        SPAN,
        None,
        "The running server rotates the token of each name with targets in `deliver` so long after it became current, "
        "and takes up rotations that were left open. Without it, rotations are begun by hand.",
    )
    rotation_jitter: float = option(
        DURATION, "0s", "A token is due up to this much earlier, each at its own time, so that not all come at once."
    )
    rotation_window: WindowOf | None = option(
        Table(WindowOf), None, "When a scheduled rotation may begin. Left out: at any time."
    )
