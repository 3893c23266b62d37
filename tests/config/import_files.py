"""What the tests of imports share: what check-config would say of what is written, and who is meant by a rule."""

import re
import tomllib
from typing import Any

from middleware.config import ConfigError, RoutePolicy, Settings, build_settings
from middleware.config.imported import NEEDS, Imported
from middleware.relay.policies import Policies


def written(found: Imported) -> dict[str, Any]:
    """The file, read again."""
    values = tomllib.loads(found.as_toml())
    tables: dict[str, Any] = {"nodes": {}, "users": {}, "routes": [], "log": {}}
    assert {**tables, **values} == {**tables, **found.as_mapping()}
    return values


def refused(found: Imported) -> list[str]:
    """What check-config says of the file."""
    try:
        build_settings(written(found))
    except ConfigError as error:
        return list(error.lines)
    return []


def only_needs(lines: list[str]) -> bool:
    """Nothing but what a person must supply."""
    return all(
        re.fullmatch(
            rf"settings: ({'|'.join(NEEDS)}|nodes\.\w+\.host): (missing|cannot be used|.* is not allowed).*", line
        )
        for line in lines
    )


def taken(found: Imported) -> Settings:
    """The settings, of a file that nothing is missing from."""
    return build_settings(written(found))


def policy(settings: Settings, database: str, user: str, application: str = "") -> RoutePolicy:
    """What holds for a client."""
    return Policies(settings.policies()).of(database.encode(), user.encode(), application.encode(), "unix")


def noted(found: Imported, name: str) -> list[str]:
    """What was said of a setting."""
    return [why for one, _, why in (note.partition(": ") for note in found.notes) if one == name]
