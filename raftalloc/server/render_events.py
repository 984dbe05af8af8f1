"""From events of the core to messages of the Events service."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Final, get_args

from raftalloc.api.v1 import events_pb2
from raftalloc.core import events
from raftalloc.service.indexing import about

if TYPE_CHECKING:
    from raftalloc.service.query import HistoryRow
    from raftalloc.service.watch import Seen

EVENT_TYPES: Final[tuple[str, ...]] = tuple(kind.__name__ for kind in get_args(events.Event))


def _is_map(annotation: str) -> bool:
    """Whether a field is pairs that read best as an object."""
    return annotation == "Vector" or annotation.startswith("tuple[tuple[str")


# Event class -> (field, whether it is pairs), worked out once.
_FIELDS: Final = {
    kind: tuple((item.name, _is_map(str(item.type))) for item in fields(kind))
    for kind in get_args(events.Event)
}


def detail_json(event: events.Event) -> str:
    """All fields of an event as one JSON object; vectors are objects, constraints `[key, operator, values]`."""
    detail: dict[str, object] = {}
    for name, is_map in _FIELDS[type(event)]:
        value = getattr(event, name)
        if is_map:
            value = dict(value)
        elif name == "constraints":
            value = [[each.key, each.operator, list(each.values)] for each in value]
        detail[name] = value
    return json.dumps(detail, separators=(",", ":"), ensure_ascii=False, default=_record)


def _record(value: object) -> dict[str, object]:
    """A record within an event: what it says beyond what goes without saying."""
    assert is_dataclass(value), f"{type(value).__name__} in an event"
    said = ((item.name, getattr(value, item.name), item.default) for item in fields(value))
    return {name: found for name, found, default in said if found != default}


def event_message(seen: Seen) -> events_pb2.Event:
    """One event, where and when."""
    subject = about(seen.event)
    return events_pb2.Event(
        index=seen.index,
        sequence=seen.sequence,
        at_ms=seen.at_ms,
        type=subject.type,
        subject=subject.subject,
        agent_id=subject.agent_id,
        workflow_id=subject.workflow_id,
        node_id=subject.node_id,
        detail_json=detail_json(seen.event),
    )


def history_row(row: HistoryRow) -> events_pb2.HistoryResponse.Row:
    """One grant, and its end where it has ended."""
    grant = row.granted
    return events_pb2.HistoryResponse.Row(
        allocation_id=grant.allocation_id,
        agent_id=grant.agent_id,
        workflow_id=grant.workflow_id,
        node_id=grant.node_id,
        resources=dict(grant.demand),
        granted_ms=row.granted_ms,
        ended_ms=row.ended_ms,
        end_reason=row.reason,
        index=row.index,
        waited_ms=grant.waited_ms,
    )
