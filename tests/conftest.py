"""The browser that all tests share."""

from collections.abc import Iterator

import pytest
from browsing import Chromium, require_chromium


@pytest.fixture(scope="session")
def browse() -> Iterator[Chromium]:
    """Run scripts in a headless Chromium."""
    require_chromium()
    chromium = Chromium()
    yield chromium
    chromium.close()
