"""Against a replica in this process: the whole path but for the sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from raftalloc.api.v1 import allocator_pb2, events_pb2, fleet_pb2
from raftalloc.core.commands import BEST_FIT, HIGH, LOW, MEDIUM
from raftalloc.errors import OutcomeUnknown, Unavailable
from raftalloc.replay import group as group_module
from raftalloc.replay.audit import Audit
from raftalloc.replay.connection import Connection
from raftalloc.replay.fleet import read_fleet
from raftalloc.replay.group import GroupReplay, fitting_speed
from raftalloc.replay.pacing import message_of
from raftalloc.replay.report import report_of
from raftalloc.replay.trace import Task
from raftalloc.replay.workload import Submission, make_workload
from raftalloc.server.embedded import open_embedded

ALLOCATE = ("/raftalloc.api.v1.Allocator/Allocate", "/raftalloc.api.v1.Allocator/AllocateBatch")


class Faulty:
    """A transport on which answers get lost, and calls do not arrive, in turns."""

    def __init__(self, transport, every):
        self._transport = transport
        self._every = every
        self.calls = 0
        self.stream = transport.stream
        self.duplex = transport.duplex
        self.close = transport.close

    async def unary(self, method, request, response_type, *, timeout, metadata=()):
        self.calls += method in ALLOCATE
        fault = method in ALLOCATE and self._every and self.calls % self._every == 0
        if fault and self.calls % 2:
            raise Unavailable("it did not arrive")
        answer = await self._transport.unary(
            method, request, response_type, timeout=timeout, metadata=metadata
        )
        if fault:
            raise OutcomeUnknown("the answer was lost")
        return answer


def task(job_id="j", *, submit_ms=0, duration_ms=60_000, count=1, priority=LOW, cpu=1000):
    return Task(2, job_id, "ann", submit_ms, duration_ms, priority, count, (("cpu", cpu),), ())


@asynccontextmanager
async def connected(directory, *, faults_every=0):
    replica = await open_embedded(str(directory))
    try:
        faulty = Faulty(replica.transport, faults_every)
        async with Connection(["in-process:1"], timeout=20, connect=lambda _: faulty) as group:
            yield group
    finally:
        await replica.close()


async def replayed(group, tasks, *, fleet="uniform:2,cpu=4", speed=1000.0, stop=None, **options):
    workload = make_workload(tasks, policy=BEST_FIT, members_max=1000, gangs=False)
    run = GroupReplay(group, read_fleet(fleet), workload, speed=speed, **options)
    finished = await run.run(lambda *_: None, stop or asyncio.Event())
    return report_of(run.audit.tally, run.facts(policy="best_fit", finished=finished))


async def left_behind(group):
    nodes = [node async for node in group.fleet.list_all_nodes()]
    listed = await group.allocator.list(allocator_pb2.ListRequest())
    return len(nodes), len(listed.allocations)


def test_a_trace_runs_at_its_speed_and_leaves_nothing_behind(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            tasks = [task(f"j{n}", submit_ms=n * 20_000, count=2, priority=HIGH) for n in range(20)]
            report = await replayed(group, tasks)
            return report, await left_behind(group)

    report, left = run(story())
    assert (report["placed"], report["acknowledged"], report["lost"]) == (40, 40, 0)
    assert (report["failovers"], report["retries"], report["unacknowledged"]) == (0, 0, 0)
    assert 0.38 <= report["wall_s"] < 10
    assert 0.2 < report["utilisation"]["cpu"] <= 1.0
    assert left == (0, 0)


def test_waits_are_measured_by_the_group_and_given_in_the_time_of_the_trace(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            tasks = [task("first", cpu=4000, duration_ms=400_000), task("second", cpu=4000)]
            return await replayed(group, tasks, fleet="uniform:1,cpu=4")

    report = run(story())
    assert report["placed"] == 2
    assert report["acknowledged"] == 1  # the other start is only in the log
    assert 300 < report["waits_s"]["LOW"]["p99"] < 5_000


def test_refusals_are_counted_with_their_members(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            return await replayed(group, [task(cpu=9000, count=7), task(priority=MEDIUM)])

    report = run(story())
    assert report["rejected"] == {"UNSATISFIABLE": 7}
    assert (report["placed"], report["waiting"]) == (1, 0)


def test_lost_calls_and_lost_answers_are_repeated_and_nothing_is_done_twice(run, tmp_path):
    async def story():
        async with connected(tmp_path, faults_every=3) as group:
            tasks = [task(f"j{n}", submit_ms=n * 30_000, duration_ms=1) for n in range(30)]
            return await replayed(group, tasks)

    report = run(story())
    assert (report["placed"], report["acknowledged"]) == (30, 30)
    assert report["retries"] >= 5
    assert (report["lost"], report["duplicated"], report["unacknowledged"]) == (0, 0, 0)


def test_what_still_waits_is_taken_back_at_the_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr(group_module, "DRAIN_S", 0.1)

    async def story():
        async with connected(tmp_path) as group:
            report = await replayed(group, [task(duration_ms=0, count=12)])
            return report, await left_behind(group)

    report, left = run(story())
    assert (report["placed"], report["waiting"], left) == (8, 4, (0, 0))


def test_it_leaves_everything_there_where_that_is_wanted(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            await replayed(group, [task(duration_ms=0, count=3)], keep=True)
            return await left_behind(group)

    assert run(story()) == (2, 3)


def test_nodes_that_were_there_before_stay(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            for name in ("u-0", "mine"):
                await group.fleet.register_node(
                    fleet_pb2.RegisterNodeRequest(node_id=name, capacity={"cpu": 4000}, static=True)
                )
            report = await replayed(group, [task()])
            return report, [node.node_id async for node in group.fleet.list_all_nodes()]

    report, nodes = run(story())
    assert (report["foreign_nodes"], nodes) == (1, ["u-0", "mine"])


def test_told_to_stop_it_reports_and_cleans_up(run, tmp_path):
    async def story():
        async with connected(tmp_path) as group:
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(0.5, stop.set)
            tasks = [task(f"j{n}", submit_ms=n * 100_000) for n in range(1000)]
            report = await replayed(group, tasks, stop=stop)
            return report, await left_behind(group)

    report, left = run(story())
    assert report["interrupted"] is True
    assert 1 <= report["placed"] == report["submitted"] < 100
    assert left == (0, 0)


def test_a_group_that_is_gone_ends_it_with_what_it_met(run, tmp_path):
    async def story():
        replica = await open_embedded(str(tmp_path))
        faulty = Faulty(replica.transport, 1)  # no allocate ever comes back
        try:
            async with Connection(["in-process:1"], timeout=0.5, connect=lambda _: faulty) as group:
                await replayed(group, [task(f"j{n}", submit_ms=n * 9000) for n in range(50)])
        finally:
            await replica.close()

    with pytest.raises((Unavailable, OutcomeUnknown)):
        run(story())


def granted_response(request_id, *members):
    allocations = [
        allocator_pb2.AllocateResponse().granted.allocations.add(
            id=request_id + member, request_id=request_id
        )
        for member in members
    ]
    return allocator_pb2.AllocateResponse(granted=allocator_pb2.Granted(allocations=allocations))


def granted_event(allocation_id, request_id, agent_id="ann"):
    detail = (
        f'{{"allocation_id":{allocation_id},"request_id":{request_id},"agent_id":"{agent_id}",'
        '"agent_type":"a","workflow_id":"w","principal":"p","priority":1,"demand":{"cpu":1},'
        '"node_id":"n","suppliers":["n"],"devices":{},"token":1,"expires_ms":0,"ends_ms":0,'
        '"lease_ttl_ms":0,"reservation_id":0,"waited_ms":0,"of_a_later_build":[1]}'
    )
    return events_pb2.Event(index=5, at_ms=1, type="Granted", detail_json=detail)


def test_a_grant_that_the_log_does_not_have_is_lost(run):
    async def story():
        audit = Audit(["ann"])
        submission = Submission(0, make_workload([task(count=3)], policy=1).submissions[0].command)
        audit.answered(submission, granted_response(10, 0, 2))
        audit.take([granted_event(10, 10)], 5)
        return audit.lost, audit.duplicated, audit.unacknowledged

    assert run(story()) == (1, 0, 0)


def test_grants_twice_and_grants_nobody_told_us_of_are_seen(run):
    async def story():
        audit = Audit(["ann"])
        events = [granted_event(10, 10), granted_event(10, 10), granted_event(11, 10)]
        audit.take([*events, granted_event(90, 90, "eve")], 5)
        return audit.lost, audit.duplicated, audit.unacknowledged, audit.tally.placed

    assert run(story()) == (0, 1, 2, 3)


def test_durations_are_divided_by_the_speed_and_never_become_endless():
    workload = make_workload([task(duration_ms=60_000), task(duration_ms=1)], policy=BEST_FIT)
    minute, instant = (submission.command for submission in workload.submissions)
    assert message_of(minute, 60.0).duration_ms == 1000
    assert message_of(instant, 60.0).duration_ms == 1
    assert message_of(minute, 60.0).wait_ms == minute.wait_ms


def test_a_trace_fits_ten_minutes_and_is_never_slowed_down():
    day = make_workload([task(), task(submit_ms=86_400_000)], policy=BEST_FIT)
    minute = make_workload([task(), task(submit_ms=60_000)], policy=BEST_FIT)
    assert (fitting_speed(day), fitting_speed(minute)) == (144.0, 1.0)
