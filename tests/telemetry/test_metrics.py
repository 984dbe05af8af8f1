from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from raftalloc.core import events
from raftalloc.core.records import KindUse
from raftalloc.telemetry.metrics import Metrics, Sample

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
SAMPLE = Sample(
    is_leader=True,
    has_leader=True,
    is_ready=False,
    term=3,
    commit_index=10,
    applied_index=9,
    log_index=8,
    stored_index=7,
    snapshot_index=6,
    store_backlog_blocks=5,
    submit_waiting_commands=4,
    allocations_live=2,
    requests_waiting=1,
    nodes=(("READY", 2), ("LOST", 1)),
    kinds=(KindUse("cpu", 8000, 2000, 1000, 5000), KindUse("gpu", 0, 0, 0, 0)),
)
# What promtool's linter looks at (prometheus/util/promlint), as far as names can break it.
ABBREVIATED = re.compile(r"_(s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)(_|$)")
NOT_BASE = re.compile(
    r"_(milliseconds|microseconds|nanoseconds|minutes|hours|days|kilobytes|megabytes|gigabytes|"
    r"bits|percent|percents|celsius_degrees)(_|$)"
)
TYPES_IN_NAME = re.compile(r"_(counter|gauge|histogram|summary|untyped)(_|$)")


def everything() -> Metrics:
    """Every metric with a value, so that every one is rendered."""
    metrics = Metrics(replica_id="n1", cluster_id="c", version="1")
    metrics.observe(lambda: SAMPLE)
    metrics.rpc_started()
    metrics.rpc_done("Allocator/Allocate", "OK", 0.003)
    metrics.rpc_forwarded("Allocator/Allocate")
    metrics.invalid_request()
    metrics.committed(0.01)
    for kind in ("refused", "lost", "dropped"):
        metrics.link(kind, "malformed")
    metrics.stored("append", 0.001)
    grant = events.Ended(1, "RELEASED", "a", "w", "n")
    happened: list[events.Event] = [
        events.Queued(1, 1, False, "a", "a", "", "p", 2, (), (), (), 0, 0, 1, 0, 9),
        grant,
        grant,
        events.Withdrawn(1, "DEADLINE", 1, "a", ""),
        events.Refused("NO_CAPACITY", "", "", ()),
    ]
    metrics.decided(3, [events.Happened(event, 0) for event in happened])
    return metrics


def values(text: str) -> dict[str, float]:
    """Series -> value."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def families(text: str) -> dict[str, str]:
    """Name -> type of each metric of ours."""
    found = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    return {name: kind for name, kind in found.items() if name.startswith("raftalloc_")}


def test_what_happened_is_counted():
    found = values(everything().render().decode())
    assert found['raftalloc_allocations_ended_total{reason="RELEASED"}'] == 2
    assert found['raftalloc_requests_withdrawn_total{reason="DEADLINE"}'] == 1
    assert found['raftalloc_rejections_total{code="NO_CAPACITY"}'] == 1
    assert found["raftalloc_requests_queued_total"] == 1
    assert found["raftalloc_grants_total"] == 0
    assert found["raftalloc_entry_commands_sum"] == 3
    assert found["raftalloc_invalid_requests_total"] == 1
    assert found["raftalloc_rpcs_open"] == 0
    assert found['raftalloc_rpcs_total{code="OK",method="Allocator/Allocate"}'] == 1
    assert found["raftalloc_commit_seconds_count"] == 1


def test_gauges_are_read_when_asked_for():
    metrics = Metrics(replica_id="n1", cluster_id="c", version="1")
    asked: list[int] = []

    def sample() -> Sample:
        asked.append(1)
        return SAMPLE

    metrics.observe(sample)
    assert asked == []
    found = values(metrics.render().decode())
    assert len(asked) == 1
    assert found["raftalloc_raft_is_leader"] == 1
    assert found["raftalloc_ready"] == 0
    assert found["raftalloc_raft_term"] == 3
    assert found['raftalloc_nodes{state="LOST"}'] == 1
    assert found['raftalloc_kind_used_ratio{kind="cpu"}'] == 0.25
    assert found['raftalloc_kind_used_ratio{kind="gpu"}'] == 0
    assert found['raftalloc_kind_available_units{kind="cpu"}'] == 5000


def test_replicas_of_one_process_do_not_share_their_counts():
    one, other = (Metrics(replica_id=name, cluster_id="c", version="1") for name in ("n1", "n2"))
    one.committed(1.0)
    assert values(other.render().decode())["raftalloc_commit_seconds_count"] == 0


def test_names_and_help_keep_promtools_rules():
    text = everything().render().decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.M))
    for name, kind in families(text).items():
        assert helps.get(name), f"{name} has no help"
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert name.endswith("_total") == (kind == "counter"), f"{name} is a {kind}"
        assert not re.search(r"_(count|sum|bucket|info)$", name) or name.endswith("_info"), name
        for rule in (ABBREVIATED, NOT_BASE, TYPES_IN_NAME):
            assert not rule.search(name), f"{name} breaks {rule.pattern}"


def test_the_rules_find_what_breaks_them():
    assert ABBREVIATED.search("raftalloc_commit_ms")
    assert NOT_BASE.search("raftalloc_commit_milliseconds")
    assert TYPES_IN_NAME.search("raftalloc_nodes_gauge")


def test_promtool_has_no_complaint(program: Callable[[str], str]):
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=everything().render(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_manual_lists_every_metric_with_type_and_labels_and_no_other():
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(
            r"^\| `(raftalloc_\w+)` \| (\w+) \|([^|]*)\|", DOCS.read_text(), re.M
        )
    }
    text = everything().render().decode()
    labels: dict[str, set[str]] = {name: set() for name in families(text)}
    for series in values(text):
        name = re.sub(r"_(bucket|sum|count)$", "", series.partition("{")[0])
        name = name if name in labels else series.partition("{")[0]
        if name in labels:
            labels[name] |= set(re.findall(r'(\w+)="', series)) - {"le"}
    assert documented == {name: (kind, labels[name]) for name, kind in families(text).items()}
