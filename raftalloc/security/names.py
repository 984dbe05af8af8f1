"""What certificates are called.

One URI in the subject's alternative names says group, role and name:

    spiffe://raftalloc/<cluster id>/replica/<replica id>
    spiffe://raftalloc/<cluster id>/client/<principal>

A client's certificate is no replica's, whatever the client is called; and no certificate is good for another group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

REPLICA: Final = "replica"
CLIENT: Final = "client"
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_URI: Final = re.compile(
    rf"spiffe://raftalloc/(?P<cluster>{NAME_PATTERN})/(?P<role>replica|client)/(?P<name>{NAME_PATTERN})"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate is for."""

    cluster_id: str
    role: str
    name: str

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        return f"spiffe://raftalloc/{self.cluster_id}/{self.role}/{self.name}"


def is_name(text: str) -> bool:
    """Whether somebody may be called that."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def identity_of(uris: Iterable[str]) -> Identity | None:
    """The identity that the URIs of a certificate give; None where it is not exactly one of ours."""
    found = [match for uri in uris if (match := _URI.fullmatch(uri))]
    if len(found) != 1:
        return None
    return Identity(found[0]["cluster"], found[0]["role"], found[0]["name"])
