"""What all servicers that change something share: the way into the log, and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftalloc.core.commands import Asked
from raftalloc.core.records import REJECTED
from raftalloc.server import convert
from raftalloc.server.status import INDEX, rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.api.v1 import types_pb2
    from raftalloc.core.commands import Command
    from raftalloc.core.records import Outcome
    from raftalloc.server.rpc import Call
    from raftalloc.service.submit import Answer, Submitter


class Writer:
    """Submits for a call, and notes the index in its trailing metadata."""

    def __init__(self, submitter: Submitter) -> None:
        """Everything goes through this one."""
        self._submitter = submitter

    def asked(self, command: Command, attempt: types_pb2.Idempotency, call: Call) -> Asked:
        """A command, who asks it, and which attempt of theirs it is."""
        return Asked(command, convert.origin(call.principal, attempt))

    async def submit(self, asked: Sequence[Asked], call: Call) -> Answer:
        """Outcomes of the commands, refusals among them."""
        answer = await self._submitter.submit(asked)
        call.trailing[INDEX] = str(answer.index)
        return answer

    async def done(self, command: Command, attempt: types_pb2.Idempotency, call: Call) -> Outcome:
        """The outcome of one command; raises Rejected where it is a refusal."""
        answer = await self.submit([self.asked(command, attempt, call)], call)
        return self.unless_rejected(answer.outcomes[0])

    def unless_rejected(self, outcome: Outcome) -> Outcome:
        """The outcome; raises Rejected where it is a refusal."""
        if outcome.status == REJECTED:
            assert outcome.rejection is not None, "a refusal says why"
            raise rejected(outcome.rejection)
        return outcome
