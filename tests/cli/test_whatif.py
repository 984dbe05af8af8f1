"""`raftalloc what-if`: steps as an operator writes them, and what came of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftalloc.api.v1 import (
    allocator_pb2,
    events_pb2,
    simulation_pb2,
    types_pb2,
    usage_pb2,
)
from raftalloc.cli import steps
from raftalloc.cli.output import Exit
from raftalloc.errors import InvalidRequest

NOW_MS = 1_700_000_000_000
SCENARIO = """\
# What if the big node fails while the audit runs?
lose n1
submit cpu=4 memory=8 --agent auditor_01 --wait 10m -p critical   # somebody urgent
quota auditor cpu=16 --parent compliance

advance 2h
"""


def test_every_verb_is_read_as_the_command_of_its_name_would_be():
    read = steps.parse(
        [
            'submit cpu=4 memory=1.5 -a "a 1" --count 2 --gang --wait 10m -c zone=a,b',
            "renew 7 --extend 1h",
            "resize 7 cpu=2 memory=4",
            "release 7",
            "cancel 8",
            "reserve audit cpu=8 --start +1h --duration 2h --type auditor",
            "register n9 cpu=16 --gpu A100:2 -a zone=eu",
            "register llm --provider api_quota=1000",
            "cordon n1",
            "uncordon n1",
            "drain n1 --deadline +10m",
            "remove n1 --force",
            "lose n1",
            "return n1",
            "quota auditor cpu=0 --parent compliance --weight 2.5",
            "queue --order fifo --ageing 30m",
            "advance 90s",
        ],
        now_ms=NOW_MS,
    )
    assert [step.WhichOneof("what") for step in read] == [
        *(
            "allocate",
            "renew",
            "resize",
            "release",
            "cancel",
            "reserve",
            "register_node",
            "register_node",
        ),
        *("cordon", "uncordon", "drain", "remove_node", "lose_node", "return_node"),
        *("set_quota", "set_queue", "advance_ms"),
    ]
    first = read[0].allocate
    assert dict(first.resources) == {"cpu": 4_000, "memory": 1_536}
    assert (first.agent_id, first.count, first.gang, first.wait_ms) == ("a 1", 2, True, 600_000)
    assert dict(read[2].resize.resources) == {"cpu": 2_000, "memory": 4_096}
    assert read[1].renew.extension_ms == 3_600_000
    assert read[5].reserve.start_ms == NOW_MS + 3_600_000
    assert list(read[6].register_node.devices) == ["A100", "A100"]
    assert read[10].drain.deadline_ms == NOW_MS + 600_000
    assert dict(read[14].set_quota.limits) == {"cpu": 0}
    assert read[14].set_quota.weight == 2_500
    assert read[15].set_queue.ageing_ms == 1_800_000
    assert read[16].advance_ms == 90_000
    assert set(steps.VERBS) == {
        *(
            "submit",
            "renew",
            "resize",
            "release",
            "cancel",
            "reserve",
            "register",
            "cordon",
            "uncordon",
        ),
        *("drain", "remove", "lose", "return", "quota", "queue", "advance"),
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("frobnicate n1", "No such command"),
        ("submit", "Missing argument"),
        ("submit cpu=x", "no decimal number"),
        ("submit cpu=1 --frob", "No such option"),
        ("release seven", "ID"),
        ("release 0", "ID"),
        ("lose n1 n2", "unexpected extra argument"),
        ("advance soon", "no length of time"),
        ('lose "n1', "quotation"),
        ("lose --help", "asks for help"),
    ],
)
def test_a_step_that_cannot_be_meant_is_named_by_its_number(line: str, problem: str, capsys):
    with pytest.raises(InvalidRequest) as refused:
        steps.parse(["advance 1h", "", line], now_ms=0)
    assert refused.value.field.startswith("step 3")
    assert problem in refused.value.problem
    assert refused.value.remedy


def response() -> simulation_pb2.WhatIfResponse:
    grant = allocator_pb2.Granted(allocations=[types_pb2.Allocation(id=9, node_id="n2")])
    waits = allocator_pb2.Queued(request_id=10, position=2, why=types_pb2.Rejection(message="full"))
    outcome = simulation_pb2.WhatIfOutcome
    kind = usage_pb2.KindUtilization
    return simulation_pb2.WhatIfResponse(
        index=42,
        at_ms=NOW_MS,
        outcomes=[
            outcome(events=[events_pb2.Event(type="NodeStateChanged", node_id="n1")]),
            outcome(allocated=allocator_pb2.AllocateResponse(granted=grant)),
            outcome(rejected=types_pb2.Rejection(message="there is no quota compliance")),
            outcome(allocated=allocator_pb2.AllocateResponse(queued=waits), events_count=40),
        ],
        before=usage_pb2.UtilizationResponse(kinds=[kind(kind="cpu", used=1000, capacity=8000)]),
        after=usage_pb2.UtilizationResponse(kinds=[kind(kind="cpu", used=5000, capacity=8000)]),
        queue=[simulation_pb2.QueueChange(request_id=10, agent_id="b", position_after=2)],
    )


def test_a_file_is_tried_and_what_came_of_each_line_is_shown(group, raftalloc, tmp_path: Path):
    file = tmp_path / "scenario.txt"
    file.write_text(SCENARIO)
    group.answer("WhatIf", response())
    shown = raftalloc("what-if", "--file", str(file), "--index", "42")
    assert shown.exit_code == Exit.OK, shown.output
    asked = group.only("WhatIf")
    assert asked.at_index == 42
    names = [step.WhichOneof("what") for step in asked.steps]
    assert names == ["lose_node", "allocate", "set_quota", "advance_ms"]
    for words in (
        "1. lose n1",
        "NodeStateChanged n1",
        "granted 9 on n2",
        "refused: there is no quota compliance",
        "request 10 waits at place 2: full",
        "40 events more",
        "+4",
    ):
        assert words in shown.stdout, words


def test_steps_may_stand_on_the_command_line_and_answers_are_json(group, raftalloc):
    group.answer("WhatIf", response())
    shown = raftalloc("what-if", "lose n1", "advance 1h", "--json")
    assert shown.exit_code == Exit.OK, shown.output
    assert json.loads(shown.stdout)["index"] == 42
    assert len(group.only("WhatIf").steps) == 2


def test_a_file_that_is_not_there_is_a_usage_error(group, raftalloc):
    shown = raftalloc("what-if", "--file", "nowhere.txt")
    assert shown.exit_code == Exit.USAGE
    assert "nowhere.txt" in shown.stderr
