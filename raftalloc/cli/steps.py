"""The steps of a what-if, as they are typed: each is a small command line of its own.

    submit cpu=4 memory=8 --agent auditor_01 --wait 10m
    quota auditor cpu=16 --parent compliance
    lose n3
    advance 2h

A file has one step a line; what follows `#` is a remark. Options are those of the commands of the same name.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.main import get_command

from raftalloc.api.v1 import (
    allocator_pb2,
    fleet_pb2,
    quotas_pb2,
    reservations_pb2,
    simulation_pb2,
)
from raftalloc.cli import arguments
from raftalloc.cli.asked import RequestOptions, request_of
from raftalloc.cli.parameters import disguised, gathered, wanted_by
from raftalloc.cli.queue import QueueOptions
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Step = simulation_pb2.WhatIfStep
Words = Annotated[list[str], typer.Argument(metavar="KIND=AMOUNT")]
NodeId = Annotated[str, typer.Argument(metavar="NODE")]
Number = Annotated[int, typer.Argument(metavar="ID", min=1)]
Deadline = Annotated[str, typer.Option(metavar="TIME")]

_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def parse(lines: Iterable[str], *, now_ms: int) -> list[Step]:
    """Steps as typed; empty lines and remarks are passed over. Raises InvalidRequest, which names the step."""
    _clock["now_ms"] = now_ms
    steps = []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InvalidRequest(
                f"step {number}", f"{line!r}: {error}", "close the quote"
            ) from None
        if words:
            steps.append(_step_of(number, words))
    return steps


def _step_of(number: int, words: list[str]) -> Step:
    try:
        step = get_command(_app).main(words, prog_name="step", standalone_mode=False)
    except InvalidRequest as error:
        field = f"step {number} ({words[0]}): {error.field}"
        raise InvalidRequest(field, error.problem, error.remedy) from error
    except Exception as error:
        # What Click finds wrong with words; its exceptions are Typer's affair, and have a message in common.
        problem = getattr(error, "format_message", None)
        if problem is None:
            raise
        known = ", ".join(VERBS)
        raise InvalidRequest(f"step {number}", str(problem()), f"there are {known}") from None
    if not isinstance(step, Step):  # --help
        raise InvalidRequest(f"step {number}", "asks for help", f"there are {', '.join(VERBS)}")
    return step


def _verb(name: str) -> Callable[[Callable[..., Step]], Callable[..., Step]]:
    """A step of this name. As with commands, a parameter that is a dataclass stands for its fields."""

    def add(make: Callable[..., Step]) -> Callable[..., Step]:
        wanted = wanted_by(make)

        def run(**given: Any) -> Step:
            return make(**gathered(wanted, given))

        _app.command(name)(disguised(run, make, wanted, []))  # type: ignore[arg-type]  # what it answers is handed on
        return make

    return add


_clock: dict[str, int] = {"now_ms": 0}
"""What `+10m` counts from."""


@_verb("submit")
def submit(resources: Words, options: RequestOptions) -> Step:
    """Somebody asks for resources."""
    return Step(allocate=request_of(resources, options))


@_verb("renew")
def renew(allocation_id: Number, extend: Annotated[str, typer.Option()] = "0") -> Step:
    """A lease is renewed, the run time extended."""
    extension_ms = arguments.duration(extend, field="extend")
    request = allocator_pb2.RenewRequest(allocation_id=allocation_id, extension_ms=extension_ms)
    return Step(renew=request)


@_verb("resize")
def resize(allocation_id: Number, resources: Words) -> Step:
    """An allocation is made larger or smaller: all that it is to hold."""
    request = allocator_pb2.ResizeRequest(
        allocation_id=allocation_id, resources=arguments.resources(resources)
    )
    return Step(resize=request)


@_verb("release")
def release(allocation_id: Number) -> Step:
    """An allocation is given back."""
    return Step(release=allocator_pb2.ReleaseRequest(allocation_id=allocation_id))


@_verb("cancel")
def cancel(request_id: Number) -> Step:
    """What waits of a request is withdrawn."""
    return Step(cancel=allocator_pb2.CancelRequest(request_id=request_id))


@_verb("reserve")
def reserve(
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW")],
    resources: Words,
    start: Annotated[str, typer.Option(metavar="TIME")],
    duration: Annotated[str, typer.Option(metavar="DURATION")],
    agent_type: Annotated[str, typer.Option("--type")] = "",
) -> Step:
    """A window is booked."""
    request = reservations_pb2.ReserveRequest(
        workflow_id=workflow,
        agent_type=agent_type,
        resources=arguments.resources(resources),
        start_ms=arguments.moment(start, field="start", now_ms=_clock["now_ms"]),
        duration_ms=arguments.duration(duration, field="duration"),
    )
    return Step(reserve=request)


@_verb("register")
def register(
    node_id: NodeId,
    capacity: Annotated[list[str] | None, typer.Argument(metavar="KIND=AMOUNT")] = None,
    gpu: Annotated[list[str] | None, typer.Option(metavar="MODEL[:COUNT]")] = None,
    attribute: Annotated[list[str] | None, typer.Option("--attribute", "-a")] = None,
    provider: Annotated[bool, typer.Option("--provider")] = False,
) -> Step:
    """There is another node or provider, or one has other resources."""
    words = capacity or []
    request = fleet_pb2.RegisterNodeRequest(
        node_id=node_id,
        provider=provider,
        capacity=arguments.resources(words, field="capacity", zero=True) if words else {},
        devices=arguments.devices(gpu or []),
        attributes=arguments.attributes(attribute or []),
        static=True,
    )
    return Step(register_node=request)


@_verb("cordon")
def cordon(node_id: NodeId) -> Step:
    """Nothing more is granted on a node."""
    return Step(cordon=fleet_pb2.CordonRequest(node_id=node_id))


@_verb("uncordon")
def uncordon(node_id: NodeId) -> Step:
    """It is granted on again."""
    return Step(uncordon=fleet_pb2.UncordonRequest(node_id=node_id))


@_verb("drain")
def drain(node_id: NodeId, deadline: Deadline = "") -> Step:
    """A node is emptied, what is left at the deadline ended."""
    request = fleet_pb2.DrainRequest(node_id=node_id)
    if deadline:
        now_ms = _clock["now_ms"]
        request.deadline_ms = arguments.moment(deadline, field="deadline", now_ms=now_ms)
    return Step(drain=request)


@_verb("remove")
def remove(node_id: NodeId, force: Annotated[bool, typer.Option("--force")] = False) -> Step:
    """A node is forgotten; with --force what is on it ends."""
    return Step(remove_node=fleet_pb2.RemoveNodeRequest(node_id=node_id, force=force))


@_verb("lose")
def lose(node_id: NodeId) -> Step:
    """A node is not heard of any more."""
    return Step(lose_node=node_id)


@_verb("return")
def come_back(node_id: NodeId) -> Step:
    """A lost node is heard of again."""
    return Step(return_node=node_id)


@_verb("quota")
def quota(
    agent_type: Annotated[str, typer.Argument(metavar="TYPE")],
    limits: Annotated[list[str] | None, typer.Argument(metavar="KIND=AMOUNT")] = None,
    parent: Annotated[str, typer.Option()] = "",
    weight: Annotated[str, typer.Option()] = "",
) -> Step:
    """The limits of an agent type or group are replaced."""
    request = quotas_pb2.SetQuotaRequest(
        agent_type=agent_type,
        parent=parent,
        limits=arguments.resources(limits, field="limits", zero=True) if limits else {},
        weight=arguments.thousandths(weight, field="weight") if weight else 0,
    )
    return Step(set_quota=request)


@_verb("queue")
def queue(options: QueueOptions) -> Step:
    """The queue is served otherwise; what is left out stays."""
    return Step(set_queue=options.request())


@_verb("advance")
def advance(length: Annotated[str, typer.Argument(metavar="DURATION")]) -> Step:
    """Time passes."""
    return Step(advance_ms=arguments.duration(length, field="length"))


VERBS: Final = tuple(str(command.name) for command in _app.registered_commands)
"""Every step there is."""
