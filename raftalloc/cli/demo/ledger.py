"""Adds up what is live, grant by grant, on every node, device and provider, and in every quota.

An accountant of its own: it knows the events and the law of conservation, and none of the server's code. A row that was
made smaller under its holders is no fault; a grant that takes what is not there is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from raftalloc.cli.demo.log import Fault, Seen
from raftalloc.core.quantities import DEVICE_UNITS, GPU

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ROOT: Final = "root"
_ANCESTORS_MAX: Final = 1000


@dataclass(slots=True)
class _Row:
    """A node or provider as the events leave it.

    devices: used units by number; there may be more than device_count where some were taken away under their holders.
    """

    capacity: dict[str, int] = field(default_factory=dict)
    device_count: int = 0
    devices: list[int] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Quota:
    """A quota node; a kind without a limit is not limited."""

    parent: str = ""
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Holding:
    """What a live allocation took.

    parts: (row, kind, amount). devices: (number, units) on its node. agent_type: the quota it is charged to.
    """

    node_id: str
    parts: tuple[tuple[str, str, int], ...]
    devices: tuple[tuple[int, int], ...]
    agent_type: str


class Ledger:
    """Folds one log; `faults` grows."""

    def __init__(self, replica: str) -> None:
        """Nothing registered, nothing granted."""
        self.faults: list[Fault] = []
        self._replica = replica
        self._rows: dict[str, _Row] = defaultdict(_Row)
        self._quotas: dict[str, _Quota] = {}
        self._charged: dict[str, Counter[str]] = defaultdict(Counter)
        self._live: dict[int, _Holding] = {}

    def take(self, event: Seen) -> None:
        """Fold one event."""
        match event.type:
            case "NodeRegistered":
                self._register(event)
            case "NodeRemoved":
                self._rows.pop(event.text("node_id"), None)
            case "QuotaSet":
                self._set_quota(event)
            case "QuotaDeleted":
                self._quotas.pop(event.text("name"), None)
            case "Granted":
                self._grant(event)
            case "Ended":
                self._end(event)

    def _register(self, event: Seen) -> None:
        row = self._rows[event.text("node_id")]
        models = event.names("devices")
        row.capacity = event.amounts("capacity")
        if models:
            row.capacity.setdefault(GPU, len(models) * DEVICE_UNITS)
        row.device_count = len(models)
        row.devices += [0] * (len(models) - len(row.devices))

    def _set_quota(self, event: Seen) -> None:
        name = event.text("name")
        parent = event.text("parent") or (_ROOT if name != _ROOT else "")
        self._quotas[name] = _Quota(parent, event.amounts("limits"))

    def _grant(self, event: Seen) -> None:
        demand = event.amounts("demand")
        parts = tuple(
            (supplier, kind, amount)
            for (kind, amount), supplier in zip(
                demand.items(), event.names("suppliers"), strict=True
            )
        )
        devices = tuple((int(number), units) for number, units in event.amounts("devices").items())
        holding = _Holding(event.text("node_id"), parts, devices, event.text("agent_type"))
        self._live[event.number("allocation_id")] = holding
        self._add(holding, 1)
        self._check_rows(event, holding)
        self._check_devices(event, holding, demand.get(GPU, 0))
        self._check_quotas(event, holding, demand)

    def _end(self, event: Seen) -> None:
        holding = self._live.pop(event.number("allocation_id"), None)
        if holding is None:
            self._complain(
                event, f"allocation {event.number('allocation_id')} ended and was not live"
            )
        else:
            self._add(holding, -1)

    def _add(self, holding: _Holding, sign: int) -> None:
        for supplier, kind, amount in holding.parts:
            if supplier in self._rows:
                self._rows[supplier].used[kind] += sign * amount
            for name in self._path(holding.agent_type):
                self._charged[name][kind] += sign * amount
        row = self._rows.get(holding.node_id)
        for number, units in holding.devices:
            if row is not None and number < len(row.devices):
                row.devices[number] += sign * units

    def _path(self, agent_type: str) -> Iterable[str]:
        """The quota of an agent type and all above it. A quota that is moved while in use would carry its use along."""
        name = agent_type
        for _ in range(_ANCESTORS_MAX):
            if not name:
                return
            yield name
            name = self._quotas[name].parent if name in self._quotas else ""

    def _check_rows(self, event: Seen, holding: _Holding) -> None:
        for supplier, kind, _ in holding.parts:
            row = self._rows.get(supplier)
            if row is None:
                self._complain(event, f"{supplier} gives {kind} and is not there")
            elif row.used[kind] > row.capacity.get(kind, 0):
                has = row.capacity.get(kind, 0)
                self._complain(event, f"{supplier} gives {row.used[kind]} of {kind} and has {has}")

    def _check_devices(self, event: Seen, holding: _Holding, asked: int) -> None:
        if sum(units for _, units in holding.devices) != asked:
            self._complain(
                event, f"devices {holding.devices} are not the {asked} of gpu that were asked"
            )
        row = self._rows.get(holding.node_id)
        for number, _ in holding.devices:
            if row is None or number >= row.device_count:
                self._complain(event, f"{holding.node_id} has no device {number}")
            elif row.devices[number] > DEVICE_UNITS:
                given = row.devices[number]
                self._complain(event, f"{holding.node_id} gives {given} of device {number}")

    def _check_quotas(self, event: Seen, holding: _Holding, demand: Mapping[str, int]) -> None:
        for name in self._path(holding.agent_type):
            limits = self._quotas[name].limits if name in self._quotas else {}
            for kind in demand:
                used = self._charged[name][kind]
                if kind in limits and used > limits[kind]:
                    self._complain(
                        event, f"quota {name} has {used} of {kind} and allows {limits[kind]}"
                    )

    def _complain(self, event: Seen, message: str) -> None:
        self.faults.append(Fault("over_capacity", self._replica, event.index, message))
