"""The settings a client has of Pointsman itself."""

import pytest

from middleware import sqlstate
from middleware.relay.freshness import EVENTUAL, GLOBAL, LEVELS, PRIMARY, SESSION
from middleware.relay.own_settings import AUTO, PRIMARY_ONLY, STANDBY_ONLY, OwnSettings


@pytest.mark.parametrize("default", LEVELS)
def test_the_level_is_the_configured_one_until_it_is_set(default: str) -> None:
    own = OwnSettings(default)
    assert (own.level, own.route) == (LEVELS[default], AUTO)


@pytest.mark.parametrize(
    ("value", "level"), [("session", SESSION), ("eventual", EVENTUAL), ("global", GLOBAL), ("primary", PRIMARY)]
)
def test_each_level_is_set_by_its_name(value: str, level: int) -> None:
    own = OwnSettings("eventual" if value == "session" else "session")
    assert own.set("consistency", value) is None
    assert (own.level, own.route) == (level, AUTO)


@pytest.mark.parametrize(
    ("value", "route"), [("primary", PRIMARY_ONLY), ("standby", STANDBY_ONLY), ("auto", AUTO), ("", AUTO)]
)
def test_each_route_is_set_by_its_name(value: str, route: int) -> None:
    own = OwnSettings("global")
    assert own.set("route", "primary" if value == "standby" else "standby") is None
    assert own.set("route", value) is None
    assert (own.level, own.route) == (GLOBAL, route)


@pytest.mark.parametrize("default", LEVELS)
def test_reset_puts_the_configured_level_back(default: str) -> None:
    own = OwnSettings(default)
    for value in LEVELS:
        assert own.set("consistency", value) is None
        assert own.set("consistency", "") is None
        assert own.level == LEVELS[default]


@pytest.mark.parametrize("value", ["strong", "Session", " session", "auto", "0"])
def test_a_level_that_is_none_is_refused_as_postgresql_does(value: str) -> None:
    own = OwnSettings("global")
    error = own.set("consistency", value)
    assert error is not None
    assert error.message == f'invalid value for parameter "pointsman.consistency": "{value}"'
    assert error.hint == "Available values: eventual, session, global, primary."
    assert (error.severity, error.sqlstate) == ("ERROR", sqlstate.INVALID_PARAMETER_VALUE)
    assert error.sqlstate == "22023"
    assert own.level == GLOBAL


@pytest.mark.parametrize("value", ["replica", "STANDBY", "session", "db1"])
def test_a_route_that_is_none_is_refused_as_postgresql_does(value: str) -> None:
    own = OwnSettings("session")
    own.set("route", "standby")
    error = own.set("route", value)
    assert error is not None
    assert error.message == f'invalid value for parameter "pointsman.route": "{value}"'
    assert error.hint == "Available values: auto, primary, standby."
    assert own.route == STANDBY_ONLY


@pytest.mark.parametrize("name", ["", "routes", "Route", "consistency ", "level", "_default_level"])
@pytest.mark.parametrize("value", ["", "primary"])
def test_a_setting_that_is_none_is_unknown_whatever_its_value(name: str, value: str) -> None:
    own = OwnSettings("session")
    error = own.set(name, value)
    assert error is not None
    assert error.message == f'unrecognized configuration parameter "pointsman.{name}"'
    assert (error.severity, error.sqlstate) == ("ERROR", "42704")
    assert (own.level, own.route) == (SESSION, AUTO)


def test_one_clients_settings_are_not_anothers() -> None:
    one, other = OwnSettings("session"), OwnSettings("session")
    one.set("consistency", "eventual")
    one.set("route", "primary")
    assert (other.level, other.route) == (SESSION, AUTO)
