from __future__ import annotations

from raftalloc.core.commands import BEST_FIT, COUNT_MAX, LOW
from raftalloc.replay.trace import Task
from raftalloc.replay.workload import GANG_TOO_LARGE, NO_DEMAND, WAIT_MS, make_workload


def task(job_id="j", *, submit_ms=0, count=1, demand=(("cpu", 1000),)):
    return Task(2, job_id, "ann", submit_ms, 5000, LOW, count, demand, ())


def asked(workload):
    return [(s.at_ms, s.command.workflow_id, s.command.count) for s in workload.submissions]


def test_tasks_come_in_order_of_time_and_then_of_the_file():
    tasks = [task("b", submit_ms=900), task("a", submit_ms=500), task("c", submit_ms=900)]
    workload = make_workload(tasks, policy=BEST_FIT)
    assert asked(workload) == [(0, "a", 1), (400, "b", 1), (400, "c", 1)]
    assert (workload.span_ms, workload.members, workload.rows) == (400, 3, 3)


def test_a_command_says_who_asks_and_waits_as_long_as_it_takes():
    command = make_workload([task("j1")], policy=BEST_FIT).submissions[0].command
    assert (command.agent_id, command.agent_type, command.workflow_id) == ("ann", "ann", "j1")
    assert (command.wait_ms, command.duration_ms, command.lease_ttl_ms) == (WAIT_MS, 5000, 0)
    assert (command.gang, command.policy, command.priority) == (False, BEST_FIT, LOW)


def test_an_array_above_the_limit_becomes_several_requests():
    workload = make_workload([task(count=2 * COUNT_MAX + 7)], policy=BEST_FIT)
    assert [count for _, _, count in asked(workload)] == [COUNT_MAX, COUNT_MAX, 7]
    assert workload.members == 2 * COUNT_MAX + 7


def test_a_gang_is_never_split():
    tasks = [task("ok", count=COUNT_MAX), task("no", count=COUNT_MAX + 1), task("single")]
    workload = make_workload(tasks, policy=BEST_FIT, gangs=True, members_max=10)
    assert asked(workload) == [(0, "ok", COUNT_MAX), (0, "single", 1)]
    assert [s.command.gang for s in workload.submissions] == [True, False]
    assert workload.skipped == {GANG_TOO_LARGE: COUNT_MAX + 1}


def test_tasks_that_take_nothing_are_skipped_and_counted():
    workload = make_workload([task(demand=(), count=3), task()], policy=BEST_FIT)
    assert (workload.members, workload.skipped) == (1, {NO_DEMAND: 3})


def test_a_trace_of_nothing_is_an_empty_workload():
    workload = make_workload([], policy=BEST_FIT)
    assert (workload.span_ms, list(workload.blocks(commands_max=5, members_max=5))) == (0, [])


def test_blocks_hold_one_time_and_no_more_than_their_limits():
    tasks = [task(count=4), task(count=4), task(count=4), task(count=99), task(submit_ms=1)]
    workload = make_workload(tasks, policy=BEST_FIT)
    by_members = [
        [s.command.count for s in block]
        for block in workload.blocks(commands_max=10, members_max=8)
    ]
    assert by_members == [[4, 4], [4], [99], [1]]
    by_commands = [len(b) for b in workload.blocks(commands_max=3, members_max=10**6)]
    assert by_commands == [3, 1, 1]
