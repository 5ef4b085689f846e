"""Durable procedures are our own because they are small (docs/adr/001): this keeps them so."""

from __future__ import annotations

import ast
from pathlib import Path

import ostler.jobs

LIMIT = 430
"""Lines of code without blank lines, comments and docstrings. The design asks for about 400."""


def code_lines(source: str) -> int:
    documented: set[int] = set()
    for part in ast.walk(ast.parse(source)):
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str):
            documented.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for number, line in lines if line.strip() and line.strip()[0] != "#" and number not in documented)


def test_jobs_stay_small() -> None:
    folder = Path(ostler.jobs.__file__).parent
    assert sum(code_lines(path.read_text()) for path in folder.glob("*.py")) < LIMIT
