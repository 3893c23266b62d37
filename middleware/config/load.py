"""From a file and the environment to Settings, or to one line per mistake.

A line names where the value stands (the file and the key path, or the variable), the value, and what is allowed. A
value is shown only where it cannot be a secret: never a password's, and never what stands where a table should.
"""

import difflib
import json
import os
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsError

from middleware.config.contradictions import contradictions
from middleware.config.settings import Settings

VALUE_CHARS_MAX: Final = 80
_PREFIX: Final = "POINTSMAN_"
# Variables under our prefix that are not settings: the sandbox's, the build's, the tests' and compose.yaml's, and what
# Kubernetes sets in every container of a namespace with a Service called "pointsman".
_NOT_A_SETTING: Final = re.compile(
    r"POINTSMAN_(PG_BIN|PG_IMAGE|IMAGE|SANDBOX|COMPILE|TEST_PG_VERSION|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)"
)

_Loc = tuple[int | str, ...]


class ConfigError(Exception):
    """The settings cannot be used. `lines` says why, one line per mistake."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def load_settings(path: Path) -> Settings:
    """The settings of the file at `path` under the environment. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not a TOML file: {error}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a TOML file: not UTF-8 at byte {error.start}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {(error.strerror or 'cannot be read').lower()}"]) from None
    return build_settings(values, origin=str(path))


def build_settings(values: Mapping[str, Any], *, origin: str = "settings") -> Settings:
    """The settings in `values` under the environment; `origin` names the values in errors. Raises ConfigError."""
    lines = list(_unknown_variables(os.environ))
    try:
        from_environment: dict[str, Any] = EnvSettingsSource(Settings)()
        settings = Settings(**values)
    except SettingsError as error:
        # Raised for a variable that stands for a table or a list and is not JSON. Its content may be a secret.
        raise ConfigError([*lines, _not_json(str(error))]) from None
    except ValidationError as error:
        lines.extend(
            f"{_place(mistake['loc'], origin, from_environment)}: {_told(mistake)}"
            for mistake in error.errors(include_url=False, include_context=False)
        )
        raise ConfigError(lines) from None
    lines.extend(f"{_place(loc, origin, from_environment)}: {what}" for loc, what in contradictions(settings))
    if lines:
        raise ConfigError(lines)
    return settings


class _Said(Settings):
    """Settings without the environment: values that were said later than its."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def with_setting(settings: Settings, loc: Sequence[int | str], text: str) -> Settings:
    """The same with another value at `loc`, which is there: its words, a list as JSON or with commas between. Raises
    ConfigError."""
    values: Any = settings.model_dump()
    at = values
    for key in loc[:-1]:
        at = at[key]
    _, field = _field_at(tuple(loc))
    assert field is not None
    at[loc[-1]] = _read(text, field)
    try:
        said: Settings = _Said(**values)
    except ValidationError as error:
        lines = [
            f"{key_path(mistake['loc'])}: {_told(mistake)}"
            for mistake in error.errors(include_url=False, include_context=False)
        ]
        raise ConfigError(lines) from None
    wrong = [f"{key_path(place)}: {what}" for place, what in contradictions(said)]
    if wrong:
        raise ConfigError(wrong)
    return said


def _read(text: str, field: FieldInfo) -> Any:
    """What words stand for: numbers are read by their field, and nothing is no value where there may be none."""
    if get_origin(field.annotation) is tuple:
        if not text.lstrip().startswith("["):
            return [part.strip() for part in text.split(",") if part.strip()]
        try:
            return json.loads(text)
        except ValueError:
            return text
    return None if not text and field.default is None and not field.is_required() else text


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """pydantic-settings passes over variables it has no field for; a misspelt one must not go unseen."""
    known = [_PREFIX + name.upper() for name in Settings.model_fields]
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(_PREFIX) or _NOT_A_SETTING.fullmatch(name):
            continue
        table = name.split("__", 1)[0]
        if table not in known:
            yield f"{variable}: unknown{_suggestion(table, known)}"


def _place(loc: _Loc, origin: str, from_environment: object) -> str:
    """The variable's name when the value came from one, else the file and the key path."""
    at: object = from_environment
    for depth, key in enumerate(loc):
        if not isinstance(at, Mapping) or key not in at:
            # A variable may hold what stands above the mistake: a table's worth of JSON, or a plain string.
            if depth and not isinstance(at, Mapping):
                return _variable(loc[:depth])
            return f"{origin}: {key_path(loc)}"
        at = at[key]
    return _variable(loc)


def _not_json(error: str) -> str:
    named = re.search(r'field "(\w+)"', error)
    field = Settings.model_fields.get(named[1]) if named else None
    variable = _PREFIX + (named[1].upper() if named else "*")
    if field is not None and get_origin(field.annotation) is tuple:
        return f"{variable}: not allowed: {_allowed(field)}, as JSON"
    return f"{variable}: not allowed: a table as JSON, or {variable}__KEY for one key of it"


def key_path(loc: _Loc) -> str:
    """`nodes.db1.port`, `routes[0].prefer`."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else "." + _toml_key(part)
    return path.removeprefix(".")


def _variable(loc: _Loc) -> str:
    return _PREFIX + "__".join(str(part) for part in loc).upper()


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _told(mistake: ErrorDetails) -> str:
    """What is wrong with the value, and what is allowed."""
    loc = mistake["loc"]
    table, field = _field_at(loc)
    if mistake["type"] == "extra_forbidden":
        return f"unknown{_suggestion(str(loc[-1]), list(table.model_fields) if table else [])}"
    allowed = _allowed(field)
    if mistake["type"] == "missing":
        return f"missing: {allowed}"
    value = "the value" if _secret(field) else _shown(mistake["input"])
    return f"{value} is not allowed: {allowed}"


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}?" if near else f": known are {', '.join(known)}"


def _field_at(loc: _Loc) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The table a key path ends in, and the field it names there; no field for a name the user chose."""
    table: type[BaseModel] | None = Settings
    field: FieldInfo | None = None
    named = False
    for key in loc:
        if named:
            # [nodes.NAME], or a number for [[routes]]: what follows it is a table again.
            named, field = False, None
            continue
        field = table.model_fields.get(str(key)) if table else None
        if field is None:
            break
        inner = field.annotation
        if get_origin(inner) is dict:
            named, inner = True, get_args(inner)[1]
        elif get_origin(inner) is tuple:
            inner = get_args(inner)[0]
            named = isinstance(inner, type) and issubclass(inner, BaseModel)
            if not named:
                break
        table = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else table
    return table, field


def _allowed(field: FieldInfo | None) -> str:
    extra = field.json_schema_extra if field else None
    return str(extra["allowed"]) if isinstance(extra, dict) else "a table"


def _secret(field: FieldInfo | None) -> bool:
    """Whether the value must not be shown: a password, or anything where a table is meant."""
    if field is None:
        return True
    annotation = field.annotation
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return any(
        kind is SecretStr or get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))
        for kind in kinds
    )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
