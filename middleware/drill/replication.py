"""How commits are replicated, asked of the primary through the endpoint."""

from typing import Final

from middleware.drill.errors import DrillError
from middleware.drill.ledger import FAILURES, Login, connected

TIMEOUT_S: Final = 30.0
_ASK: Final = "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')"


async def is_synchronous(login: Login) -> bool:
    """Whether a commit of this user is acknowledged only when a standby has it. Raises DrillError."""
    try:
        # In a transaction: there the primary answers.
        async with connected(login, TIMEOUT_S) as connection, connection.transaction():
            names, commit = await connection.fetchrow(_ASK, timeout=TIMEOUT_S)
    except FAILURES as error:
        raise DrillError(f"the endpoint at {login.host}:{login.port}: {error or type(error).__name__}") from None
    return bool(names) and commit not in ("off", "local")
