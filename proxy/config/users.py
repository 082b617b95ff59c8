"""Users of basic auth, from `basic_auth_users` and an htpasswd file: bcrypt, and each other scheme refused by name.

Apache and nginx take hashes that a graphics card guesses by the billion; here a stolen file is worth years.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.config import files
from proxy.config.problem import join_key

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import Config

# bcrypt's own alphabet and layout: 22 characters of salt, 31 of digest (Provos and Mazieres, 1999).
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_MIN_COST, _MAX_COST = 4, 14
# Cost 10 is the default of Prometheus' documentation; `htpasswd -B` alone makes cost 5.
_USUAL_COST = 10
_SCHEMES = {
    "$apr1$": "Apache MD5 (apr1)", "$1$": "MD5 (crypt)", "$5$": "SHA-256 (crypt)", "$6$": "SHA-512 (crypt)",
    "$y$": "yescrypt", "$7$": "scrypt", "$argon2": "Argon2", "$pbkdf2": "PBKDF2", "{SHA}": "SHA-1 (SHA)",
    "{SSHA}": "salted SHA-1 (SSHA)", "{PLAIN}": "plain text", "$": "another scheme", "{": "another scheme",
}  # fmt: skip
_MAKES = "promgate hash-password makes one"
_HTPASSWD_MAKES = f"{_MAKES}, and so does htpasswd -B -C 10"


def build_users(config: Config, report: Report) -> dict[str, tuple[bytes, ...]]:
    """User -> bcrypt hashes."""
    users = {}
    for user, hashes in config.basic_auth_users.items():
        path = join_key("basic_auth_users", user)
        if fault := _name_fault(user):
            report.problem(path, fault)
        if not hashes and report.is_sound(path):
            report.problem(path, f"a bcrypt hash is missing; {_MAKES}")
        for index, written in enumerate(hashes):
            at = f"{path}[{index}]" if f"{path}[{index}]" in report.lines else path
            if not report.is_sound(at):
                continue
            if fault := _hash_fault(written, _MAKES):
                report.problem(at, fault)
            elif doubt := _hash_doubt(written):
                report.warning(at, doubt)
        users[user] = tuple(written.encode() for written in hashes)
    if config.htpasswd and report.is_sound("htpasswd"):
        users.update(_read_htpasswd(config, report))
    return users


def users_are_known(report: Report) -> bool:
    """False where a user may be missing for another reason than that nobody wrote it."""
    return report.was_read("basic_auth_users") and report.was_read("htpasswd")


def _read_htpasswd(config: Config, report: Report) -> dict[str, tuple[bytes, ...]]:
    """The lines `user:hash`, or `user:hash:remark` as nginx has it. One that is not taken is told with its line."""
    file = config.files.get("htpasswd", "")
    if file:
        files.check_mode(Path(file), "htpasswd_file", report)
    users: dict[str, tuple[bytes, ...]] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(config.htpasswd.split("\n"), 1):
        line = line.rstrip("\r")  # noqa: PLW2901 - a file from another system
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, rest = line.partition(":")
        hashed = rest.partition(":")[0]
        fault = _line_fault(user, colon, hashed)
        if user in config.basic_auth_users:
            fault = "this user stands in basic_auth_users, too; keep one of them"
        elif user in lines:
            fault = f"this user stands already in line {lines[user]}"
        lines.setdefault(user, number)
        place = join_key("", user) if colon else ""
        if fault:
            report.problem_in(file, number, place, fault, option="htpasswd")
        elif doubt := _hash_doubt(hashed):
            report.warning_in(file, number, place, doubt, option="htpasswd")
        users[user] = (hashed.encode(),)
    return users


def _line_fault(user: str, colon: str, hashed: str) -> str:
    if not colon:
        return "a line of an htpasswd file is user:hash; this one has no ':'"
    return _name_fault(user) or _hash_fault(hashed, _HTPASSWD_MAKES)


def _name_fault(user: str) -> str:
    # RFC 7617 2: a colon ends the user name, so nobody could log in with one in it.
    good = user and ":" not in user and user.isprintable()
    return "" if good else "a user name is printable, not empty, and holds no ':'"


def _hash_fault(written: str, makes: str) -> str:
    match = _BCRYPT.fullmatch(written)
    if match is not None:
        cost = int(match[1])
        if _MIN_COST <= cost <= _MAX_COST:
            return ""
        return (
            f"bcrypt cost {cost} is not taken; {_MIN_COST} to {_MAX_COST} is, and 10 to 12 is usual "
            "(each step doubles the time of a login)"
        )
    if written.startswith("$2x$"):
        hint = "$2x$ marks hashes of a broken crypt; make a new one with promgate hash-password"
    elif written.startswith(("$2a$", "$2b$", "$2y$")):
        hint = "it begins like one, but is cut or altered (60 characters; did a shell or a template eat a '$'?)"
    else:
        hint = f"{_kind_of(written)}; {makes}"
    return f"<secret> is not a bcrypt hash: {hint}"


def _kind_of(written: str) -> str:
    for start, name in _SCHEMES.items():
        if written.startswith(start):
            return f"this is {name}"
    if re.fullmatch(r"[./A-Za-z0-9]{13}", written, re.ASCII):
        return "this looks like DES (crypt)"
    return "this looks like plain text" if written else "there is nothing"


def _hash_doubt(written: str) -> str:
    match = _BCRYPT.fullmatch(written)
    cost = int(match[1]) if match else _USUAL_COST
    return f"bcrypt cost {cost} is quick to guess; 10 to 12 is usual" if cost < _USUAL_COST else ""
