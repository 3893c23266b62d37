"""The table of what is kept, bounded by bytes: at the bound, what was not used for longest makes room."""

from typing import Final

from cachetools import LRUCache

from middleware.cache.entry import Entry
from middleware.cache.request import Key


class Answers(LRUCache):  # type: ignore[type-arg]
    """Entries by key, bounded by their bytes.

    They are looked up in `found`, a plain dictionary of the same: a look-up in an LRUCache costs five times as much.
    Who looks there tells of what was used, see use().
    """

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max, getsizeof=lambda entry: entry.size)
        self.evictions = 0
        self.found: Final[dict[Key, Entry]] = {}

    def __setitem__(self, key: Key, entry: Entry) -> None:
        super().__setitem__(key, entry)
        self.found[key] = entry

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        del self.found[key]

    def resize(self, bytes_max: int) -> None:
        """Keep so many bytes from now on."""
        # It asks for nothing but this: a copy into another one would take its time.
        self._Cache__maxsize = bytes_max
        while self.currsize > bytes_max:
            self.popitem()

    def use(self, key: Key) -> None:
        """It was used: others make room before it."""
        self.get(key)

    def popitem(self) -> tuple[Key, Entry]:
        """Make room."""
        self.evictions += 1
        found: tuple[Key, Entry] = super().popitem()
        return found

    def clear(self) -> None:
        """Forget all, which is no eviction."""
        before = self.evictions
        super().clear()
        self.evictions = before
        self.found.clear()
