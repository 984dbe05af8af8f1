"""A walk through everything that can be asked: each action draws one command, or a few, and asks it of a rig.

The fleet is small, names and amounts are few, so that everything meets everything. What is drawn is valid as the
conversion of the server lets it through; that it comes at the wrong time or from the wrong one is the point.
"""

from __future__ import annotations

from typing import Any

from raftalloc.core import commands
from raftalloc.core.commands import Asked, Command, Constraint, Origin
from raftalloc.core.quantities import Vector
from tests.core.asking import vector
from tests.core.dice import Dice
from tests.core.reference import World
from tests.core.rig import Rig

START_MS = 1_000_000
NODES = ("n0", "n1", "n2", "n3")
PROVIDERS = ("p0", "p1")
TYPES = ("t0", "t1", "t2")
QUOTAS = (*TYPES, "team", "org", "default", "root")
AGENTS = ("a_0", "a_1")
ONE_IN_TWO, ONE_IN_FOUR, ONE_IN_EIGHT = (True, False), (True, *[False] * 3), (True, *[False] * 7)

# Some miss each other by one, where a comparison that is off by one would show.
CPU = (500, 1000, 1000, 1001, 2000, 2001, 3000, 4000)
MEMORY = (512, 1024, 1025, 2048)
GPU = (100, 250, 500, 501, 700, 1000, 1000, 2000, 3000)
CALLS = (100, 500, 501, 1000)
LIMITS = (0, 1000, 2000, 3000, 4000, 4000, 8000, 8000, 16_000)
STEPS = (0, 0, 1, 100, 500, 1000, 3000, 10_000)
MODELS = ("A100", "T4")
WAITS = (0, 0, 1000, 20_000, 60_000, 600_000)


