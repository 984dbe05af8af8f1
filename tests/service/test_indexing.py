"""Under which names events are found again."""

from __future__ import annotations

import dataclasses
from typing import get_args

from raftalloc.core import events
from raftalloc.core.events import Granted, Happened, NodeStateChanged, Refused
from raftalloc.service.indexing import about, keys_of

GRANTED = Granted(
    allocation_id=7,
    request_id=5,
    agent_id="a",
    agent_type="t",
    workflow_id="w",
    principal="p",
    priority=2,
    demand=(("cpu", 1),),
    node_id="n",
    suppliers=("n",),
    devices=(),
    token=1,
    expires_ms=0,
    ends_ms=0,
    lease_ttl_ms=0,
    reservation_id=0,
    waited_ms=0,
)


def test_an_allocation_is_found_by_its_ids_its_agent_and_its_workflow():
    assert keys_of([Happened(GRANTED, 0)]) == [
        "agent/a",
        "allocation/5",
        "allocation/7",
        "workflow/w",
    ]


def test_a_node_is_found_by_its_own_changes_and_not_by_every_grant_on_it():
    assert keys_of([Happened(NodeStateChanged("n", events.LOST), 0)]) == ["node/n"]


def test_each_key_is_there_once():
    second = dataclasses.replace(GRANTED, allocation_id=8)
    assert keys_of([Happened(GRANTED, 0), Happened(second, 0)]).count("agent/a") == 1


def test_a_refusal_is_found_by_who_was_refused():
    refused = Refused("NO_CAPACITY", "", "cpu", (), agent_id="a", workflow_id="")
    assert keys_of([Happened(refused, 0)]) == ["agent/a"]


def test_every_event_says_what_it_is_about():
    for event_type in get_args(events.Event):
        example = object.__new__(event_type)
        for field in dataclasses.fields(event_type):
            object.__setattr__(example, field.name, 3 if field.type == "int" else "x")
        found = about(example)
        assert found.type == event_type.__name__
        has_subject = {"allocation_id", "request_id", "reservation_id", "session"} & {
            field.name for field in dataclasses.fields(event_type)
        }
        assert found.subject == (3 if has_subject else 0)
