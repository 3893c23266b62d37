"""The page of all settings, made of their declarations: docs/settings.md, and what `pointsman settings` prints."""

import inspect
import json
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from middleware.config.drilling import DrillSettings
from middleware.config.reloads import AT_ONCE, NEW_CONNECTIONS, RESTART, WHEN
from middleware.config.settings import GROUPS
from middleware.config.tables import (
    POLICIES,
    HealthCheckSettings,
    LogLevels,
    LogSettings,
    NodeSettings,
    RouteSettings,
    SessionStateSettings,
    UserSettings,
)

TABLES: Final = (
    ("[health_check]", "Who asks the nodes how they are, and how often.", HealthCheckSettings),
    ("[nodes.NAME]", "A node, under a name for logs and SHOW.", NodeSettings),
    ("[users.NAME]", "A user, by its name.", UserSettings),
    (
        "[[routes]]",
        "A rule. The first that matches a client holds for it; what it does not say, the top level says.",
        RouteSettings,
    ),
    ("[session_state]", "What is done about each class of session state.", SessionStateSettings),
    ("[drill]", "What a drill is judged by, see [drills.md](drills.md).", DrillSettings),
    ("[log]", "What is logged, and how, see [logs.md](logs.md).", LogSettings),
    ("[log.levels]", "The levels of subjects that have one of their own.", LogLevels),
)
EFFECTS: Final = {
    AT_ONCE: "",
    NEW_CONNECTIONS: "<br>A change is for new connections.",
    RESTART: "<br>A change needs a restart.",
}
_PEERS: Final = {
    "pgbouncer": "PgBouncer",
    "pgpool": "pgpool-II",
    "hikaricp": "HikariCP",
    "sqlalchemy": "SQLAlchemy",
    "patroni": "Patroni",
}
_HEAD: Final = """\
# All settings

Made by `pointsman settings` from their declarations; [pointsman.example.toml](pointsman.example.toml) shows them in a
file. The third column names the same setting elsewhere, or the one that comes nearest. Durations are in seconds. Each
can be overridden by a variable: `POINTSMAN_WORKERS`, `POINTSMAN_LOG__LEVEL`, `POINTSMAN_NODES__DB1__HOST`.

A [reload](reload.md) puts a changed setting in force at once, for who is connected too; where it is only for
connections that are made from then on, or needs a restart, that is said.
"""


def reference() -> str:
    """The page, as Markdown."""
    chapters = [*_chapters()]
    return "\n".join([_HEAD, *chapters])


def _chapters() -> Iterator[str]:
    for group in GROUPS:
        title, _, about = (inspect.getdoc(group) or "").partition("\n")
        yield _chapter(title, about.strip(), group, "")
    for title, about, table in TABLES:
        at = title.strip("[]").removesuffix(".NAME")
        more = "" if at == title[1:-1] else ".*"
        yield _chapter(f"`{title}`", about, table, f"{at}{more}.")


def _chapter(title: str, about: str, kind: type[BaseModel], at: str) -> str:
    """`at`: what its settings' key paths begin with."""
    lines = [f"## {title}", ""]
    if about:
        lines += [" ".join(about.split()), ""]
    lines += ["| Setting | Default | Elsewhere | |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        lines.append(f"| `{name}` | {_default(name, field)} | {_peers(field)} | {_about(field, f'{at}{name}')} |")
    return "\n".join([*lines, ""])


def _default(name: str, field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        return "needed"
    if default is None:
        # A class of session state has one of its own; a rule has the top level's.
        default = POLICIES.get(name)
    if default is None or isinstance(default, BaseModel):
        return ""
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    shown = f"{default:g}" if isinstance(default, float) else json.dumps(default, ensure_ascii=False)
    return _cell(f"`{shown}`")


def _about(field: FieldInfo, pattern: str) -> str:
    description, allowed = (
        (field.description or "").replace("<", "&lt;"),
        _extra(field, "allowed").replace("*", "\\*"),
    )
    return _cell(f"{description}<br>Allowed: {allowed}.{EFFECTS[WHEN.get(pattern, AT_ONCE)]}")


def _peers(field: FieldInfo) -> str:
    peers = filter(None, _extra(field, "peers").split("; "))
    named = (part.partition(": ") for part in peers)
    return _cell("<br>".join(f"{_PEERS[peer]}: `{names}`" for peer, _, names in named))


def _extra(field: FieldInfo, key: str) -> str:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra[key])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
