"""Every call of a logger in the code, as it is written: for tests that hold them against the table of events."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("middleware", "routing", "parser", "healthcheck")
METHODS: Final = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
THE_LOG_ITSELF: Final = ROOT / "middleware" / "logs"


class Call(NamedTuple):
    """One call; one for each of its events where it chooses between two."""

    place: str
    subject: str | None
    """None where its logger has none."""
    level: str | None
    """None for what is no plain call of a method."""
    event: str | None
    """None where it is not known from the text."""
    fields: tuple[str | None, ...]
    """None for `**`."""


def calls() -> Iterator[Call]:
    """All of them."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if THE_LOG_ITSELF not in path.parents:
                yield from of_source(path.read_text(), str(path.relative_to(ROOT)))


def of_source(source: str, name: str) -> Iterator[Call]:
    """Those of one module."""
    tree = ast.parse(source)
    loggers: dict[str, str | None] = {}
    constants: dict[str, str] = {}
    for statement in tree.body:
        target, value = _assigned(statement)
        if target is None:
            continue
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            constants[target] = value.value
        if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("get_logger"):
            loggers[target] = _text(value.args[0], {}) if value.args else None
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.value.id not in loggers:
            continue
        call = called.get(id(node))
        level = METHODS.get(node.attr) if call is not None else None
        events = _texts(call.args[0], constants) if call is not None and len(call.args) == 1 else [None]
        fields = tuple(keyword.arg for keyword in call.keywords) if call is not None else ()
        for event in events:
            yield Call(f"{name}:{node.lineno}", loggers[node.value.id], level, event, fields)


def _assigned(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None, None
    return (target.id, node.value) if isinstance(target, ast.Name) else (None, None)


def _texts(node: ast.expr, constants: dict[str, str]) -> list[str | None]:
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, constants), *_texts(node.orelse, constants)]
    return [_text(node, constants)]


def _text(node: ast.expr, constants: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return constants.get(node.id) if isinstance(node, ast.Name) else None
