"""Whether answers are cached, and for whom: the settings' word, and an operator's over it.

In: the rules of the settings, and what an operator has said of one of them or of all (SetCache). Out: a mode for each
rule. What an operator says of a rule counts before what he says of all, and that before the settings. His "off" is
NEVER: neither a session nor a statement changes it. The settings' "off" is a default, which they may change, as long
as anybody's answers are cached: where all rules have it off the cache is off as a whole, and costs nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from middleware.config import RoutePolicy

ON: Final = "on"
HINT: Final = "hint"
OFF: Final = "off"
NEVER: Final = "never"
"""Off, whatever a session or a statement says."""


def mode_of(policy: RoutePolicy, modes: Mapping[str, str], forced: str) -> str:
    """What holds for a rule's clients unless they say otherwise."""
    said = modes.get(policy.name, forced)
    return (NEVER if said == OFF else said) or policy.query_cache


def wanted(policies: Iterable[RoutePolicy], modes: Mapping[str, str], forced: str) -> bool:
    """Whether there is anybody whose answers are cached."""
    return any(mode_of(policy, modes, forced) in (ON, HINT) for policy in policies)


class Toggle:
    """A worker's view: nothing is tracked or served until it is told to."""

    __slots__ = ("_forced", "_modes", "serving", "tracking")

    def __init__(
        self, tracking: bool = False, serving: bool = False, modes: Mapping[str, str] | None = None, forced: str = ""
    ) -> None:
        assert tracking or not serving
        self.tracking: Final = tracking
        """What commits change is to be told in the shared memory."""
        self.serving: Final = serving
        """Answers may be kept and given: every worker tracks what commits change."""
        self._modes: Final = dict(modes or {})
        self._forced: Final = forced

    def mode_of(self, policy: RoutePolicy) -> str:
        """ON, HINT or OFF, where its client does not say otherwise; NEVER where it cannot."""
        return mode_of(policy, self._modes, self._forced) if self.serving else NEVER
