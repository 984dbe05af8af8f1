"""Names that callers choose, checked before they cross the wire: 1..256 bytes of UTF-8 without control characters."""

from __future__ import annotations

from typing import Final

from raftalloc.core.quantities import NAME_BYTES_MAX
from raftalloc.errors import InvalidRequest

_REMEDY: Final = f"use 1 to {NAME_BYTES_MAX} bytes of text without control characters"


def check_name(value: str, *, field: str, optional: bool = False) -> str:
    """The name. Raises InvalidRequest; the message never repeats what is long or unprintable."""
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{type(value).__name__} is no text", _REMEDY)
    if not value:
        if optional:
            return value
        raise InvalidRequest(field, "is empty", _REMEDY)
    if len(value) > NAME_BYTES_MAX:
        raise InvalidRequest(field, f"has {len(value)} characters", _REMEDY)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(field, "has a lone surrogate", _REMEDY) from None
    if size > NAME_BYTES_MAX:
        raise InvalidRequest(field, f"has {size} bytes", _REMEDY)
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in value):
        raise InvalidRequest(field, "has control characters", _REMEDY)
    return value
