"""What a sandbox raises: one sentence a person can act on, with the server's own log where it helps."""

from __future__ import annotations


class SandboxError(Exception):
    """The sandbox could not do what was asked; the message says what to do about it."""
