"""WhatIf where it is carried out: on a fork of the state that a reader holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import simulation_pb2
from raftalloc.core import records, views
from raftalloc.core.commands import Allocate
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks, convert, explaining, render, steps
from raftalloc.server.outcomes import allocate_response
from raftalloc.server.render_events import event_message
from raftalloc.server.status import rejection_message
from raftalloc.service.engine import allocations_of
from raftalloc.service.submit import Answer
from raftalloc.service.watch import Seen
from raftalloc.service.whatif import Fork, TooMuch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftalloc.api.v1 import allocator_pb2, usage_pb2
    from raftalloc.core.commands import Asked
    from raftalloc.core.state import State
    from raftalloc.server.rpc import Call
    from raftalloc.server.still import StillState
    from raftalloc.service.whatif import Taken

EVENTS_SHOWN_MAX: Final = 100
QUEUE_SHOWN_MAX: Final = 1_000
WAITING_MAX: Final = 1 << 20


class WhatIfServicer:
    """Answers Simulation/WhatIf over the state that stands still; that state is copied, never touched."""

    def __init__(self, still: StillState, *, default_policy: int) -> None:
        """`default_policy`: of core.commands, for requests that name none."""
        self._still = still
        self._default_policy = default_policy

    async def WhatIf(
        self, request: simulation_pb2.WhatIfRequest, call: Call
    ) -> simulation_pb2.WhatIfResponse:
        """Every step in turn. Raises InvalidRequest, which names the step."""
        convert.no_surplus(request)
        steps.check_count(request.steps)
        state = self._still.state
        fork = Fork(state, now_ms=self._still.now_ms())
        run = _Run(fork, self._default_policy, call.principal)
        response = simulation_pb2.WhatIfResponse(index=state.index, at_ms=fork.now_ms)
        response.before.CopyFrom(_utilization(fork))
        before = _queue(state)
        for row, step in enumerate(request.steps):
            response.outcomes.append(run.take(row, step))
        response.end_ms = fork.now_ms
        response.after.CopyFrom(_utilization(fork))
        changes = _changes(before, _queue(fork.state))
        response.queue.extend(changes[:QUEUE_SHOWN_MAX])
        response.queue_count = len(changes)
        response.event_counts.update(run.counts)
        return response


class _Run:
    """The steps of one what-if."""

    def __init__(self, fork: Fork, default_policy: int, principal: str) -> None:
        self.counts: Counter[str] = Counter()
        self._fork = fork
        self._principal = principal
        self._steps = steps.Steps(default_policy=default_policy, principal=principal)

    def take(self, row: int, step: simulation_pb2.WhatIfStep) -> simulation_pb2.WhatIfOutcome:
        """One step. Raises InvalidRequest: `steps[3].allocate.resources.cpu`."""
        field = f"steps[{row}]"
        try:
            name = steps.name_of(step)
            field = f"{field}.{name}"
            if name == steps.ADVANCE:
                field = f"steps[{row}]"
                return self._told(self._fork.advance(_length_ms(step)))
            asked = self._steps.asked(step, self._fork.state)
            return self._answered(asked, self._fork.ask(asked))
        except InvalidRequest as error:
            raise InvalidRequest(f"{field}.{error.field}", error.problem, error.remedy) from error
        except TooMuch as error:
            remedy = "advance by less, ask for less, or try fewer steps"
            raise InvalidRequest(field, str(error), remedy) from error

    def _answered(self, asked: Asked, taken: Taken) -> simulation_pb2.WhatIfOutcome:
        """What a command came to."""
        message, outcome, state = self._told(taken), taken.outcome, self._fork.state
        assert outcome is not None, "a command has an outcome"
        if isinstance(asked.command, Allocate):
            granted = (allocations_of(state, asked.command, outcome),)
            answer = Answer((outcome,), taken.index, taken.at_ms, granted)
            message.allocated.CopyFrom(allocate_response(state, asked, answer, 0))
            why = self._why(asked.command, outcome)
            if why is not None:
                message.why.CopyFrom(why)
        elif outcome.rejection is not None:
            message.rejected.CopyFrom(rejection_message(outcome.rejection))
        message.subject = outcome.subject
        return message

    def _why(
        self, command: Allocate, outcome: records.Outcome
    ) -> allocator_pb2.ExplainResponse | None:
        """Every blocker of a request that did not start, and the proof."""
        state = self._fork.state
        if outcome.status == records.QUEUED:
            return explaining.of_waiting(state, outcome.subject, state.index)
        if outcome.status == records.REJECTED:
            return explaining.of_request(state, command, self._principal, state.index)
        return None

    def _told(self, taken: Taken) -> simulation_pb2.WhatIfOutcome:
        """What happened."""
        self.counts.update(type(item.event).__name__ for _, _, item in taken.happened)
        events, last, sequence = [], 0, 0
        for index, at_ms, item in taken.happened[:EVENTS_SHOWN_MAX]:
            sequence = sequence + 1 if index == last else 0
            last = index
            events.append(event_message(Seen(index, sequence, at_ms, item.event)))
        return simulation_pb2.WhatIfOutcome(
            at_ms=taken.at_ms, events=events, events_count=len(taken.happened)
        )


def _length_ms(step: simulation_pb2.WhatIfStep) -> int:
    if step.advance_ms == 0:
        raise InvalidRequest("advance_ms", "is 0", "give a length of time above 0")
    return checks.duration_ms("advance_ms", step.advance_ms)


def _utilization(fork: Fork) -> usage_pb2.UtilizationResponse:
    return render.utilization(views.utilization(fork.state), fork.state.index, fork.now_ms)


def _queue(state: State) -> Mapping[int, tuple[str, int]]:
    """Who waits: request -> agent and position."""
    rows = views.waiting_requests(state, limit=WAITING_MAX)
    return {row.request_id: (row.agent_id, row.position) for row in rows}


def _changes(
    before: Mapping[int, tuple[str, int]], after: Mapping[int, tuple[str, int]]
) -> list[simulation_pb2.QueueChange]:
    """Whose place is another one, by id."""
    changes = []
    for request_id in sorted(before.keys() | after.keys()):
        agent_id, old = before.get(request_id, ("", 0))
        agent_after, new = after.get(request_id, (agent_id, 0))
        if old != new:
            changes.append(
                simulation_pb2.QueueChange(
                    request_id=request_id,
                    agent_id=agent_after,
                    position_before=old,
                    position_after=new,
                )
            )
    return changes
