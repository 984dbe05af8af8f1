"""The fleet a trace runs on: a CSV of nodes, or `uniform:N,cpu=64,memory=96` (docs/traces.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from raftalloc.core.quantities import (
    AMOUNT_MAX,
    DEVICE_UNITS,
    DEVICES_PER_NODE_MAX,
    GPU,
    NODE,
    Vector,
    is_kind,
    scale_of,
    scope_of,
)
from raftalloc.errors import InvalidRequest
from raftalloc.replay.table import Row, reading

REQUIRED: Final = ("node_id", "cpu_milli", "memory_mib")
OPTIONAL: Final = ("num_gpu", "gpu_model")
NODES_MAX: Final = 1 << 20
UNIFORM: Final = "uniform:"
MODEL_UNKNOWN: Final = "gpu"
"""The model of devices whose row names none."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One machine. capacity in canonical units, `gpu` included; devices: one model name per GPU."""

    node_id: str
    capacity: Vector
    devices: tuple[str, ...] = ()


def read_fleet(given: str) -> list[NodeSpec]:
    """The nodes of a CSV file, in its order, or of a `uniform:` text. Raises InvalidRequest."""
    nodes = _uniform(given) if given.startswith(UNIFORM) else _from_file(given)
    if not nodes:
        raise InvalidRequest(given, "has no nodes", "give at least one row")
    return nodes


def _from_file(path: str) -> list[NodeSpec]:
    nodes: list[NodeSpec] = []
    lines: dict[str, int] = {}
    with reading(path, required=REQUIRED, optional=OPTIONAL) as rows:
        for row in rows:
            spec = _node(row)
            first = lines.setdefault(spec.node_id, row.line)
            if first != row.line:
                raise row.bad("node_id", f"{spec.node_id} is on line {first} too", "name each once")
            nodes.append(spec)
    return nodes


def _node(row: Row) -> NodeSpec:
    amounts = [
        ("cpu", row.integer("cpu_milli", low=0, high=AMOUNT_MAX)),
        ("memory", row.integer("memory_mib", low=0, high=AMOUNT_MAX)),
    ]
    device_count = row.integer("num_gpu", default=0, low=0, high=DEVICES_PER_NODE_MAX)
    devices: tuple[str, ...] = ()
    if device_count:
        devices = (row.name("gpu_model", MODEL_UNKNOWN),) * device_count
    return NodeSpec(row.name("node_id"), _capacity(amounts, device_count), devices)


def _capacity(amounts: Sequence[tuple[str, int]], device_count: int) -> Vector:
    with_gpus = [*amounts, (GPU, device_count * DEVICE_UNITS)]
    return tuple(sorted((kind, amount) for kind, amount in with_gpus if amount))


def _uniform(given: str) -> list[NodeSpec]:
    count_text, *pairs = given.removeprefix(UNIFORM).split(",")
    count = _whole(given, "the number of nodes", count_text, NODES_MAX)
    amounts: dict[str, int] = {}
    model, device_count = MODEL_UNKNOWN, 0
    for pair in pairs:
        kind, equals, value = pair.strip().partition("=")
        if kind in amounts or (kind == GPU and device_count):
            raise InvalidRequest(given, f"{kind} stands there twice", "give each kind once")
        if kind == "gpu_model" and value:
            model = value
        elif kind == GPU:
            device_count = _whole(given, GPU, value, DEVICES_PER_NODE_MAX)
        elif equals and is_kind(kind) and scope_of(kind) == NODE:
            amounts[kind] = _amount(given, kind, value)
        else:
            raise InvalidRequest(
                given,
                f"{pair!r} is no capacity of a node",
                "write e.g. uniform:1300,cpu=64,memory=96,gpu=8,gpu_model=A100",
            )
    if not amounts and not device_count:
        raise InvalidRequest(given, "the nodes have nothing", "add e.g. cpu=64,memory=96")
    capacity = _capacity(list(amounts.items()), device_count)
    width = len(str(count - 1))
    return [NodeSpec(f"u-{n:0{width}d}", capacity, (model,) * device_count) for n in range(count)]


def _whole(given: str, what: str, text: str, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= high):
        raise InvalidRequest(given, f"{what} is {text!r}", f"give a whole number of 1 to {high}")
    return int(text)


def _amount(given: str, kind: str, text: str) -> int:
    """Whole units, rounded down to canonical ones, as a capacity is."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if value.is_finite() and value.adjusted() < 18:
        amount = int(value * scale_of(kind))
        if 0 < amount <= AMOUNT_MAX:
            return amount
    raise InvalidRequest(given, f"{kind}={text} is no amount", f"give e.g. {kind}=64")
