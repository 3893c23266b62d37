"""What POINTSMAN_COMPILE=1 compiles: all that is on the path of every message or login, and nothing is forgotten."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

SELDOM = {
    "middleware/cache/second_level.py": "coroutines, for misses where answers are shared",
    "middleware/cache/shared_value.py": "for misses where answers are shared",
    "middleware/cache/sharing.py": "for misses where answers are shared",
    "middleware/relay/exporting.py": "in a thread of its own, where there are traces",
    "middleware/relay/health.py": "once a second, and for each login",
    "middleware/relay/peers.py": "once for each login",
    "middleware/relay/inventory.py": "what is asked of us",
    "middleware/relay/shared.py": "asked once per process",
    "middleware/session/answers.py": "a type",
    "middleware/cache/answers.py": "a class of a library's",
    "middleware/session/server_login.py": "once for each server",
    "middleware/relay/answers.py": "what is asked of us",
    "middleware/pool/dial.py": "once for each server",
    "middleware/relay/newcomers.py": "once for each client",
    "middleware/pool/server_log.py": "twice for each server",
    "middleware/pool/failures.py": "once for some servers",
    "middleware/relay/welcomes.py": "once for some clients",
    "middleware/relay/inquiries.py": "once for some logins",
    "middleware/relay/pauses.py": "what an operator says",
    "middleware/pool/recall.py": "what an operator says",
    "middleware/relay/primary_queue.py": "while there is no primary",
    "middleware/relay/cancel.py": "a CancelRequest",
    "middleware/relay/console.py": "for an operator",
    "middleware/relay/replication.py": "what comes is passed on as it is",
    "middleware/session/replication.py": "once for some 100 kB",
}


def modules() -> list[str]:
    """What is compiled."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return found


def test_a_module_is_compiled_or_said_not_to_be_worth_it() -> None:
    compiled = set(modules())
    assert len(compiled) == len(modules())
    there = {
        str(path.relative_to(ROOT))
        for package in ("session", "pool", "cache", "relay")
        for path in (ROOT / "middleware" / package).glob("*.py")
        if path.name != "__init__.py"
    }
    assert there - compiled == SELDOM.keys()
    assert all((ROOT / path).exists() for path in compiled)


def test_no_handler_takes_the_name_of_an_argument() -> None:
    """mypyc cannot compile that: behind the handler, the argument is gone."""
    for module in modules():
        for function in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = {one.arg for one in (*function.args.args, *function.args.kwonlyargs)}
                caught = {one.name for one in ast.walk(function) if isinstance(one, ast.ExceptHandler)}
                assert not arguments & caught, f"{module}: {function.name}"


def test_no_error_has_its_sqlstate_from_a_compiled_body() -> None:
    """What its body assigns is lost on a compiled class that derives from one in Python."""
    for module in modules():
        tree = ast.parse((ROOT / module).read_text())
        errors = {
            name.asname or name.name
            for one in ast.walk(tree)
            if isinstance(one, ast.ImportFrom) and one.module == "middleware.errors"
            for name in one.names
        }
        for one in ast.walk(tree):
            if isinstance(one, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id in errors for base in one.bases
            ):
                assert not [line for line in one.body if isinstance(line, ast.Assign)], f"{module}: {one.name}"
