"""Built-in functions whose volatility does not tell where they may run. Data, with the reason for each.

The manual ("System Administration Functions", "Recovery Control") and a standby's own errors are the source.
"""

from typing import Final

PRIMARY_ONLY: Final = {
    "txid_current": "assigns a transaction id, which a standby cannot",
    "pg_current_xact_id": "assigns a transaction id, which a standby cannot",
}
"""Not volatile by pg_proc, and yet not for a standby."""
