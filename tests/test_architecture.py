"""The floor plan of ARCHITECTURE.md, held against every file of proxy/."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "proxy"

#: A room imports itself and rooms of lower floors; not its neighbours, and not for a type either.
FLOORS = {
    "wire": 0, "tokens": 0,
    "gate": 1, "background": 1, "stamp": 1, "pair": 1,
    "config": 2, "stores": 2, "delivery": 2, "login": 2, "custody": 2, "pki": 2, "observe": 2, "process": 2,
    "clock": 2, "signals": 2,
    "relay": 3, "reload": 3, "desk": 3, "audit": 3, "people": 3,
    "console": 4, "parts": 4,
    "app": 5, "doctor": 5, "first_start": 5,
    "cli": 6,
    "__main__": 7,
}  # fmt: skip

_WAITS = "a rule never waits: what it needs to know it asks for, as a value"
_REACHES = "a rule never reaches out: relay and stores do"
_CLOCK = "the time is an argument, so that a test needs no clock"
_CHANCE = "randomness is an argument, so that a test can repeat itself"
_TELLS = "a rule returns its reason; observe writes it down"
_MACHINE = "a rule knows nothing of the machine it runs on"
_PURE = {
    "asyncio": _WAITS, "concurrent": _WAITS, "threading": _WAITS, "queue": _WAITS, "selectors": _WAITS,
    "socket": _REACHES, "ssl": _REACHES, "aiohttp": _REACHES, "http": _REACHES, "urllib": _REACHES,
    "sqlite3": _REACHES, "subprocess": _REACHES,
    "time": _CLOCK, "datetime": _CLOCK, "zoneinfo": _CLOCK,
    "random": _CHANCE, "secrets": _CHANCE, "uuid": _CHANCE,
    "logging": _TELLS, "warnings": _TELLS,
    "os": _MACHINE, "sys": _MACHINE, "pathlib": _MACHINE, "io": _MACHINE, "shutil": _MACHINE, "tempfile": _MACHINE,
}  # fmt: skip
PURE_ROOMS = ("wire", "tokens", "gate")

#: module -> (the rooms or files that may import it, why nobody else may)
RESERVED = {
    "cryptography": (
        ("pki", "login/seal.py"), "certificates belong into one room, the seal of cookies into one file; it costs 9 MB"
    ),
    "joserfc": (("login",), "whether a signature holds is found out in one room; it brings cryptography along"),
    "yaml": (("config",), "what a file means is decided once, when it is read"),
    "sqlite3": (("stores",), "whoever wants a token asks the port in tokens/"),
    "bcrypt": (("login", "cli/hash_password.py"), "60 ms of a core belong into login's threads"),
    "aiohttp": (("console", "delivery", "login"), "the data plane is our own; aiohttp costs 20 MB"),
    "prometheus_client": (("console",), "the text of a scrape is written in one room; it costs 2.5 MB"),
    "authlib": (("login",), "whether a login is good is found out in one room"),
    "redis": (("stores",), "whoever wants a token asks the port in tokens/"),
    "argparse": (("cli",), "the command line is spoken in cli alone"),
}

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc", "manager", "handler"}
MAX_LINES = 400
#: 50 is the aim; a state machine or a table may need more.
MAX_FUNCTION_LINES = 70

#: What `promgate serve` may not have in memory before a configuration asks for it.
DEAR = (
    "aiohttp", "authlib", "cryptography", "joserfc", "kubernetes", "prometheus_client", "redis", "rich", "typer",
)  # fmt: skip

FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(), str(path)) for path in FILES}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path, tree):
    """Full names of all that is imported anywhere in the file: `from a import b` is both a and a.b."""
    here = ("proxy", *path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join([*here[: -node.level], *filter(None, [node.module])]) if node.level else node.module
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def upward_imports(path, tree):
    mine = room_of(path)
    for name in imported(path, tree):
        room = name.split(".")[1] if name.startswith("proxy.") else None
        if room not in {None, mine, "__version__"} and FLOORS[room] >= FLOORS[mine]:
            yield name


def barred_imports(path, tree):
    for name in imported(path, tree):
        top = name.split(".")[0]
        if room_of(path) in PURE_ROOMS and top in _PURE:
            yield f"{name}: {_PURE[top]}"
        if top in RESERVED and not {room_of(path), name_of(path)} & set(RESERVED[top][0]):
            yield f"{name}: {RESERVED[top][1]}"


def parsed(path, text):
    return ROOT / path, ast.parse(text)


every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_there_is_something_to_look_at():
    assert {room_of(path) for path in FILES} >= {"wire", "tokens", "gate", "config", "stores", "relay", "app", "cli"}


def test_every_room_has_its_floor():
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(FLOORS)


@every_file
def test_imports_go_down_the_floors(path):
    if path != ROOT / "__init__.py":
        assert list(upward_imports(path, TREES[path])) == []


@every_file
def test_bans(path):
    assert list(barred_imports(path, TREES[path])) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gate/x.py", "if TYPE_CHECKING:\n    from proxy.relay.pool import Pool"),
        ("wire/x.py", "from proxy.tokens import token"),
        ("tokens/x.py", "def f():\n    import proxy.stores.sqlite"),
        ("config/x.py", "from ..pki import context"),
        ("relay/x.py", "from proxy import app"),
    ],
)
def test_an_import_upwards_is_found(path, text):
    assert list(upward_imports(*parsed(path, text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gate/x.py", "import os.path"),
        ("wire/x.py", "def f():\n    from time import monotonic"),
        ("tokens/x.py", "import secrets as s"),
        ("relay/x.py", "from cryptography import x509"),
        ("app.py", "import yaml"),
        ("cli/token.py", "import bcrypt"),
    ],
)
def test_a_barred_import_is_found(path, text):
    assert list(barred_imports(*parsed(path, text)))


def test_no_module_waits_for_itself():
    """No cycle among the imports that happen when modules are loaded (a type alone may look back within its room)."""
    modules = {".".join(["proxy", *path.relative_to(ROOT).with_suffix("").parts]): path for path in FILES}
    graph = {}
    for name, path in modules.items():
        loading = ast.Module([node for node in TREES[path].body if not isinstance(node, ast.If)], [])
        graph[name] = {other for other in imported(path, loading) if other in modules and other != name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


@every_file
def test_only_the_command_line_prints(path):
    calls = [
        node.lineno
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == [] or room_of(path) == "cli"


@every_file
def test_a_file_is_short(path):
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{lines} lines: it wants splitting"


@every_file
def test_a_function_is_short(path):
    too_long = {
        node.name: lines
        for node in ast.walk(TREES[path])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert too_long == {}


@every_file
def test_a_module_says_its_rule(path):
    assert ast.get_docstring(TREES[path]), "a module's docstring states the rule of the file"


def test_a_room_says_what_it_is():
    for room in {path.parent for path in FILES}:
        assert (room / "__init__.py").is_file(), f"{room} is no package"
        lines = ast.get_docstring(TREES[room / "__init__.py"]).splitlines()
        assert len(lines) <= 8, f"{room} says it in too many words"


@every_file
def test_names_say_something(path):
    assert not FORBIDDEN_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)


def test_no_framework_is_loaded_to_serve():
    """Memory at rest is a feature: what a configuration does not use is not imported."""
    code = "import sys, proxy.app, proxy.cli.serve; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "proxy" in loaded
    assert loaded & set(DEAR) == set()


@pytest.mark.parametrize("command", ["token", "check", "certs", "hash_password"])
def test_a_command_loads_no_server(command):
    """`promgate token rotate` is there in a tenth of a second."""
    code = f"import sys, proxy.cli.{command}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert f"proxy.cli.{command}" in loaded
    assert loaded & {"asyncio", "ssl", "proxy.app", "proxy.relay", "uvloop", *DEAR} == set()
