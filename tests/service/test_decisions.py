"""Decisions: what is explained is what was decided, for every grant and every "no" of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raftalloc.core import codec, machine
from raftalloc.core.codec import decode_entry
from raftalloc.core.commands import Allocate
from raftalloc.core.events import Granted, Preempting, Queued, Refused
from raftalloc.core.records import FITS_NOW
from raftalloc.core.rejections import NO_CAPACITY, QUOTA_EXCEEDED, UNSATISFIABLE
from raftalloc.core.state import State
from raftalloc.errors import InvalidRequest
from raftalloc.service.decisions import DECIDING, decision
from tests.service.past import walked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftalloc.core.events import Event


def lived(seed: int) -> list[tuple[bytes, codec.Block]]:
    """(state before, block) of each entry of a walk."""
    state, chain, found = State.genesis(), codec.CHAIN_START, []
    for index, entry in enumerate(walked(seed), 1):
        before = codec.encode_state(state)
        decoded = decode_entry(entry)
        events = codec.encode_events(machine.apply(state, decoded, index).happened)
        chain = codec.next_chain(chain, index, entry, events)
        found.append((before, codec.Block(index, decoded.at_ms, entry, events, chain)))
    return found


def decisions(seed: int) -> Sequence[tuple[Event, int, bytes, codec.Block]]:
    """Every event that decides about a request."""
    found = []
    for before, block in lived(seed):
        asked = decode_entry(block.entry).asked
        for sequence, item in enumerate(codec.decode_events(block.events)):
            allocates = item.cause >= 0 and isinstance(asked[item.cause].command, Allocate)
            if isinstance(item.event, Granted | Queued | Preempting) or (
                isinstance(item.event, Refused) and allocates
            ):
                found.append((item.event, sequence, before, block))
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_every_grant_and_every_no_of_a_log_is_explained_as_it_was_decided(seed: int):
    told = 0
    for event, sequence, before, block in decisions(seed):
        found = decision(codec.decode_state(before), block, sequence)
        told += 1
        if isinstance(event, Granted):
            assert found.explanation.verdict == FITS_NOW
            assert found.explanation.chosen == event.node_id
            assert found.certificate.sets == ()
            assert found.runner_up != event.node_id or not event.node_id
            assert found.request.agent_id == event.agent_id
        elif isinstance(event, Preempting):
            assert found.explanation.verdict != FITS_NOW
            assert found.request.request_id == event.preemptor
        elif not found.request.reservation_id and (
            isinstance(event, Queued) or event.code in (NO_CAPACITY, UNSATISFIABLE, QUOTA_EXCEEDED)  # type: ignore[union-attr]  # refused
        ):
            assert found.explanation.verdict != FITS_NOW or isinstance(event, Queued)
            if found.explanation.verdict != FITS_NOW:
                assert found.explanation.blockers
                assert found.certificate.sets
                assert found.certificate.changes
    assert told > 20


def test_what_decides_about_no_request_is_refused():
    for before, block in lived(1):
        happened = codec.decode_events(block.events)
        for sequence, item in enumerate(happened):
            if isinstance(item.event, DECIDING):
                continue
            with pytest.raises(InvalidRequest):
                decision(codec.decode_state(before), block, sequence)
        with pytest.raises(InvalidRequest) as above:
            decision(codec.decode_state(before), block, len(happened))
        assert above.value.field == "event_sequence"
