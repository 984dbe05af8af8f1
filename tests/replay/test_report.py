from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

from raftalloc.analytics.tally import Tally
from raftalloc.core.commands import CRITICAL
from raftalloc.core.events import Granted, Happened, NodeRegistered, Refused
from raftalloc.replay.picture import draw
from raftalloc.replay.report import Facts, report_of

NAMES = [
    "policy",
    "placed",
    "rejected",
    "preempted",
    "waits_s",
    "utilisation",
    "gpu_allocated_percent",
    "allocations_per_s",
    "lost",
]


def facts(**changed):
    known: dict[str, Any] = {
        "mode": "embedded",
        "policy": "best_fit",
        "speed": 1.0,
        "nodes": 1,
        "rows": 4,
        "submitted": 10,
        "skipped": {},
        "acknowledged": 1,
        "lost": 0,
        "wall_s": 0.5,
        "trace_s": 2.0,
    }
    return Facts(**(known | changed))


def tally_with(*, devices):
    tally = Tally()
    capacity = (("cpu", 2000), ("gpu", 3000)) if devices else (("cpu", 2000),)
    node = NodeRegistered("n1", False, capacity, ("T4",) * (3 if devices else 0), (), True)
    demand = (("cpu", 1000), ("gpu", 2000)) if devices else (("cpu", 1000),)
    grant = Granted(
        1, 1, "a", "a", "w", "local", CRITICAL, demand, "n1", ("n1",), (), 1, 0, 0, 0, 0, 1500
    )
    tally.add(0, [Happened(node, 0)])
    tally.add(0, [Happened(grant, 0), Happened(Refused("UNSATISFIABLE", "", "cpu", ()), 1)], [1, 4])
    tally.add(2000, [])
    return tally


def test_the_names_are_those_that_machines_read_and_come_first():
    report = report_of(tally_with(devices=True), facts())
    assert list(report)[: len(NAMES)] == NAMES
    assert json.loads(json.dumps(report)) == report


def test_the_figures_follow_from_the_events():
    report = report_of(tally_with(devices=True), facts())
    assert (report["placed"], report["rejected"], report["waiting"]) == (1, {"UNSATISFIABLE": 4}, 5)
    assert report["waits_s"] == {"CRITICAL": {"p50": 1.5, "p90": 1.5, "p99": 1.5}}
    assert report["utilisation"] == {"cpu": 0.5, "gpu": 0.6667}
    assert (report["gpu_allocated_percent"], report["allocations_per_s"]) == (66.67, 2.0)


def test_times_against_a_group_are_given_in_the_time_of_the_trace():
    report = report_of(tally_with(devices=True), facts(speed=60.0))
    assert report["waits_s"] == {"CRITICAL": {"p50": 90.0, "p90": 90.0, "p99": 90.0}}
    course: Any = report["utilisation_over_time"]
    assert course["step_s"] * len(course["kinds"]["cpu"]) == 120.0


def test_without_devices_there_is_no_share_of_them():
    report = report_of(tally_with(devices=False), facts(wall_s=0.0))
    assert (report["gpu_allocated_percent"], report["allocations_per_s"]) == (None, 0.0)


def test_a_replay_of_nothing_can_still_be_reported():
    report = report_of(Tally(), facts(submitted=0, rows=0))
    assert (report["placed"], report["waits_s"], report["utilisation"]) == (0, {}, {})


def test_the_picture_is_svg_with_a_line_for_each_kind():
    picture = draw("<trace> & co", 60.0, {"cpu": [0.0, 0.5, 1.0], "gpu": [0.25, 1.5, -1.0]})
    root = ET.fromstring(picture)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(lines) == 2
    assert {"<trace> & co", "cpu", "gpu", "100 %", "3 min"} <= set(texts)
    heights = [float(point.split(",")[1]) for point in lines[1].get("points", "").split()]
    assert max(heights) <= 226.0
    assert min(heights) >= 34.0


def test_the_picture_of_a_fleet_that_is_hardly_used_is_drawn_large():
    picture = draw("idle", 86_400.0, {"cpu": [0.009] * 75 + [0.011] * 75})
    root = ET.fromstring(picture)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"0 %", "0.5 %", "2 %", "0 d", "20 d", "140 d"} <= set(texts)
    line = root.find("{http://www.w3.org/2000/svg}polyline")
    assert line is not None
    heights = {point.split(",")[1] for point in line.get("points", "").split()}
    assert heights == {"139.6", "120.4"}


def test_a_picture_of_nothing_is_still_a_picture():
    assert ET.fromstring(draw("none", 0.0, {"cpu": []})).tag.endswith("svg")
