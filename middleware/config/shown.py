"""Settings as they are shown to people: each value by its key path, its default, and what a secret looks like.

In: Settings. Out: for SHOW CONFIG and for what a reload has changed, words; never a password.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from middleware.config.reloads import RESTART, when
from middleware.config.settings import Settings
from middleware.config.tables import POLICIES

HIDDEN: Final = "********"


class ConfigValue(NamedTuple):
    """One setting, as SHOW CONFIG has it."""

    key: str
    value: str
    default: str
    """"" where it has none."""
    changeable: bool
    """While Pointsman runs."""


class Setting(NamedTuple):
    """One value, where it stands."""

    key: str
    """`nodes.db1.port`, `routes[0].pool_size`."""
    pattern: str
    """The same with `*` for what is the user's own: `nodes.*.port`."""
    loc: tuple[int | str, ...]
    value: Any
    field: FieldInfo


def config_values(settings: Settings) -> list[ConfigValue]:
    """All of them, in the order of the reference; of the users only who there is."""
    return [
        ConfigValue(one.key, shown(one.value) or _own_default(one), _default(one), when(one.pattern) != RESTART)
        for one in values(settings)
    ]


def values(settings: Settings) -> Iterator[Setting]:
    """Each value that stands in a file, or might."""
    yield from _values(settings, "", "", ())


def _values(table: BaseModel, at: str, pattern: str, above: tuple[int | str, ...]) -> Iterator[Setting]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        key, like, loc = f"{at}{name}", f"{pattern}{name}", (*above, name)
        if isinstance(value, BaseModel):
            yield from _values(value, f"{key}.", f"{like}.", loc)
        elif isinstance(value, dict):
            for inner, one in value.items():
                yield from _values(one, f"{key}.{inner}.", f"{like}.*.", (*loc, inner))
        elif isinstance(value, tuple) and _of_tables(field):
            for index, one in enumerate(value):
                yield from _values(one, f"{key}[{index}].", f"{like}.*.", (*loc, index))
        else:
            yield Setting(key, like, loc, value, field)


def _of_tables(field: FieldInfo) -> bool:
    """Whether it is for [[tables]]."""
    return any(
        isinstance(one, type) and issubclass(one, BaseModel) for one in getattr(field.annotation, "__args__", ())
    )


def shown(value: object) -> str:
    """A value in words; "" for one that is not set."""
    if isinstance(value, SecretStr):
        return HIDDEN if value.get_secret_value() else ""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _default(one: Setting) -> str:
    return "" if one.field.is_required() else shown(one.field.default) or _own_default(one)


def _own_default(one: Setting) -> str:
    """Of a class of session state, which has one that is no value."""
    return POLICIES[one.pattern.rpartition(".")[2]] if one.pattern.startswith("session_state.") else ""


class Change(NamedTuple):
    """One setting that was changed, or is to be."""

    key: str
    old: str
    """"" where there was none. A secret is not shown."""
    new: str


class Changes(NamedTuple):
    """What is different between two Settings."""

    live: tuple[Change, ...]
    """What may change while Pointsman runs."""
    restart: tuple[Change, ...]


TABLES: Final = {"nodes": "node", "users": "user"}


def changes(old: Settings, new: Settings) -> Changes:
    """What is another. A node, a user or a rule that has come or gone is one change."""
    before, after = _flat(old), _flat(new)
    live: list[Change] = []
    restart: list[Change] = []
    for key in [*before, *[key for key in after if key not in before]]:
        was, now = before.get(key), after.get(key)
        if was is None or now is None:
            continue
        if was.value != now.value:
            change = Change(key, shown(was.value), shown(now.value))
            (restart if when(was.pattern) == RESTART else live).append(change)
    for name, one in TABLES.items():
        live.extend(_come_and_gone(name, getattr(old, name), getattr(new, name), one))
    first, last = sorted((len(old.routes), len(new.routes)))
    for index in range(first, last):
        gone = len(old.routes) > len(new.routes)
        rule = (old if gone else new).routes[index]
        words = f"rule {json.dumps(rule.called(index), ensure_ascii=False)}"
        live.append(Change(f"routes[{index}]", words if gone else "", "" if gone else words))
    return Changes(tuple(live), tuple(restart))


def _flat(settings: Settings) -> dict[str, Setting]:
    return {one.key: one for one in values(settings)}


def _come_and_gone(table: str, old: Mapping[str, Any], new: Mapping[str, Any], what: str) -> Iterator[Change]:
    for name in [*old, *[name for name in new if name not in old]]:
        if name not in new:
            yield Change(f"{table}.{name}", _told(what, old[name]), "")
        elif name not in old:
            yield Change(f"{table}.{name}", "", _told(what, new[name]))


def _told(what: str, one: Any) -> str:
    return f"{what} at {one.host}:{one.port}" if what == "node" else what


def kept(old: Settings, new: Settings) -> Settings:
    """The new ones as far as they can be had without a restart."""
    # Those that need one are all of the top level.
    left = {name: getattr(old, name) for name in type(old).model_fields if _needs_restart(name)}
    return new.model_copy(update=left)


def _needs_restart(name: str) -> bool:
    try:
        return when(name) == RESTART
    except KeyError:
        # A table.
        return False
