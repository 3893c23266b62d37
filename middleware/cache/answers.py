"""The table of what is kept, bounded by bytes: at the bound, what was not used for longest makes room."""

from cachetools import LRUCache

from middleware.cache.entry import Entry
from middleware.cache.request import Key


class Answers(LRUCache):  # type: ignore[type-arg]
    """Entries by key, bounded by their bytes."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max, getsizeof=lambda entry: entry.size)
        self.evictions = 0

    def popitem(self) -> tuple[Key, Entry]:
        """Make room."""
        self.evictions += 1
        found: tuple[Key, Entry] = super().popitem()
        return found
