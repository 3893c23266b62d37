"""A real PostgreSQL cluster on this machine, for the demo, the tests, the drills and the benchmarks.

In: PostgreSQL's programs. Out: a primary and streaming standbys on loopback ports, gone without a trace when done.
Imports nothing else of Pointsman.
"""

from middleware.sandbox.binaries import SandboxError
from middleware.sandbox.cluster import Sandbox
from middleware.sandbox.node import SandboxNode

__all__ = ["Sandbox", "SandboxError", "SandboxNode"]
