"""One run of the demonstration, from empty directory to verdict.

start the group -> register the fleet -> agents at work -> SIGKILL the leader -> another leads -> start it again
-> agents stop, leases run out -> digests at one index -> read every log -> judge
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from raftalloc.cli.demo import collect, fleet, oracle
from raftalloc.cli.demo.agents import Crew
from raftalloc.cli.demo.board import Board
from raftalloc.cli.demo.oracle import Acknowledged
from raftalloc.cli.demo.report import Course, Judgement, Report, report_of
from raftalloc.cli.demo.tally import Tally
from raftalloc.cli.demo.workload import agent_ids
from raftalloc.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.cli.demo.log import Log
    from raftalloc.cli.group import LocalGroup

REGISTER_AT_ONCE: Final = 32
PROBE_SECONDS: Final = 0.05
FINISH_SECONDS: Final = 30.0
CATCH_UP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run; seconds from the moment the agents begin."""

    nodes: int
    agents: int
    seconds: float
    seed: int = 1

    @property
    def kill_after(self) -> float:
        """When the leader is killed."""
        return self.seconds * 0.4

    @property
    def restart_after(self) -> float:
        """When it is started again."""
        return self.seconds * 0.65


@dataclass(slots=True)
class Scene:
    """What a display shows of a run; the stage keeps it current. now: the event loop's clock.

    steps: (seconds since the start, what happened).
    """

    plan: Plan
    group: LocalGroup
    tally: Tally = field(default_factory=Tally)
    told: Acknowledged = field(default_factory=Acknowledged)
    steps: list[tuple[float, str]] = field(default_factory=list)
    registered: int = 0
    began: float = 0.0
    killed: str = ""
    finished: bool = False


async def run(scene: Scene, say: Callable[[str], None]) -> Report:
    """Play it. The group is started here; whoever opened it stops it. Raises what keeps it from a verdict."""
    plan, group = scene.plan, scene.group
    say(f"starting {len(group.replica_ids)} replicas")
    group.start()
    await group.wait_answering()
    leader = await group.wait_leader()
    say(f"{leader} leads")
    async with Client(group.endpoints, tls=group.tls) as client:
        say(
            f"registering {plan.nodes} nodes, {len(fleet.PROVIDERS)} providers, {len(fleet.QUOTAS)} quotas"
        )
        await _register(client, scene)
        board = Board()
        async with board.following(client):
            course = await _load(scene, Crew(client, board, scene.told, scene.tally), say)
    return await _judge(scene, course, say)


async def _register(client: Client, scene: Scene) -> None:
    for quota in fleet.quotas():
        await client.quotas.set_quota(quota)
    room = asyncio.Semaphore(REGISTER_AT_ONCE)
    requests = fleet.registrations(scene.plan.nodes)

    async def one(row: int) -> None:
        async with room:
            await client.fleet.register_node(requests[row])
            scene.registered += 1

    # Providers first, one by one: an agent must not find a fleet without them.
    for row in range(len(fleet.PROVIDERS)):
        await one(row)
    await asyncio.gather(*(one(row) for row in range(len(fleet.PROVIDERS), len(requests))))


async def _load(scene: Scene, crew: Crew, say: Callable[[str], None]) -> Course:
    """Agents at work, the leader killed and started again meanwhile."""
    plan, group = scene.plan, scene.group
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    scene.began = began = loop.time()
    say(f"{plan.agents} agents at work for {plan.seconds:g} s")
    ids = agent_ids(plan.agents)
    agents = [
        asyncio.create_task(crew.work(agent_id, plan.seed * 1_000_003 + row, ended))
        for row, agent_id in enumerate(ids)
    ]
    try:
        await _until(began + plan.kill_after, agents)
        killed_at, new_leader = await _kill_leader(scene, crew, say)
        await _until(began + plan.restart_after, agents)
        say(f"{scene.killed} is started again")
        group.start(scene.killed)
        await _until(began + plan.seconds, agents)
    finally:
        ended.set()
        load_ended = loop.time()
        say("agents finish their last jobs")
        await _finish(agents)
    await group.wait_answering(scene.killed, seconds=CATCH_UP_SECONDS)
    say("waiting until the last leases run out")
    left = await collect.wait_idle(group, await group.wait_leader())
    scene.finished = True
    return Course(
        replicas=len(group.replica_ids),
        nodes=plan.nodes,
        agents=plan.agents,
        began=began,
        ended=load_ended,
        killed_at=killed_at,
        killed=scene.killed,
        new_leader=new_leader,
        left=left,
    )


async def _until(moment: float, agents: list[asyncio.Task[None]]) -> None:
    """Wait; an agent that breaks is a fault of the run and is raised at once."""
    left = moment - asyncio.get_running_loop().time()
    if left <= 0:
        return
    done, _ = await asyncio.wait(agents, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
    for agent in done:
        agent.result()


async def _kill_leader(scene: Scene, crew: Crew, say: Callable[[str], None]) -> tuple[float, str]:
    """SIGKILL. Answers when, and who leads then."""
    loop = asyncio.get_running_loop()
    scene.killed = await scene.group.wait_leader()
    say(f"SIGKILL to the leader {scene.killed}, pid {scene.group.pid(scene.killed)}")
    killed_at = loop.time()
    await scene.group.kill(scene.killed)
    # Requests of their own, one after the other, so that the gap is seen to within the pause between them.
    probes: list[asyncio.Task[None]] = []
    while (
        scene.tally.first_answer_after(killed_at) is None
        and len(probes) < FINISH_SECONDS / PROBE_SECONDS
    ):
        probes.append(asyncio.create_task(crew.probe()))
        await asyncio.sleep(PROBE_SECONDS)
    new_leader = await scene.group.wait_leader(other_than=scene.killed)
    await asyncio.gather(*probes)
    gap = scene.tally.first_answer_after(killed_at)
    waited = "" if gap is None else f", requests answered again after {gap * 1000:.0f} ms"
    say(f"{new_leader} leads{waited}")
    return killed_at, new_leader


async def _finish(agents: list[asyncio.Task[None]]) -> None:
    """Let the agents end; those that do not are cancelled: what they hold, their leases give back."""
    _, pending = await asyncio.wait(agents, timeout=FINISH_SECONDS)
    for agent in pending:
        agent.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*agents)


async def _judge(scene: Scene, course: Course, say: Callable[[str], None]) -> Report:
    say("comparing the replicas' states at one index")
    found = await collect.digests(scene.group)
    say(f"reading the event log of each replica up to index {found.index}")
    logs = await collect.logs(scene.group, found.index)
    events = max(len(log) for log in logs.values())
    say(f"judging {events} events a replica")
    judgement = await asyncio.to_thread(_judgement, scene.told, logs)
    return report_of(course, scene.tally, scene.told.count(), found, judgement, events)


def _judgement(told: Acknowledged, logs: dict[str, Log]) -> Judgement:
    return Judgement(
        lost=oracle.lost(told, logs),
        duplicated=oracle.duplicated(told, logs),
        over_capacity=oracle.over_capacity(logs),
        disagreements=oracle.disagreements(logs),
    )
