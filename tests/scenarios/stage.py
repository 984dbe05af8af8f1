"""Plays scenarios against the machine, and checks three laws after every entry.

The invariants hold; the events folded over the state before give the same state; entry, events and state survive their
codecs. `python -m tests.scenarios.stage` prints a digest of all that every scenario gave.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from raftalloc.core import codec, snapshot, views
from raftalloc.core.commands import Entry
from raftalloc.core.events import Granted, Happened
from raftalloc.core.invariants import check
from raftalloc.core.machine import apply, fold
from raftalloc.core.quantities import Vector, text_of
from raftalloc.core.state import State
from tests.scenarios.language import Labels, Line, answered, asked_by, parse_line, told

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


class Scenario:
    """A state machine, and beside it the state that its events alone give."""

    def __init__(self) -> None:
        self.state = State.genesis()
        self.folded = State.genesis()
        self.labels = Labels()
        self.index = 0
        self.chain = bytes(32)

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
        entry_bytes = codec.encode_entry(entry)
        assert codec.decode_entry(entry_bytes) == entry
        applied = apply(self.state, entry, self.index)
        events_bytes = codec.encode_events(applied.happened)
        self.chain = codec.next_chain(self.chain, self.index, entry_bytes, events_bytes)
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


def chain_of(text: str) -> str:
    """The hash chain over every entry and event of a scenario, and the digest of the state at its end."""
    scenario = Scenario()
    for _, asked, _ in steps_of(text):
        scenario.run([parse_line(line) for line in asked])
    return f"{scenario.chain.hex()} {snapshot.content_digest(scenario.state)}"


def main() -> None:
    """One line per scenario."""
    for path in SCENARIOS:
        print(path.stem, chain_of(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
