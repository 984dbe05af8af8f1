from __future__ import annotations

import pytest

from raftalloc.errors import InvalidRequest
from raftalloc.replay.fleet import NodeSpec, read_fleet

HEADER = "node_id,cpu_milli,memory_mib,num_gpu,gpu_model"


def test_a_file_gives_its_nodes_in_order(trace_file):
    rows = ("n2,64000,262144,2,P100", "n1,16000,65536,0,")
    assert read_fleet(trace_file(*rows, header=HEADER)) == [
        NodeSpec("n2", (("cpu", 64000), ("gpu", 2000), ("memory", 262144)), ("P100", "P100")),
        NodeSpec("n1", (("cpu", 16000), ("memory", 65536))),
    ]


def test_a_uniform_fleet_is_as_large_as_it_says():
    nodes = read_fleet("uniform:1300,cpu=64,memory=96")
    assert len({node.node_id for node in nodes}) == 1300
    assert nodes[7] == NodeSpec("u-0007", (("cpu", 64_000), ("memory", 98_304)))


def test_a_uniform_fleet_may_have_devices_and_other_kinds():
    [node] = read_fleet("uniform:1,cpu=0.5,disk.nvme=1.0009,gpu=2,gpu_model=A100")
    assert node.capacity == (("cpu", 500), ("disk.nvme", 1024), ("gpu", 2000))
    assert node.devices == ("A100", "A100")


@pytest.mark.parametrize(
    "given",
    [
        "uniform:",
        "uniform:0,cpu=1",
        "uniform:x,cpu=1",
        "uniform:99999999,cpu=1",
        "uniform:3",
        "uniform:3,cpu",
        "uniform:3,cpu=",
        "uniform:3,cpu=0",
        "uniform:3,cpu=-1",
        "uniform:3,cpu=nan",
        "uniform:3,cpu=1e30",
        "uniform:3,cpu=1,cpu=2",
        "uniform:3,gpu=1,gpu=1",
        "uniform:3,gpu=0.5",
        "uniform:3,gpu=65",
        "uniform:3,api_quota=5",
        "uniform:3,ram=5",
    ],
)
def test_a_uniform_fleet_that_means_nothing_is_refused(given):
    with pytest.raises(InvalidRequest) as caught:
        read_fleet(given)
    assert caught.value.field == given
    assert caught.value.remedy


def test_a_node_twice_is_named_with_both_lines(trace_file):
    path = trace_file("n1,1,1,0,", "n1,2,2,0,", header=HEADER)
    with pytest.raises(InvalidRequest, match=r"line 3, column node_id: n1 is on line 2 too"):
        read_fleet(path)


def test_a_fleet_of_none_is_refused(trace_file):
    with pytest.raises(InvalidRequest, match="no nodes"):
        read_fleet(trace_file(header=HEADER))
