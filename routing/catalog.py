"""What routing knows of a database's catalog: an immutable snapshot, loaded by the control plane.

A name the snapshot does not hold is unknown, and unknown means primary.
"""

import msgspec


class Catalog(msgspec.Struct, frozen=True):
    """The functions of one database, by volatility (`pg_proc.provolatile`).

    A call names a function without telling its argument types, so a name counts as readable only when *every*
    function of that name, in every schema, is stable or immutable.
    """

    database: str
    version: int
    readable_functions: frozenset[str]
    """Names, folded as PostgreSQL folds them, of which no overload in any schema is volatile."""
