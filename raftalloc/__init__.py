"""raftalloc: atomic, fenced, replayable allocation of unlike resources to agents and workflows, on Raft.

The names below are the public surface of Python; each is loaded when it is first used, so that a part of the package
(the daemon, the store process) does not pay for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftalloc.client.allocation import Allocation
    from raftalloc.client.client import Client
    from raftalloc.client.queueing import QueueSettings
    from raftalloc.client.requests import Constraint, Operator, Policy, Priority, ResourceRequest
    from raftalloc.client.reservation import Reservation
    from raftalloc.client.results import (
        HistoryRecord,
        KindQuota,
        KindUtilization,
        QuotaUsage,
        Refusal,
        UtilizationMetrics,
    )
    from raftalloc.client.terms import (
        Affinity,
        Alternative,
        GangLayout,
        Spread,
        Terms,
        Toleration,
    )
    from raftalloc.errors import (
        Compacted,
        ConfigError,
        DataDirectoryError,
        Forbidden,
        InvalidRequest,
        NoLeader,
        NotLeader,
        OutcomeUnknown,
        Overloaded,
        RaftallocError,
        Rejected,
        ReplicaFailed,
        Unauthenticated,
        Unavailable,
    )
    from raftalloc.manager import ResourceManager, SyncAllocation, SyncResourceManager
    from raftalloc.security.files import TlsFiles

__version__ = "0.1.0"

_HOMES = {
    "Affinity": "raftalloc.client.terms",
    "Allocation": "raftalloc.client.allocation",
    "Alternative": "raftalloc.client.terms",
    "Client": "raftalloc.client.client",
    "Compacted": "raftalloc.errors",
    "ConfigError": "raftalloc.errors",
    "Constraint": "raftalloc.client.requests",
    "DataDirectoryError": "raftalloc.errors",
    "Forbidden": "raftalloc.errors",
    "GangLayout": "raftalloc.client.terms",
    "HistoryRecord": "raftalloc.client.results",
    "InvalidRequest": "raftalloc.errors",
    "KindQuota": "raftalloc.client.results",
    "KindUtilization": "raftalloc.client.results",
    "NoLeader": "raftalloc.errors",
    "NotLeader": "raftalloc.errors",
    "Operator": "raftalloc.client.requests",
    "OutcomeUnknown": "raftalloc.errors",
    "Overloaded": "raftalloc.errors",
    "Policy": "raftalloc.client.requests",
    "Priority": "raftalloc.client.requests",
    "QueueSettings": "raftalloc.client.queueing",
    "QuotaUsage": "raftalloc.client.results",
    "RaftallocError": "raftalloc.errors",
    "Refusal": "raftalloc.client.results",
    "Rejected": "raftalloc.errors",
    "ReplicaFailed": "raftalloc.errors",
    "Reservation": "raftalloc.client.reservation",
    "ResourceManager": "raftalloc.manager",
    "ResourceRequest": "raftalloc.client.requests",
    "Spread": "raftalloc.client.terms",
    "SyncAllocation": "raftalloc.manager",
    "SyncResourceManager": "raftalloc.manager",
    "Terms": "raftalloc.client.terms",
    "TlsFiles": "raftalloc.security.files",
    "Toleration": "raftalloc.client.terms",
    "Unauthenticated": "raftalloc.errors",
    "Unavailable": "raftalloc.errors",
    "UtilizationMetrics": "raftalloc.client.results",
}

__all__ = [
    "Affinity",
    "Allocation",
    "Alternative",
    "Client",
    "Compacted",
    "ConfigError",
    "Constraint",
    "DataDirectoryError",
    "Forbidden",
    "GangLayout",
    "HistoryRecord",
    "InvalidRequest",
    "KindQuota",
    "KindUtilization",
    "NoLeader",
    "NotLeader",
    "Operator",
    "OutcomeUnknown",
    "Overloaded",
    "Policy",
    "Priority",
    "QueueSettings",
    "QuotaUsage",
    "RaftallocError",
    "Refusal",
    "Rejected",
    "ReplicaFailed",
    "Reservation",
    "ResourceManager",
    "ResourceRequest",
    "Spread",
    "SyncAllocation",
    "SyncResourceManager",
    "Terms",
    "TlsFiles",
    "Toleration",
    "Unauthenticated",
    "Unavailable",
    "UtilizationMetrics",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load a public name's module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'raftalloc' has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
