"""New settings in a Pointsman that runs: from RELOAD and SIGHUP, and one at a time from SET.

In: where the settings come from, and those in force. Out: all that changes while it runs is changed, at once or not at
all, and told; what needs a restart stays as it was, and is named. What cannot be used changes nothing: PointsmanError,
whose detail has a line for each mistake.
"""

import msgspec

from middleware.config.shown import Change


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload, or a SET, has come to. No secret is in it."""

    changed: tuple[Change, ...] = ()
    """Settings that are in force from now on: key, old, new."""
    needs_restart: tuple[Change, ...] = ()
    """Settings that are another in the file, and stay as they were: key, as it is, as it is to be."""
    files: tuple[str, ...] = ()
    """The settings whose files have another content."""

    def words(self) -> list[str]:
        """A line for each."""
        said = [f"{key}: {old or 'none'} -> {new or 'none'}" for key, old, new in self.changed]
        said += [f"{key}: its content has changed" for key in self.files]
        said += [f"{key}: needs a restart to be {new or 'none'}" for key, _, new in self.needs_restart]
        return said or ["nothing has changed"]
