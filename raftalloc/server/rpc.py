"""The calls of the API as a table: path, messages, who may answer, and the servicer's method.

The table is made from the protos' descriptors, so a server with a call that nobody handles cannot start. Whether bytes
come from gRPC or a message from this very process makes no difference to what is behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message_factory import GetMessageClass

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    simulation_pb2,
    usage_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message

HOP: Final = "raftalloc-hop"
"""Request metadata: this call was forwarded once; it is not forwarded again."""
READ: Final = "raftalloc-read"
"""Request metadata: `any` reads from the replica that was asked, which may be behind."""
REQUEST_ID: Final = "raftalloc-request-id"
"""Request metadata: what to call this request in the logs."""

PRINCIPAL: Final = "local"
PRINCIPAL_KEY: Final = "raftalloc-principal"
"""Whose call a replica hands on; believed only from who has a replica's certificate."""
"""Who asks, until certificates say it (design 9.16)."""

_FILES: Final = (
    allocator_pb2,
    usage_pb2,
    reservations_pb2,
    fleet_pb2,
    quotas_pb2,
    queue_pb2,
    events_pb2,
    admin_pb2,
    simulation_pb2,
)
SERVICES: Final[Mapping[str, ServiceDescriptor]] = {
    service.full_name: service
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
}


class Route(Enum):
    """Who may answer a call."""

    LEADER = "leader"  # it changes something, or speaks of the leader's memory
    READ = "read"  # the leader, or any replica if the caller says so
    LOCAL = "local"  # the replica that was asked


_NOT_LEADER: Final = {
    "Allocator/Get": Route.READ,
    "Allocator/List": Route.READ,
    "Allocator/Explain": Route.READ,
    "Usage/Utilization": Route.READ,
    "Reservations/Get": Route.READ,
    "Reservations/List": Route.READ,
    "Fleet/ListNodes": Route.READ,
    "Quotas/GetQuotaUsage": Route.READ,
    "Quotas/ListQuotas": Route.READ,
    "Queue/GetQueue": Route.READ,
    "Queue/ListQueue": Route.READ,
    "Simulation/WhatIf": Route.READ,
    "Events/Watch": Route.LOCAL,
    "Events/Read": Route.LOCAL,
    "Events/ReadBlocks": Route.LOCAL,
    "Events/History": Route.READ,
    "Admin/Status": Route.LOCAL,
    "Admin/Snapshot": Route.LOCAL,
    "Admin/ReadState": Route.LOCAL,
}


@dataclass(slots=True)
class Call:
    """One call under way. seconds: until its deadline. trailing: what goes back beside the answer."""

    principal: str = PRINCIPAL
    request_id: str = ""
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    seconds: float | None = None
    trailing: dict[str, str | bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of the API. handler: async (request, Call) -> answer; an async iterator where the server streams.

    is_dated: its request may name a moment of the past, which any replica answers (server/past.py).
    """

    path: str
    name: str
    request_type: type[Message]
    response_type: type[Message]
    route: Route
    client_streams: bool
    server_streams: bool
    is_dated: bool
    handler: Callable[[Any, Call], Any]


def table(servicers: Mapping[str, object]) -> dict[str, Rpc]:
    """Every method of every service by path; `servicers` by service name without its package, such as `Allocator`."""
    found = {}
    for service in SERVICES.values():
        for method in service.methods:
            rpc = _rpc(service, method, servicers[service.name])
            found[rpc.path] = rpc
    return found


def dated_table(servicers: Mapping[str, object]) -> dict[str, Rpc]:
    """By path, the methods of these services that may name a moment of the past."""
    found = {}
    for service in SERVICES.values():
        for method in service.methods if service.name in servicers else ():
            if _is_dated(method):
                rpc = _rpc(service, method, servicers[service.name])
                found[rpc.path] = rpc
    return found


def _rpc(service: ServiceDescriptor, method: MethodDescriptor, servicer: object) -> Rpc:
    name = f"{service.name}/{method.name}"
    return Rpc(
        path=f"/{service.full_name}/{method.name}",
        name=name,
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        route=_NOT_LEADER.get(name, Route.LEADER),
        client_streams=method.client_streaming,
        server_streams=method.server_streaming,
        is_dated=_is_dated(method),
        handler=getattr(servicer, method.name),
    )


def _is_dated(method: MethodDescriptor) -> bool:
    return "at_index" in method.input_type.fields_by_name
