"""Short ways to write commands in tests, with amounts in canonical units: `allocate(cpu=1000)`."""

from __future__ import annotations

from typing import Any, TypeVar

from raftalloc.core import commands
from raftalloc.core.commands import Asked, Command, Origin
from raftalloc.core.events import Event
from raftalloc.core.machine import Applied
from raftalloc.core.quantities import Vector, base_of, is_kind
from raftalloc.core.records import REJECTED, Outcome
from tests.core.rig import Rig

T = TypeVar("T")


def vector(amounts: dict[str, int]) -> Vector:
    """Keyword arguments as a vector; `disk__nvme` is disk.nvme."""
    return tuple(sorted((kind.replace("__", "."), amount) for kind, amount in amounts.items()))


def split(settings: dict[str, Any]) -> tuple[Vector, dict[str, Any]]:
    """What is called like a kind, and the rest."""
    kinds = {k: v for k, v in settings.items() if is_kind(k.replace("__", ".")) and base_of(k)}
    return vector(kinds), {k: v for k, v in settings.items() if k not in kinds}


def node(node_id: str, devices: Any = (), **settings: Any) -> commands.RegisterNode:
    """A node, or with provider=True a provider."""
    capacity, rest = split(settings)
    if devices:
        capacity = tuple(sorted((*capacity, ("gpu", 1000 * len(devices)))))
    rest.setdefault("provider", False)
    return commands.RegisterNode(node_id, capacity=capacity, devices=devices, **rest)


def provider(node_id: str, **settings: Any) -> commands.RegisterNode:
    """A cluster-wide provider."""
    return node(node_id, provider=True, **settings)


def allocate(agent: str = "a", **settings: Any) -> commands.Allocate:
    """A request of an agent, MEDIUM, of the type of its name."""
    demand, rest = split(settings)
    rest = {"agent_type": agent, "workflow_id": "w", "priority": commands.MEDIUM, **rest}
    return commands.Allocate(agent, demand=demand, **rest)


def reserve(agent: str = "a", **settings: Any) -> commands.Reserve:
    """A window of an agent."""
    demand, rest = split(settings)
    rest = {"agent_type": agent, "workflow_id": "w", "priority": commands.MEDIUM, **rest}
    return commands.Reserve(agent, demand=demand, **rest)


def quota(name: str, parent: str = "", **limits: int) -> commands.SetQuota:
    """Limits of a quota node."""
    return commands.SetQuota(name, parent, vector(limits))


def there(found: T | None) -> T:
    """What a view showed, where it must show something."""
    assert found is not None
    return found


def code_of(outcome: Outcome) -> str:
    """The code of a refusal, which it must be."""
    assert outcome.status == REJECTED, outcome
    assert outcome.rejection is not None
    return outcome.rejection.code


class Talk:
    """A rig that is talked to one command at a time."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.applied = Applied((), ())

    def ask(self, at_ms: int, *asked: Command | Asked, origin: Origin = Origin()) -> Outcome:
        """One entry; answers the last outcome."""
        block = [one if isinstance(one, Asked) else Asked(one, origin) for one in asked]
        self.applied = self.rig.enter(at_ms, block)
        return self.applied.outcomes[-1]

    def happened(self, *kinds: type[Event]) -> list[Any]:
        """Events of the last entry, of these types."""
        return [h.event for h in self.applied.happened if isinstance(h.event, kinds)]

    @property
    def state(self):
        return self.rig.state

    @property
    def world(self):
        return self.rig.audit.world
