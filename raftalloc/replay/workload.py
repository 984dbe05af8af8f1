"""Tasks of a trace, put in order of time and into the commands they become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Final

from raftalloc.core.commands import COUNT_MAX, Allocate
from raftalloc.core.quantities import DURATION_MS_MAX
from raftalloc.replay.trace import Task

NO_DEMAND: Final = "NO_DEMAND"
"""Skipped: the trace measured nothing that the task took."""
GANG_TOO_LARGE: Final = "GANG_TOO_LARGE"
"""Skipped: more members than one request may have, and all or nothing."""
WAIT_MS: Final = DURATION_MS_MAX
"""A replayed request waits for as long as it takes, so that its wait is measured."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One request, due `at_ms` after the first of the trace."""

    at_ms: int
    command: Allocate


@dataclass(slots=True)
class Workload:
    """Everything to be asked, in order of time; equal times in the order of the file.

    members: tasks in all submissions. skipped: tasks that cannot be asked for, by reason.
    """

    submissions: list[Submission] = field(default_factory=list)
    members: int = 0
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def span_ms(self) -> int:
        """From the first submission to the last."""
        return self.submissions[-1].at_ms if self.submissions else 0

    def blocks(self, *, commands_max: int, members_max: int) -> Iterator[list[Submission]]:
        """Submissions of one time, at most so many to a block; a larger one stands alone."""
        for _, together in groupby(self.submissions, key=attrgetter("at_ms")):
            block: list[Submission] = []
            members = 0
            for submission in together:
                count = submission.command.count
                if block and (len(block) == commands_max or members + count > members_max):
                    yield block
                    block, members = [], 0
                block.append(submission)
                members += count
            yield block


def make_workload(
    tasks: Iterable[Task], *, policy: int, gangs: bool = False, members_max: int = COUNT_MAX
) -> Workload:
    """Arrays larger than members_max become several requests; a gang of 1..COUNT_MAX stays whole."""
    ordered = sorted(tasks, key=attrgetter("submit_ms"))
    workload = Workload(rows=len(ordered))
    origin_ms = ordered[0].submit_ms if ordered else 0
    for task in ordered:
        gang = gangs and task.count > 1
        if not task.demand:
            workload.skipped[NO_DEMAND] += task.count
        elif gang and task.count > COUNT_MAX:
            workload.skipped[GANG_TOO_LARGE] += task.count
        else:
            command = _command(task, policy, gang=gang)
            at_ms = task.submit_ms - origin_ms
            for count in _parts(task.count, task.count if gang else members_max):
                part = command if count == task.count else replace(command, count=count)
                workload.submissions.append(Submission(at_ms, part))
            workload.members += task.count
    return workload


def _parts(count: int, size_max: int) -> Iterator[int]:
    while count > 0:
        yield min(count, size_max)
        count -= size_max


def _command(task: Task, policy: int, *, gang: bool) -> Allocate:
    return Allocate(
        agent_id=task.user,
        agent_type=task.user,
        workflow_id=task.job_id,
        priority=task.priority,
        demand=task.demand,
        gpu_models=task.gpu_models,
        count=task.count,
        gang=gang,
        duration_ms=task.duration_ms,
        wait_ms=WAIT_MS,
        policy=policy,
    )