class Walk:
    """One log being made up. `rig` runs it; commands gather in `batch` until an entry is made of them."""

    def __init__(self, *, judged: bool = True) -> None:
        self.rig = Rig(judged=judged)
        self.now_ms = START_MS
        self.batch: list[Asked] = []
        self.done: list[Asked] = []
        self.sequences: dict[int, int] = {}

    @property
    def world(self) -> World:
        return self.rig.audit.world

    # -- how to ask --------------------------------------------------------------------------------

    def ask(self, dice: Dice, command: Command, origin: Origin | None = None) -> None:
        """Put a command into the open batch, which then mostly becomes an entry."""
        asked = Asked(command, origin or self.origin(dice))
        self.batch.append(asked)
        if asked.origin.session or asked.origin.key:
            self.done.append(asked)
        if not dice.pick(ONE_IN_FOUR):
            self.flush(follower_folds=dice.pick(ONE_IN_TWO))

    def flush(self, *, follower_folds: bool = False) -> None:
        """Make an entry of what was asked."""
        asked, self.batch = self.batch, []
        self.rig.enter(self.now_ms, asked, follower_folds=follower_folds)

    def origin(self, dice: Dice) -> Origin:
        """Mostly without a name; else in a session, or by a key."""
        principal = "other" if dice.pick(ONE_IN_EIGHT) else "local"
        named = dice.pick(("", "", "", "session", "key"))
        if named == "session" and self.world.sessions:
            session = dice.pick(sorted(self.world.sessions))
            self.sequences[session] = self.sequences.get(session, 0) + 1
            return Origin(self.world.sessions[session], session, self.sequences[session])
        if named == "key":
            return Origin(principal, key=f"key{len(self.done)}")
        return Origin(principal)

    def begin(self, dice: Dice) -> None:
        """A fleet to start with."""
        for node_id in NODES[:3]:
            self.batch.append(Asked(self._node(dice, node_id)))
        capacity = vector({"api_quota": 3000, "api_quota__openai": 1000, "db_connections": 1000})
        self.batch.append(Asked(commands.RegisterNode("p0", provider=True, capacity=capacity)))
        self.flush()

    # -- requests ----------------------------------------------------------------------------------

    def allocate(self, dice: Dice) -> None:
        self.ask(dice, self.allocate_command(dice))

    def burst(self, dice: Dice) -> None:
        """Several at once, most of which will wait long."""
        for _ in range(dice.pick((2, 3, 5))):
            command = self.allocate_command(
                dice, wait_ms=dice.pick((0, 600_000, 600_000)), duration_ms=0, constraints=()
            )
            self.batch.append(Asked(command))
        self.flush()

    def same_again(self, dice: Dice) -> None:
        """Another of the shape of one that waits, mostly of another length: the two stand in one line."""
        if not self.world.waiting:
            return self.burst(dice)
        queued = self.world.waiting[dice.pick(sorted(self.world.waiting))].queued
        names = commands.Allocate.__dataclass_fields__
        same = {name: getattr(queued, name) for name in names if hasattr(queued, name)}
        same["wait_ms"] = dice.pick(WAITS)
        same["duration_ms"] = dice.pick((queued.duration_ms, 0, 100, 1000, 5000))
        return self.ask(dice, commands.Allocate(**same))

    def allocate_command(self, dice: Dice, **fixed: Any) -> commands.Allocate:
        demand = fixed.pop("demand", None) or self._demand(dice)
        has_gpu = any(kind == "gpu" for kind, _ in demand)
        models = ((), (), ("A100",), ("T4", "A100"), ("H100",))
        settings = {
            "workflow_id": dice.pick(("", "w")),
            "priority": dice.pick(commands.PRIORITIES),
            "gpu_models": dice.pick(models) if has_gpu else (),
            "constraints": self._constraints(dice),
            "count": dice.pick((1, 1, 1, 2, 3)),
            "gang": dice.pick(ONE_IN_TWO),
            "duration_ms": dice.pick((0, 0, 500, 1000, 3000, 10_000, 50_000)),
            "lease_ttl_ms": dice.pick((0, 0, 100, 1000, 5000)),
            "wait_ms": dice.pick(WAITS),
            "policy": dice.pick(commands.POLICIES),
            "protected": dice.pick(ONE_IN_EIGHT),
        }
        agent, agent_type = dice.pick(AGENTS), dice.pick(TYPES)
        return commands.Allocate(agent, agent_type, demand=demand, **{**settings, **fixed})

    def _demand(self, dice: Dice) -> Vector:
        amounts: dict[str, int] = {}
        sort = dice.pick(("cpu", "cpu", "gpu", "mixed", "calls", "all"))
        if sort in ("cpu", "mixed", "all"):
            amounts["cpu"] = dice.pick(CPU)
        if sort in ("mixed", "all"):
            amounts["memory"] = dice.pick(MEMORY)
        if sort in ("gpu", "all"):
            amounts["gpu"] = dice.pick(GPU)
        if sort in ("calls", "all"):
            amounts[dice.pick(("api_quota", "api_quota", "api_quota__openai"))] = dice.pick(CALLS)
        if sort == "all":
            amounts[dice.pick(("disk__nvme", "db_connections"))] = dice.pick(CALLS)
        return vector(amounts)

    def _constraints(self, dice: Dice) -> tuple[Constraint, ...]:
        if not dice.pick(ONE_IN_EIGHT):
            return ()
        return dice.pick(
            (
                (Constraint("zone", commands.IN, ("east",)),),
                (Constraint("zone", commands.NOT_IN, ("east", "north")),),
                (Constraint("spot", commands.EXISTS),),
                (Constraint("rank", commands.GT, ("1",)), Constraint("zone", commands.EXISTS)),
                (Constraint("rank", commands.LT, ("-1",)),),
            )
        )

    # -- those who hold or wait --------------------------------------------------------------------

    def hold(self, dice: Dice) -> None:
        """Release, renew, cancel; now and then not as it should be."""
        what = dice.pick(("release", "release", "renew", "renew", "resize", "cancel"))
        if what == "cancel" or not self.world.live:
            return self._cancel(dice)
        grant = self.world.live[dice.pick(sorted(self.world.live))].grant
        ident, token, agent, principal = (
            grant.allocation_id, grant.token, grant.agent_id, grant.principal
        )  # fmt: skip
        if dice.pick(ONE_IN_EIGHT):
            wrong = dice.pick(("token", "agent", "principal", "ended", "none"))
            token += wrong == "token"
            agent = "nobody" if wrong == "agent" else agent
            principal = "stranger" if wrong == "principal" else principal
            ident = 99_999 if wrong == "none" else ident
            if wrong == "ended" and self.world.ended:
                ident = dice.pick(sorted(self.world.ended))
        origin = Origin(principal) if principal != "local" else None
        if what == "release":
            return self.ask(dice, commands.Release(ident, token, agent), origin)
        if what == "resize":
            demand = self._other_demand(dice, grant.demand)
            return self.ask(dice, commands.Resize(ident, token, agent, demand), origin)
        extension = dice.pick((0, 0, 500, 5000, 100_000))
        return self.ask(dice, commands.Renew(ident, token, agent, extension), origin)

    def _other_demand(self, dice: Dice, demand: Vector) -> Vector:
        """More or less of the same; rarely something else."""
        if dice.pick(ONE_IN_EIGHT):
            return self._demand(dice)
        amounts = dict(demand)
        kind = dice.pick(sorted(amounts))
        amounts[kind] = dice.pick({"cpu": CPU, "memory": MEMORY, "gpu": GPU}.get(kind, CALLS))
        return tuple(sorted(amounts.items()))

    def _cancel(self, dice: Dice) -> None:
        waiting = self.world.waiting
        known = sorted(waiting) or [1]
        ident = dice.pick(known)
        agent = waiting[ident].queued.agent_id if ident in waiting else "a_0"
        principal = waiting[ident].queued.principal if ident in waiting else "local"
        if dice.pick(ONE_IN_EIGHT):
            ident += dice.pick((1, 1000))
        self.ask(dice, commands.Cancel(ident, agent), Origin(principal))

    # -- reservations ------------------------------------------------------------------------------

    def reserve(self, dice: Dice) -> None:
        demand = self._demand(dice)
        command = commands.Reserve(
            agent_id=dice.pick(AGENTS),
            agent_type=dice.pick(TYPES),
            workflow_id="w",
            priority=commands.HIGH,
            demand=demand,
            start_ms=self.now_ms + dice.pick((-1, 0, 0, 500, 1000, 2000, 5000, 20_000)),
            duration_ms=dice.pick((1, 4000, 20_000, 60_000)),
            gpu_models=dice.pick(((), ("A100",))) if dict(demand).get("gpu") else (),
            constraints=self._constraints(dice),
        )
        self.ask(dice, command)

    def draw(self, dice: Dice) -> None:
        """Draw from a window, which may not be open yet; rarely cancel it."""
        windows = self.world.windows
        if not windows:
            return self.reserve(dice)
        still_open = [ident for ident, window in windows.items() if window.open]
        ident = dice.pick(still_open if still_open and not dice.pick(ONE_IN_FOUR) else [*windows])
        made = windows[ident].made
        if dice.pick(ONE_IN_EIGHT):
            return self.ask(dice, commands.CancelReservation(ident), Origin(made.principal))
        demand = dice.pick((made.demand, made.demand[:1]))
        if dice.pick(ONE_IN_TWO):
            demand = tuple((k, max(a // 2, 1)) if k != "gpu" else (k, a) for k, a in demand)
        command = self.allocate_command(dice, demand=demand, reservation_id=ident, gpu_models=())
        principal = "stranger" if dice.pick(ONE_IN_EIGHT) else made.principal
        return self.ask(dice, command, Origin(principal))

    # -- the fleet and its quotas ------------------------------------------------------------------

    def fleet(self, dice: Dice) -> None:
        node_id = dice.pick((*NODES, *NODES, *PROVIDERS))
        provider = node_id in PROVIDERS
        deadline_ms = self.now_ms + dice.pick((-5, 500, 3000)) if dice.pick(ONE_IN_TWO) else 0
        register = self._provider(dice, node_id) if provider else self._node(dice, node_id)
        choices: tuple[Command, ...] = (
            register,
            register,
            register,
            commands.Cordon(node_id),
            commands.Uncordon(node_id),
            commands.Uncordon(node_id),
            commands.MarkLost(node_id),
            commands.MarkReturned(node_id),
            commands.Drain(node_id, deadline_ms),
            commands.RemoveNode(node_id),
            commands.RemoveNode(node_id, force=True),
        )
        self.ask(dice, dice.pick(choices))

    def _node(self, dice: Dice, node_id: str) -> commands.RegisterNode:
        """A node with devices; rarely with more of them than a fleet that never had so many has room for."""
        devices = tuple(dice.pick(MODELS) for _ in range(dice.pick((0, 1, 2, 3, 4, 12))))
        amounts = {"cpu": dice.pick((2000, 4000, 8000, 8000)), "memory": dice.pick((2048, 4096))}
        if dice.pick(ONE_IN_FOUR):
            amounts["disk__nvme"] = dice.pick((1024, 2048))
        if devices:
            amounts["gpu"] = 1000 * len(devices)
        attributes = {"zone": dice.pick(("east", "west"))}
        if dice.pick(ONE_IN_TWO):
            attributes["rank"] = dice.pick(("0", "2", "many", "-7"))
        if dice.pick(ONE_IN_FOUR):
            attributes["spot"] = "yes"
        return commands.RegisterNode(
            node_id,
            provider=False,
            capacity=vector(amounts),
            devices=devices,
            attributes=tuple(sorted(attributes.items())),
            static=dice.pick(ONE_IN_TWO),
        )

    def _provider(self, dice: Dice, node_id: str) -> commands.RegisterNode:
        amounts = {"api_quota": dice.pick((500, 1000, 3000))}
        if dice.pick(ONE_IN_TWO):
            amounts[dice.pick(("api_quota__openai", "db_connections"))] = dice.pick((500, 2000))
        return commands.RegisterNode(node_id, provider=True, capacity=vector(amounts))

    def quotas(self, dice: Dice) -> None:
        name = dice.pick(QUOTAS)
        if dice.pick(ONE_IN_FOUR):
            return self.ask(dice, commands.DeleteQuota(name))
        limits = {"cpu": dice.pick(LIMITS)} if dice.pick((True, True, False)) else {}
        if dice.pick(ONE_IN_FOUR):
            limits[dice.pick(("gpu", "api_quota", "memory", "cache__l2"))] = dice.pick(LIMITS)
        parent = dice.pick(("", "", *QUOTAS))
        weight = dice.pick((0, 0, 500, 1000, 3000))
        return self.ask(dice, commands.SetQuota(name, parent, vector(limits), weight))

    def queue(self, dice: Dice) -> None:
        """Serve the queue otherwise."""
        leave = commands.LEAVE
        command = commands.SetQueue(
            initial=dice.pick(ONE_IN_FOUR),
            order=dice.pick((leave, *commands.ORDERS)),
            ageing_ms=dice.pick((leave, 0, 300, 2000, 30_000)),
            backfill=dice.pick((leave, *commands.BACKFILLS)),
            depth=dice.pick((leave, 1, 2, 16)),
            preemption=dice.pick((leave, commands.NO_PREEMPTION, *[commands.LOWER_PRIORITY] * 2)),
            grace_ms=dice.pick((leave, 0, 100, 3000)),
            min_run_ms=dice.pick((leave, 0, 0, 500)),
            per_hour=dice.pick((leave, 0, 2)),
        )
        self.ask(dice, command)

    # -- attempts, leaders, time -------------------------------------------------------------------

    def again(self, dice: Dice) -> None:
        """The same attempt again, or by mistake another command under its name; or a session for later."""
        if len(self.world.sessions) < 2:
            return self.ask(dice, commands.OpenSession())
        if not self.done:
            return self.ask(dice, commands.SwitchRules(dice.pick((0, 1, 1))))
        asked = dice.pick(self.done[-6:])
        command = commands.Tick() if dice.pick(ONE_IN_EIGHT) else asked.command
        return self.ask(dice, command, asked.origin)

    def lead(self, dice: Dice) -> None:
        """A new leader after a gap, or a replica that starts again from its snapshot."""
        if dice.pick(ONE_IN_TWO):
            return self.rig.restore()
        gap_ms = dice.pick((0, 300, 5000))
        self.now_ms += gap_ms
        self.batch.insert(0, Asked(commands.TakeLead("r2", gap_ms)))
        return self.flush()

    def pause(self, dice: Dice) -> None:
        self.now_ms += dice.pick(STEPS)
        self.ask(dice, commands.Tick(), Origin())

    def until_due(self, dice: Dice) -> None:
        """Exactly to one of the next deadlines, or far beyond all."""
        world = self.world
        times = [live.deadline_ms for live in world.live.values()]
        times += [w.queued.deadline_ms for w in world.waiting.values()]
        times += [w.made.end_ms if w.open else w.made.start_ms for w in world.windows.values()]
        ahead = sorted({t for t in times if t > self.now_ms})
        if dice.pick(ONE_IN_EIGHT):
            self.now_ms += dice.pick((60_000, 640_000, 90_000_000))
        elif ahead:
            self.now_ms = dice.pick(ahead[:3])
        self.ask(dice, commands.Tick(), Origin())

    def step(self, dice: Dice) -> None:
        """One action, the common ones more often."""
        dice.pick(
            (
                *[self.allocate] * 4, *[self.burst] * 3, *[self.same_again] * 2, *[self.hold] * 4,
                *[self.reserve] * 2, *[self.draw] * 3, *[self.fleet] * 3, *[self.quotas] * 2, self.queue,
                self.again,
                self.lead, *[self.pause] * 3, self.until_due,
            )
        )(dice)  # fmt: skip
