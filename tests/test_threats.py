"""Each threat to logins of people (O) and to TLS (T) has a test that names it in its docstring, or in its own name.

Those that show in raw bytes (H, U, P, S, A) have case files, and `attacks/test_harness.py` holds the same of them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ID = re.compile(r"\b([OT])([1-9][0-9]?)\b")
TLS = {f"T{number}" for number in range(1, 14)}
LOGINS = {f"O{number}" for number in range(1, 20)}


def named() -> dict[str, set[str]]:
    """Id -> the tests that name it."""
    found: dict[str, set[str]] = {}
    for path in sorted(HERE.rglob("test_*.py")):
        text = path.read_text()
        if not ID.search(text.replace("_", " ").upper()):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                said = f"{ast.get_docstring(node) or ''} {node.name.upper().replace('_', ' ')}"
                for letter, number in ID.findall(said):
                    found.setdefault(letter + number, set()).add(f"{path.relative_to(HERE)}::{node.name}")
    return found


def test_each_threat_has_a_test_by_its_name() -> None:
    tests = named()
    assert sorted((TLS | LOGINS) - tests.keys()) == []
