from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The daemon owns its process and sets up logging for all of it; a test gives it back."""
    root, ours = logging.getLogger(), logging.getLogger("raftalloc")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
