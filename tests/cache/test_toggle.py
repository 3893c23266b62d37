"""Who is given cached answers, by the settings' word and an operator's."""

import tomllib

import pytest

from middleware.cache.toggle import HINT, NEVER, OFF, ON, Toggle, wanted
from middleware.config import build_settings

TEXT = """
query_cache = "off"
auth_type = "trust"
[health_check]
user = "m"
[nodes.db1]
host = "h"
[[routes]]
name = "a"
user = "a"
query_cache = "on"
[[routes]]
name = "b"
user = "b"
query_cache = "hint"
"""
RULES = build_settings(tomllib.loads(TEXT)).policies()
ALL_OFF = build_settings(tomllib.loads(TEXT.replace('"on"', '"off"').replace('"hint"', '"off"'))).policies()


@pytest.mark.parametrize(
    ("modes", "forced", "expected"),
    [
        ({}, "", [ON, HINT, OFF]),
        ({}, "on", [ON, ON, ON]),
        ({}, "hint", [HINT, HINT, HINT]),
        ({}, "off", [NEVER, NEVER, NEVER]),
        ({"a": "off"}, "", [NEVER, HINT, OFF]),
        ({"b": "on", "": "hint"}, "", [ON, ON, HINT]),
        # Of a rule before of all.
        ({"b": "on"}, "off", [NEVER, ON, NEVER]),
        ({"a": "off"}, "on", [NEVER, ON, ON]),
    ],
)
def test_an_operators_word_counts_before_the_settings(modes: dict[str, str], forced: str, expected: list[str]) -> None:
    toggle = Toggle(True, True, modes, forced)
    assert [toggle.mode_of(policy) for policy in RULES] == expected
    assert wanted(RULES, modes, forced) == (expected != [NEVER] * 3)


def test_nobody_is_served_before_all_track() -> None:
    for toggle in (Toggle(), Toggle(True, False, {}, "on")):
        assert [toggle.mode_of(policy) for policy in RULES] == [NEVER] * 3
    assert (Toggle().tracking, Toggle().serving) == (False, False)
    with pytest.raises(AssertionError):
        Toggle(False, True)


def test_with_all_rules_off_the_cache_is_off_as_a_whole() -> None:
    assert not wanted(ALL_OFF, {}, "")
    assert not wanted(ALL_OFF, {"a": "off"}, "")
    assert wanted(ALL_OFF, {}, "hint")
    assert wanted(ALL_OFF, {"": "on"}, "off")
