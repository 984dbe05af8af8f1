"""Runs tests/scenarios/*.txt against the machine: each step's events and outcomes are compared as text.

`pytest tests/test_scenarios.py --rewrite` writes what happened instead. Commit only what you understand and want.

After each entry three laws are checked besides: the invariants hold, the events folded over the state before give the
same state, and entry, events and state survive their codecs.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from raftalloc.core import codec, snapshot, views
from raftalloc.core.commands import Entry
from raftalloc.core.events import Granted, Happened
from raftalloc.core.invariants import check
from raftalloc.core.machine import apply, fold
from raftalloc.core.quantities import Vector, text_of
from raftalloc.core.state import State
from tests.scenarios.language import Labels, Line, answered, asked_by, parse_line, told

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
SHOWS = ("node", "quota", "waiting", "live")


class Scenario:
    """A state machine, and beside it the state that its events alone give."""

    def __init__(self) -> None:
        self.state = State.genesis()
        self.folded = State.genesis()
        self.labels = Labels()
        self.index = 0

    def run(self, lines: list[Line]) -> list[str]:
        """One step; answers its lines of outcome."""
        told_lines: list[str] = []
        for (at_ms, shown), group in groupby(lines, key=lambda li: (li.at_ms, li.verb == "show")):
            now = list(group)
            told_lines += [self._show(li) for li in now] if shown else self._enter(at_ms, now)
        return told_lines

    def _enter(self, at_ms: int, lines: list[Line]) -> list[str]:
        self.index += 1
        labelled = [(line.verb, line.name) for line in lines]
        entry = Entry(at_ms, "r1", tuple(asked_by(line, self.labels) for line in lines))
        assert codec.decode_entry(codec.encode_entry(entry)) == entry
        applied = apply(self.state, entry, self.index)
        for (verb, label), outcome in zip(labelled, applied.outcomes, strict=True):
            if verb in ("allocate", "reserve", "session") and outcome.subject:
                self.labels.ids[label] = outcome.subject
        self._check(applied.happened, at_ms)
        lines_told = [told(happened.event) for happened in applied.happened]
        lines_told += [answered(outcome) for outcome in applied.outcomes]
        return [line for some in lines_told for line in some]

    def _check(self, happened: tuple[Happened, ...], at_ms: int) -> None:
        for each in happened:
            if isinstance(each.event, Granted):
                self.labels.tokens[each.event.allocation_id] = each.event.token
        assert check(self.state) == []
        assert codec.decode_events(codec.encode_events(happened)) == happened
        fold(self.folded, happened, index=self.index, at_ms=at_ms)
        data = snapshot.encode_state(self.state)
        assert snapshot.encode_state(self.folded) == data
        assert snapshot.encode_state(snapshot.decode_state(data)) == data

    def _show(self, line: Line) -> str:
        """What the state says of a node or quota, or which ids wait or live."""
        match [line.name, *line.words]:
            case ["node", node_id]:
                row = views.node(self.state, node_id)
                assert row is not None
                return f"{node_id}: used {_text(row.used)}, held {_text(row.held)}"
            case ["quota", name]:
                quota = views.quota(self.state, name)
                assert quota is not None
                return f"{name}: used {_text(quota.used)} of {_text(quota.limits)}"
            case ["waiting"]:
                waiting = views.waiting_requests(self.state)
                return "waiting: " + (
                    ", ".join(f"{w.request_id} (at {w.position})" for w in waiting) or "none"
                )
            case ["live"]:
                live = views.allocations(self.state)
                return "live: " + (
                    ", ".join(f"{a.allocation_id} on {a.node_id}" for a in live) or "none"
                )
        raise AssertionError(f"no such question: {line.text!r}")


def _text(vector: Vector) -> str:
    return " ".join(f"{kind}={text_of(kind, amount)}" for kind, amount in vector) or "nothing"


def steps_of(text: str) -> list[tuple[list[str], list[str], list[str]]]:
    """A file as steps: comment lines, command lines, lines of outcome."""
    steps = []
    for block in text.strip().split("\n\n"):
        head, _, tail = (block + "\n").partition("----\n")
        comments = [line for line in head.splitlines() if line.startswith("#")]
        asked = [line for line in head.splitlines() if line and not line.startswith("#")]
        steps.append((comments, asked, tail.splitlines()))
    return steps


def play(text: str) -> str:
    """The file again, with what happens now in the place of what is expected."""
    scenario = Scenario()
    blocks = []
    for comments, asked, _ in steps_of(text):
        block = comments + asked
        if asked:
            block = [*block, "----", *scenario.run([parse_line(line) for line in asked])]
        blocks.append("\n".join(block))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path, request):
    expected = path.read_text(encoding="utf-8")
    happened = play(expected)
    if request.config.getoption("--rewrite"):
        path.write_text(happened, encoding="utf-8")
        return
    assert happened == expected


def test_there_are_scenarios():
    assert len(SCENARIOS) >= 15


def test_every_scenario_says_what_it_shows():
    assert [
        path.name for path in SCENARIOS if not path.read_text(encoding="utf-8").startswith("# ")
    ] == []


def test_a_scenario_that_expects_something_else_fails():
    text = "# A node.\nat 1 node n1 cpu=1\n----\nNodeRegistered node_id=n2\n"
    assert play(text) != text


def test_a_line_that_is_not_understood_fails():
    with pytest.raises(AssertionError, match="not understood"):
        play("# A node.\nat 1 node n1 cpu=1 colour=blue\n----\n")
