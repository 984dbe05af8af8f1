"""One seed: a group of replicas, their callers and their misfortunes, from the first moment to the verdict."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

from raftalloc.core.commands import Cordon, Origin
from raftalloc.errors import DataDirectoryError, RaftallocError
from tests.simulation import faults
from tests.simulation.clock import CURRENT, ReplicaClock
from tests.simulation.dice import Dice
from tests.simulation.disk import new_disk
from tests.simulation.flips import Flipped, flip
from tests.simulation.loop import START_SECONDS, TimeStandsStill, new_loop
from tests.simulation.member import Life, SimStore
from tests.simulation.network import SimNetwork, Weather
from tests.simulation.operator import Operator
from tests.simulation.oracles import LogOracle, RaftOracle, Violated
from tests.simulation.watch import watch_leaders
from tests.simulation.workload import Caller, Reader, register_fleet

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Sequence

    from raftalloc.core.records import Outcome
    from raftalloc.service.digests import Divergence
    from raftalloc.service.engine import Decided
    from raftalloc.service.submit import Answer

FAULT_SECONDS = 30.0
HEALED_SECONDS = 15.0
NODES = 6
STORY_LINES = 40
READ_SECONDS = (0.03, 0.1)


@dataclass(slots=True)
class Verdict:
    """What one seed came to."""

    seed: int
    oracle: str = ""
    story: list[str] = field(default_factory=list)
    simulated_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    trace: int = 0


class World:
    """Everything of one run. Nothing in it depends on anything but the seed and the faults that are allowed."""

    def __init__(self, seed: int, allowed: Sequence[str], fault_seconds: float) -> None:
        self.seed = seed
        self._fault_seconds = fault_seconds
        self.loop = new_loop()
        self.loop.on_task = _keep_task
        self.mix = faults.draw(Dice(seed, "mix"), allowed)
        self.ids = [f"r{number}" for number in range(self.mix.replicas)]
        self.lives: dict[str, Life] = {}
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.trace = 0
        self.clock = ReplicaClock(self.loop, drift=1.0, wall_offset_ms=0)
        self.network = SimNetwork(self.loop, self.clock, Dice(seed, "network"))
        self.network.weather = self.mix.weather
        self.raft = RaftOracle()
        self.log = LogOracle(1 if seed % 10 == 0 else 100, self.note)
        self._story: list[str] = []
        self._violation: Violated | None = None
        self._over: asyncio.Future[None] = self.loop.create_future()
        self._disks = {name: new_disk(seed, name, self.mix) for name in self.ids}
        self._stores = {name: SimStore(Dice(seed, f"store/{name}")) for name in self.ids}
        self._wall_offsets = dict.fromkeys(self.ids, 0)
        self._dice = Dice(seed, "world")
        drifts = [self._dice.uniform(0.95, 1.05) if self.mix.drift else 1.0 for _ in self.ids]
        self._drifts = dict(zip(self.ids, drifts, strict=True))
        self._starts = 0
        self._files = {name: list(self.ids) for name in self.ids}
        """Whom each replica's `cluster.toml` names."""
        self._names = len(self.ids)
        self._wipes = 0
        self._operator = Operator(
            self, Dice(seed, "operator"), self.mix.changes, self.mix.change_seconds
        )
        self._failing: set[str] = set()
        self.flipped = Flipped()
        self._wiped = ""
        self._robbed: set[str] = set()  # who has lost something of its event store
        self._nemesis = faults.Nemesis(self, Dice(seed, "nemesis"), self.mix)
        self.network.on_sent = self._sent
        self.network.on_delivered = self._delivered

    def run(self) -> Verdict:
        """The whole story."""
        try:
            self.loop.run(self._run())
        except TimeStandsStill as error:
            self.violate("liveness", f"somebody is busy for ever: {error}")
        self.loop.close()
        oracle = ""
        if self._violation is not None:
            oracle = self._violation.oracle
            self.note(str(self._violation))
        return Verdict(
            seed=self.seed,
            oracle=oracle,
            story=self._story[-STORY_LINES:],
            simulated_seconds=self.loop.now - START_SECONDS,
            faults=self.faults,
            counts=self.counts,
            trace=self.trace,
        )

    async def _run(self) -> None:
        mix = self.mix
        self.note(f"{mix.replicas} replicas, {mix.callers} callers, faults: {', '.join(mix.names)}")
        for replica_id in self.ids:
            self.start(replica_id)
        callers = [
            Caller(self, Dice(self.seed, f"caller/{number}"), f"{number}", mix.think_seconds)
            for number in range(mix.callers)
        ]
        await self._for(0.0)
        tasks = [self.loop.create_task(caller.run(), name="caller") for caller in callers]
        tasks.append(self.loop.create_task(register_fleet(callers[0], NODES), name="fleet"))
        tasks.append(self.loop.create_task(watch_leaders(self), name="watch"))
        for number, think_seconds in enumerate(READ_SECONDS):
            reader = Reader(self, Dice(self.seed, f"reader/{number}"), think_seconds)
            tasks.append(self.loop.create_task(reader.run(), name="reader"))
        tasks.append(self.loop.create_task(self._operator.run(), name="operator"))
        nemesis = self.loop.create_task(self._nemesis.run(), name="nemesis")
        try:
            await self._for(self._fault_seconds)
            nemesis.cancel()
            if not self._violation:
                await self._heal(tasks)
        finally:
            tasks.append(nemesis)
            for task in tasks:
                task.cancel()
            for replica_id in list(self.lives):
                self.lives[replica_id].kill()
            await asyncio.wait(tasks)
        for task in tasks:
            error = None if task.cancelled() else task.exception()
            if error is not None and self._violation is None:
                raise error

    async def _heal(self, tasks: list[asyncio.Task[Any]]) -> None:
        """The faults stop: within a bound everybody must be served, and all replicas be at one."""
        self._nemesis = faults.Nemesis(self, Dice(self.seed, "calm"), _calm(self.mix))
        self.note("the faults stop")
        self.network.weather = Weather(is_stream=self.mix.weather.is_stream)
        self.network.mend_all()
        for replica_id in self.ids:
            if replica_id in self.lives:
                self.lives[replica_id].clock.resume()
            if replica_id in self._failing:
                self.kill(replica_id)
            self.start(replica_id)
        started = self.loop.now
        self._operator.is_stopping = True
        while self._goes_on(started) and not self._operator.is_idle:
            await self._for(0.1)
        if not self._violation and not self._operator.is_idle:
            where = ", ".join(self._where(name) for name in self.ids)
            self.violate("liveness", f"a change of the group does not come to an end: {where}")
        probe = Caller(self, Dice(self.seed, "probe"), "probe", 1.0)
        asked = self.loop.create_task(
            probe.ask(Cordon("nobody"), Origin(key=f"{'probe':0>32}")), name="probe"
        )
        tasks.append(asked)
        while self._goes_on(started) and not asked.done():
            await self._for(0.1)
        if not self._violation and not asked.done():
            self.violate(
                "liveness", f"nothing is decided for {HEALED_SECONDS:g} s after the faults"
            )
        self.counts["healed_ms"] += int((self.loop.now - started) * 1000)
        for task in tasks:
            task.cancel()
        while self._goes_on(started):
            await self._for(0.2)
            if self._are_at_one():
                lives = [self.lives[name] for name in self.ids if name in self.lives]
                self._guard(self.log.final, lives)
                for life in lives:
                    self._guard(self.log.history, life, self._stores[life.replica_id])
                return
        if not self._violation:
            where = ", ".join(self._where(name) for name in self.ids)
            self.violate("liveness", f"replicas do not converge in {HEALED_SECONDS:g} s: {where}")

    def _goes_on(self, started: float) -> bool:
        return self._violation is None and self.loop.now < started + HEALED_SECONDS

    def _are_at_one(self) -> bool:
        expected = [name for name in self.ids if name not in self.flipped.expelled]
        lives = [self.lives.get(name) for name in expected]
        open_lives = [life for life in lives if life is not None and life.is_open]
        return (
            len(open_lives) == len(expected)
            and len({life.engine.index for life in open_lives}) == 1
            and len({life.raft.applied_index for life in open_lives}) == 1
            and all(life.engine.gaps.wanted is None for life in open_lives)
        )

    def _where(self, replica_id: str) -> str:
        life = self.lives.get(replica_id)
        if life is None:
            return f"{replica_id} is down"
        raft = life.raft
        return f"{replica_id} {raft.role} term {raft.term} commit {raft.commit_index} applied {raft.applied_index}"

    async def _for(self, seconds: float) -> None:
        """Let time pass; ends early at a violation."""
        await asyncio.wait([self._over], timeout=seconds)

    # What callers, nemesis and network ask for.

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    def new_replica(self) -> str:
        """Another machine, with an empty disk."""
        replica_id = f"r{self._names}"
        self._names += 1
        self.ids.append(replica_id)
        self._files[replica_id] = sorted(self.ids)
        self._disks[replica_id] = new_disk(self.seed, replica_id, self.mix)
        self._stores[replica_id] = SimStore(Dice(self.seed, f"store/{replica_id}"))
        self._wall_offsets[replica_id] = 0
        self._drifts[replica_id] = self._dice.uniform(0.95, 1.05) if self.mix.drift else 1.0
        return replica_id

    def lose_disk(self, replica_id: str) -> None:
        """It dies, and its disk is lost."""
        self.kill(replica_id)
        self._wipes += 1
        name = f"{replica_id}/{self._wipes}"
        self._disks[replica_id] = new_disk(self.seed, name, self.mix)
        self._stores[replica_id] = SimStore(Dice(self.seed, f"store/{name}"))
        self.raft.wiped(replica_id)

    def retire(self, replica_id: str) -> None:
        """Its machine is taken away."""
        self.ids.remove(replica_id)
        self.kill(replica_id)

    def start(self, replica_id: str) -> None:
        """A new process, unless there is one."""
        is_gone = replica_id not in self.ids or replica_id in self.flipped.expelled
        if replica_id in self.lives or self._violation or is_gone:
            return
        self._starts += 1
        self._failing.discard(replica_id)
        self._disks[replica_id].mend()
        clock = ReplicaClock(
            self.loop,
            drift=self._drifts[replica_id],
            wall_offset_ms=self._wall_offsets[replica_id],
        )
        life = Life(
            replica_id,
            self._files[replica_id],
            disk=self._disks[replica_id],
            store=self._stores[replica_id],
            clock=clock,
            network=self.network,
            dice=Dice(self.seed, f"life/{self._starts}"),
            snapshot_entries=self.mix.snapshot_entries,
            tail_entries=self.mix.tail_entries,
            chunk_bytes=self.mix.chunk_bytes,
            segment_bytes=self.mix.segment_bytes,
            entry_bytes_max=self.mix.entry_bytes_max,
            on_applied=self._applied,
            on_fatal=self._died,
            on_diverged=self._diverged,
            on_jump=self._jumped,
            content_entries=20 if faults.FLIP in self.mix.names else 200,
        )
        life.engine.subscribe(lambda decided: self._decided(life, decided))
        life.raft.on_turn = lambda: self._turned(life)
        self.raft.restarted(replica_id)
        self.lives[replica_id] = life
        clock.spawn(self._open(life), f"open-{replica_id}")

    async def _open(self, life: Life) -> None:
        try:
            await life.open()
        except RaftallocError as error:
            self._died(life, error)
            return
        if life.raft.is_paused and life.replica_id not in self._robbed:
            self.violate("state", f"{life.replica_id} lacks what its log begins behind")

    def kill(self, replica_id: str, *, power: bool = False) -> None:
        life = self.lives.pop(replica_id, None)
        if life is None:
            return
        self.trace = crc32(f"{self.loop.now:.6f} kill {replica_id}".encode(), self.trace)
        life.kill(power=power)

    def pause(self, replica_id: str, seconds: float) -> None:
        life = self.lives.get(replica_id)
        if life is not None and not life.clock.is_paused:
            self.fault(faults.PAUSE, f"{replica_id} {seconds:.2f} s")
            life.clock.pause()
            self.loop.call_later(seconds, life.clock.resume)

    def jump(self, replica_id: str, seconds: float) -> None:
        self.fault(faults.JUMP, f"{replica_id} {seconds:+g} s")
        self._wall_offsets[replica_id] += int(seconds * 1000)
        if replica_id in self.lives:
            self.lives[replica_id].clock.wall_offset_ms = self._wall_offsets[replica_id]

    def fail_disk(self, replica_id: str, kind: str, code: int) -> None:
        if replica_id not in self._failing:
            self.fault(faults.DISK, f"{replica_id} {kind} {os.strerror(code)}")
            self._failing.add(replica_id)
            self._disks[replica_id].fail(kind, code, after=self._dice.randrange(3))

    def flood(self, replica_id: str, entries: int) -> None:
        life = self.lives.get(replica_id)
        if life is not None and life.is_open and life.raft.is_leader:
            self.fault(faults.FLOOD, f"{replica_id} {entries} entries")
            life.clock.spawn(life.flood(entries), f"flood-{replica_id}")

    def lose(self, replica_id: str, what: str) -> None:
        if replica_id in self.lives:
            return
        store = self._stores[replica_id]
        self._robbed.add(replica_id)
        if what == faults.SPOIL:
            self.note(f"{replica_id} has lost the snapshot at {store.spoil()}")
        elif self._wiped in ("", replica_id):
            self._wiped = replica_id  # nobody else: who has no state cannot lead
            store.wipe()
            self.note(f"{replica_id} has lost its events")

    def transfer(self, replica_id: str) -> None:
        life = self.lives.get(replica_id)
        if life is not None and life.is_open and life.raft.is_leader:
            self.fault(faults.TRANSFER, replica_id)
            life.clock.spawn(_transfer(life), f"transfer-{replica_id}")

    def flip(self, replica_id: str) -> None:
        life = self.lives.get(replica_id)
        if self.flipped.name or life is None or not life.is_open or not life.engine.index:
            return
        what = flip(life.engine.state, self._dice)
        self.flipped.name, self.flipped.index = replica_id, life.engine.index
        self.log.callers_are_misled = True
        self.fault(faults.FLIP, f"{replica_id} {what}, behind index {life.engine.index}")

    def later(self, seconds: float, what: str, replica_id: str) -> None:
        def now() -> None:
            if what == "start":
                self.start(replica_id)
            elif what == "mend":
                self.network.mend_link(*replica_id.split())
            else:
                self.network.heal_ways()

        self.loop.call_later(seconds, now)

    def fault(self, name: str, story: str) -> None:
        self.faults[name] += 1
        self.note(f"{name} {story}")

    def known_index(self) -> int:
        return self.log.known_index

    def has_read(self, life: Life, known_index: int, index: int) -> None:
        self._guard(self.log.read, life, known_index, index)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def answered(self, origin: Origin, answer: Answer, outcome: Outcome) -> None:
        if self.flipped.name and answer.index > self.flipped.index:
            return  # perhaps by the one that errs; that it does not for long is what is asked of it
        self._guard(self.log.answered, origin, answer, outcome)

    # What the oracles see.

    def _sent(self, sender: str, receiver: str, message: dict[str, Any]) -> None:
        life = self.lives.get(sender)
        if life is not None and life.raft.log is not None:
            self._guard(self.raft.sent, life, receiver, message)

    def _delivered(self, sender: str, receiver: str, message: dict[str, Any]) -> None:
        told = f"{self.loop.now:.6f} {sender} {receiver} {message['type']} {message.get('term')}"
        self.trace = crc32(told.encode(), self.trace)
        life = self.lives.get(receiver)
        if life is not None:
            if message["type"] == "next_node_idx" and message["term"] == life.raft.term:
                life.heard_at[sender] = self.loop.now
            self._guard(self.raft.look, life)
        self._nemesis.aimed(sender, receiver, message)

    def _turned(self, life: Life) -> None:
        if life.raft.role != "leader":
            life.heard_at.clear()
            life.leads_since = self.loop.now
        self._guard(self.raft.look, life)

    def _applied(self, life: Life, index: int, data: bytes) -> None:
        if life.replica_id != self.flipped.name:
            self._guard(self.log.applied, life, index, data)

    def _diverged(self, life: Life, divergence: Divergence) -> None:
        """It stops for good; only who errs may, or who nobody can tell from it."""
        flipped, name = self.flipped, life.replica_id
        if self.lives.get(name) is not life:
            return
        if not flipped.name or (name != flipped.name and divergence.by_majority):
            self.violate("diverged", f"{name}: {divergence}")
            return
        self.note(f"{name} stops at {life.engine.index}: {divergence}")
        if name == flipped.name:
            self.counts["noticed_entries"] += life.engine.index - flipped.index
        flipped.expelled.add(name)
        self.kill(name)

    def _jumped(self, life: Life) -> None:
        self.counts["installed"] += 1
        self.note(f"{life.replica_id} takes a snapshot at {life.engine.index}")
        if life.replica_id != self.flipped.name:
            self._guard(self.log.jumped, life)

    def _decided(self, life: Life, decided: Decided) -> None:
        self.counts["applied"] += 1
        if life.replica_id == self.flipped.name:
            return
        self._guard(self.log.decided, life.engine, decided)

    def _died(self, life: Life, error: BaseException) -> None:
        if self.lives.get(life.replica_id) is not life:
            return
        if life.replica_id in self._failing or life.replica_id == self.flipped.name:
            self.note(f"{life.replica_id} stops: {error}")
            self.kill(life.replica_id)
            if isinstance(error, DataDirectoryError) and life.replica_id == self.flipped.name:
                self.flipped.expelled.add(life.replica_id)
            self.later(1.0, "start", life.replica_id)
        else:
            self.violate("died", f"{life.replica_id}: {type(error).__name__}: {error}")

    def _guard(self, oracle: Callable[..., None], *arguments: Any) -> None:
        if self._violation is None:
            leaders = len(self.raft.leaders)
            try:
                oracle(*arguments)
            except Violated as violation:
                self._end(violation)
            if len(self.raft.leaders) > leaders:
                term = max(self.raft.leaders)
                self.counts["leaders"] += 1
                self.note(f"{self.raft.leaders[term]} leads in term {term}")

    def violate(self, oracle: str, story: str) -> None:
        if self._violation is None:
            self._end(Violated(oracle, story))

    def _end(self, violation: Violated) -> None:
        self._violation = violation
        if not self._over.done():
            self._over.set_result(None)

    def note(self, line: str) -> None:
        """For the story of the run."""
        self._story.append(f"{self.loop.now - START_SECONDS:8.3f}  {line}")


async def _transfer(life: Life) -> None:
    try:
        await life.raft.transfer("")
    except RaftallocError:
        return  # nobody took over: that is an answer


def _calm(mix: faults.Mix) -> faults.Mix:
    return replace(mix, events=(), weather=Weather(), aim=False)


def _keep_task(task: asyncio.Task[Any], context: contextvars.Context) -> None:
    """Tasks of a replica die with it."""
    clock = context.get(CURRENT)
    if clock is not None:
        clock.tasks.add(task)
        task.add_done_callback(clock.tasks.discard)
