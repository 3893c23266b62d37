"""asyncpg needs asyncio."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The one event loop asyncpg runs on."""
    return "asyncio"
