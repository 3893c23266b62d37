"""Who may come in, and how they prove it: PostgreSQL's files and secrets, and SCRAM. Nothing here reads a socket.

`Access` is what the control plane tells the workers, made of the settings and the files they name; `Authority` is a
worker's use of it. The rules are those of pg_hba.conf, whatever they were made of.
"""

from middleware.auth.access import Access
from middleware.auth.authority import Authority, ServerCredentials
from middleware.auth.mistakes import FileMistake
from middleware.auth.rules import HbaRule, UserMapping

__all__ = ["Access", "Authority", "FileMistake", "HbaRule", "ServerCredentials", "UserMapping"]
