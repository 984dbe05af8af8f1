"""The steps of a what-if -> commands, by the checks and conversions that the API's own calls go through.

What a step leaves out that its holder would know (agent, fencing token) is taken from the state it is tried on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from raftalloc.api.v1 import allocator_pb2, fleet_pb2, quotas_pb2, reservations_pb2, types_pb2
from raftalloc.core import commands, views
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from raftalloc.api.v1 import simulation_pb2
    from raftalloc.core.state import State

Held = TypeVar(
    "Held",
    allocator_pb2.RenewRequest,
    allocator_pb2.ResizeRequest,
    allocator_pb2.ReleaseRequest,
)
OfNode = fleet_pb2.CordonRequest | fleet_pb2.UncordonRequest | fleet_pb2.RemoveNodeRequest

STEPS_MAX: Final = 1_000
NOBODY: Final = "nobody"
ADVANCE: Final = "advance_ms"
_NO_ATTEMPT: Final = types_pb2.Idempotency()


def check_count(steps: Sized) -> None:
    """Not none, and not too many."""
    if not steps:
        raise InvalidRequest("steps", "is empty", f"give 1 to {STEPS_MAX}")
    checks.at_most("steps", steps, STEPS_MAX)


def name_of(step: simulation_pb2.WhatIfStep) -> str:
    """Which sort of step it is. Raises InvalidRequest where it is none."""
    convert.no_surplus(step)
    name = step.WhichOneof("what")
    if name is None:
        raise InvalidRequest("what", "is missing", "name one thing to try")
    return str(name)


class Steps:
    """Makes commands of steps."""

    def __init__(self, *, default_policy: int, principal: str) -> None:
        """`principal`: who asks."""
        self._default_policy = default_policy
        self._principal = principal

    def asked(self, step: simulation_pb2.WhatIfStep, state: State) -> commands.Asked:
        """The command of a step that is none of time; `state`: what it is tried on. Raises InvalidRequest."""
        name = name_of(step)
        given = getattr(step, name)
        if name == "allocate":
            return convert.allocate_asked(given, self._principal, self._default_policy)
        if isinstance(given, str):
            command = _HEARD[name](checks.required_name("node_id", given))
            return commands.Asked(command, commands.Origin(self._principal))
        attempt = getattr(given, "idempotency", _NO_ATTEMPT)
        return commands.Asked(
            _COMMANDS[name](given, state), convert.origin(self._principal, attempt)
        )


def _held(given: Held, state: State) -> Held:
    """With the holder and the token of the grant, where they are left out. Of what is not live the state says so."""
    found = views.allocation(state, given.allocation_id)
    full = type(given)()
    full.CopyFrom(given)
    full.agent_id = given.agent_id or (found.agent_id if found else NOBODY)
    full.fencing_token = given.fencing_token or (found.token if found else 1)
    return full


def _cancel(given: allocator_pb2.CancelRequest, state: State) -> commands.Command:
    waiting = views.waiting(state, given.request_id)
    full = allocator_pb2.CancelRequest()
    full.CopyFrom(given)
    full.agent_id = given.agent_id or (waiting.agent_id if waiting else NOBODY)
    return convert.cancel(full)


def _cancel_reservation(
    given: reservations_pb2.CancelReservationRequest, _: State
) -> commands.Command:
    convert.no_surplus(given)
    return commands.CancelReservation(checks.required_identifier("id", given.id))


def _node(given: OfNode) -> str:
    convert.no_surplus(given)
    return checks.required_name("node_id", given.node_id)


def _delete_quota(given: quotas_pb2.DeleteQuotaRequest, _: State) -> commands.Command:
    convert.no_surplus(given)
    return commands.DeleteQuota(checks.required_name("agent_type", given.agent_type))


_COMMANDS: Final[Mapping[str, Callable[[Any, State], commands.Command]]] = {
    "renew": lambda given, state: convert.renew(_held(given, state)),
    "resize": lambda given, state: convert.resize(_held(given, state)),
    "release": lambda given, state: convert.release(_held(given, state)),
    "cancel": _cancel,
    "reserve": lambda given, _: convert.reserve(given),
    "cancel_reservation": _cancel_reservation,
    "register_node": lambda given, _: convert.register_node(given),
    "cordon": lambda given, _: commands.Cordon(_node(given)),
    "uncordon": lambda given, _: commands.Uncordon(_node(given)),
    "drain": lambda given, _: convert.drain(given),
    "remove_node": lambda given, _: commands.RemoveNode(_node(given), given.force),
    "set_quota": lambda given, _: convert.set_quota(given),
    "delete_quota": _delete_quota,
    "set_queue": lambda given, _: convert.set_queue(given),
}
_HEARD: Final[Mapping[str, Callable[[str], commands.Command]]] = {
    "lose_node": commands.MarkLost,
    "return_node": commands.MarkReturned,
}
