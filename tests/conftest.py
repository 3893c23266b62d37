"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from middleware.sandbox import Sandbox


@pytest.fixture(scope="session")
def cluster() -> Iterator[Sandbox]:
    """A primary and two standbys that all tests share: leave them as you found them."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as sandbox:
        yield sandbox
