"""The settings a client has of us rather than of PostgreSQL: `SET pointsman.name = value`, or `options` at login.

To PostgreSQL they are custom settings, so the statement is passed on and answered by it; here is what they mean.
"""

from typing import Final

from middleware.cache.cache import MODES
from middleware.errors import InvalidSetting, PointsmanError, UnknownSetting
from middleware.relay.freshness import LEVELS
from parser.facts import ALL_SETTINGS

AUTO: Final = 0
PRIMARY_ONLY: Final = 1
STANDBY_ONLY: Final = 2
"""Whatever it is: PostgreSQL refuses what a standby cannot do."""
ROUTES: Final = {"auto": AUTO, "primary": PRIMARY_ONLY, "standby": STANDBY_ONLY}

AS_SET: Final = -1
"""As the settings have it, or the operator."""

SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


class OwnSettings:
    """One client's."""

    __slots__ = ("_default_level", "level", "notices", "query_cache", "route", "special")

    def __init__(self, consistency: str) -> None:
        self._default_level = LEVELS[consistency]
        self.level = self._default_level
        """What its reads may miss: see relay/freshness.py."""
        self.route = AUTO
        self.notices = False
        """Whether it is told of each statement's node."""
        self.query_cache = AS_SET
        """Whether its reads are answered from the cache, and kept there: see MODES."""
        self.special = False
        """Its statements take other ways than most."""

    def use(self, consistency: str) -> None:
        """What holds from the next set() on for who has said nothing of it."""
        self._default_level = LEVELS[consistency]

    def set(self, name: str, value: str) -> PointsmanError | None:
        """Set one (ALL_SETTINGS: all of them), with "" back to its default; what is wrong with that, if anything is."""
        if name == ALL_SETTINGS:
            self.level, self.route, self.notices, self.query_cache = self._default_level, AUTO, False, AS_SET
        elif name == "consistency":
            if value and value not in LEVELS:
                return InvalidSetting(name, value, LEVELS)
            self.level = LEVELS[value] if value else self._default_level
        elif name == "route":
            if value and value not in ROUTES:
                return InvalidSetting(name, value, ROUTES)
            self.route = ROUTES[value] if value else AUTO
        elif name == "notice_route":
            if value and value not in SWITCH:
                return InvalidSetting(name, value, SWITCH)
            self.notices = SWITCH.get(value, False)
        elif name == "query_cache":
            if value and value not in MODES:
                return InvalidSetting(name, value, MODES)
            self.query_cache = MODES[value] if value else AS_SET
        else:
            return UnknownSetting(name)
        self.special = self.notices or self.route != AUTO
        return None
