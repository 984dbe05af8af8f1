"""A trace against the machine itself, in the trace's own time, as fast as it decides.

A discrete-event loop: the next thing to happen is either the next submission or what the machine
says is due (`next_due_ms`: ends of durations). Every step is an entry stamped with its time and
takes the way it takes on a replica: encoded, decoded, applied, its events encoded, the chain
extended. What the loop adds of its own is one pass of the tally over the events of each entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final

from raftalloc.analytics.tally import Tally
from raftalloc.core import codec, invariants, machine
from raftalloc.core.commands import Asked, Command, Entry, RegisterNode, Tick
from raftalloc.core.records import GRANTED
from raftalloc.core.state import State
from raftalloc.replay.fleet import NodeSpec
from raftalloc.replay.report import Facts
from raftalloc.replay.workload import WAIT_MS, Submission, Workload

ORIGIN_MS: Final = 1_000
"""The group's time at which the trace begins; 0 would mean "none"."""
COMMANDS_MAX: Final = 10_000
"""Commands of one entry, as on a replica."""
MEMBERS_MAX: Final = 20_000
"""Tasks of one entry: how much is done between two looks at the keyboard."""
PROPOSER: Final = "replay"

Progress = Callable[[int, int], None]
"""Told (tasks submitted, ms of the trace) from time to time."""


class EmbeddedReplay:
    """One replay. `run` goes to the end or until it is told to stop; the figures may be read then.

    blocks: every entry with its events, where `keep_blocks` asked for them.
    """

    def __init__(
        self, fleet: Sequence[NodeSpec], workload: Workload, *, keep_blocks: bool = False
    ) -> None:
        self.state = State.genesis()
        self.tally = Tally()
        self.chain = codec.CHAIN_START
        self.index = 0
        self.events = 0
        self.submitted = 0
        self.acknowledged = 0
        self.lost = 0
        self.at_ms = ORIGIN_MS
        self.wall_s = 0.0
        self.blocks: list[bytes] = []
        self._keep_blocks = keep_blocks
        self._fleet = fleet
        self._workload = workload

    def run(self, progress: Progress, should_stop: Callable[[], bool]) -> bool:
        """Answers whether it came to its end."""
        self._register()
        began = perf_counter()
        finished = True
        for _ in self._submit_all():
            progress(self.submitted, self.at_ms - ORIGIN_MS)
            if should_stop():
                self.tally.usage.close_mean()
                finished = False
                break
        self.wall_s = perf_counter() - began
        return finished

    def facts(self, *, policy: str, finished: bool) -> Facts:
        """What the report needs besides the tally."""
        extras: dict[str, object] = {
            "entries": self.index,
            "events": self.events,
            "chain": self.chain.hex(),
            "digest": codec.content_digest(self.state),
        }
        if self._keep_blocks:
            extras["violations"] = self.verify()
        return Facts(
            mode="embedded",
            policy=policy,
            speed=1.0,
            nodes=len(self._fleet),
            rows=self._workload.rows,
            submitted=self.submitted,
            skipped=dict(self._workload.skipped),
            acknowledged=self.acknowledged,
            lost=self.lost,
            wall_s=self.wall_s,
            trace_s=(self.at_ms - ORIGIN_MS) / 1000,
            interrupted=not finished,
            extras=extras,
        )

    def verify(self) -> list[str]:
        """What does not hold: conservation, and that the kept blocks fold into this very state."""
        violations = invariants.check(self.state)
        folded, chain = State.genesis(), codec.CHAIN_START
        for data in self.blocks:
            block = codec.decode_block(data)
            chain = codec.next_chain(chain, block.index, block.entry, block.events)
            if chain != block.chain:
                violations.append(f"the chain breaks at index {block.index}")
            events = codec.decode_events(block.events)
            machine.fold(folded, events, index=block.index, at_ms=block.at_ms)
        if codec.content_digest(folded) != codec.content_digest(self.state):
            violations.append("the events do not fold into the state that they left")
        return violations

    def _register(self) -> None:
        commands: list[Command] = [
            RegisterNode(node.node_id, False, node.capacity, devices=node.devices, static=True)
            for node in self._fleet
        ]
        for first in range(0, len(commands), COMMANDS_MAX):
            self._apply(ORIGIN_MS, commands[first : first + COMMANDS_MAX], ())

    def _submit_all(self) -> Iterator[None]:
        blocks = self._workload.blocks(commands_max=COMMANDS_MAX, members_max=MEMBERS_MAX)
        for block in blocks:
            at_ms = ORIGIN_MS + block[0].at_ms
            yield from self._tick_until(at_ms)
            self._submit(at_ms, block)
            yield
        self.tally.usage.close_mean()
        # The last ones in the queue start as others end; who never ends is not waited for.
        horizon_ms = ORIGIN_MS + WAIT_MS
        while self.state.waiting_count():
            due_ms = machine.next_due_ms(self.state)
            if not due_ms or due_ms >= horizon_ms:
                break
            self._apply(due_ms, [Tick()], ())
            yield

    def _tick_until(self, at_ms: int) -> Iterator[None]:
        """Everything due before the next submission happens at its own time, not at that."""
        while True:
            due_ms = machine.next_due_ms(self.state)
            if not due_ms or due_ms >= at_ms:
                return
            self._apply(max(due_ms, self.at_ms), [Tick()], ())
            yield

    def _submit(self, at_ms: int, block: Sequence[Submission]) -> None:
        counts = [submission.command.count for submission in block]
        applied = self._apply(at_ms, [submission.command for submission in block], counts)
        self.submitted += sum(counts)
        for outcome in applied.outcomes:
            if outcome.status == GRANTED:
                granted = range(outcome.subject, outcome.subject + outcome.count)
                self.acknowledged += len(granted)
                self.lost += self.tally.missing(granted)

    def _apply(
        self, at_ms: int, commands: Sequence[Command], counts: Sequence[int]
    ) -> machine.Applied:
        self.index += 1
        self.at_ms = at_ms
        asked = tuple(Asked(command) for command in commands)
        entry = codec.encode_entry(Entry(at_ms, PROPOSER, asked))
        applied = machine.apply(self.state, codec.decode_entry(entry), self.index)
        events = codec.encode_events(applied.happened)
        self.chain = codec.next_chain(self.chain, self.index, entry, events)
        if self._keep_blocks:
            block = codec.Block(self.index, at_ms, entry, events, self.chain)
            self.blocks.append(codec.encode_block(block))
        self.events += len(applied.happened)
        self.tally.add(at_ms, applied.happened, counts)
        return applied
