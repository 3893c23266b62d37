"""A real PostgreSQL cluster for the demo, the tests and the benchmarks.

Imports nothing else of this project: what it starts is the world the project meets.
"""

from middleware.sandbox.cluster import Sandbox
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import SandboxNode

__all__ = ["Sandbox", "SandboxError", "SandboxNode"]
