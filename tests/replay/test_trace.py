from __future__ import annotations

import pytest

from raftalloc.core.commands import CRITICAL, HIGH, LOW, MEDIUM
from raftalloc.errors import InvalidRequest
from raftalloc.replay.trace import NOBODY, Task, read_trace

GOOD = "j1,10.5,3.0004,ann,9,class3,4,1500,2048,1,460,T4|P100,FINISH"


def cells(**changed):
    row = {
        "job_id": "j1",
        "submit_time_s": "0",
        "duration_s": "1",
        "user": "",
        "priority": "",
        "qos": "",
        "count": "1",
        "cpu_milli": "1",
        "memory_mib": "1",
        "num_gpu": "",
        "gpu_milli": "",
        "gpu_spec": "",
        "end_state": "",
    }
    return ",".join((row | changed).values())


def one(trace_file, **changed):
    [task] = read_trace(trace_file(cells(**changed)))
    return task


def test_a_row_reads_as_an_array_of_equal_tasks(trace_file):
    [task] = read_trace(trace_file(GOOD))
    assert task == Task(
        line=2,
        job_id="j1",
        user="ann",
        submit_ms=10_500,
        duration_ms=3001,
        priority=CRITICAL,
        count=4,
        demand=(("cpu", 1500), ("gpu", 460), ("memory", 2048)),
        gpu_models=("T4", "P100"),
    )


def test_only_five_columns_are_required_and_others_may_be_there(trace_file):
    path = trace_file(
        "x,7,2,1000,1024,j1", header="note,submit_time_s,duration_s,cpu_milli,memory_mib,job_id"
    )
    [task] = read_trace(path)
    assert (task.job_id, task.user, task.count, task.priority) == ("j1", NOBODY, 1, MEDIUM)
    assert task.demand == (("cpu", 1000), ("memory", 1024))


@pytest.mark.parametrize(
    ("devices", "share", "units"),
    [
        ("1", "460", 460),
        ("1", "1000", 1000),
        ("1", "", 1000),
        ("2", "1000", 2000),
        ("2", "500", 2000),
        ("8", "1000", 8000),
    ],
)
def test_a_share_of_one_device_or_whole_devices(trace_file, devices, share, units):
    assert dict(one(trace_file, num_gpu=devices, gpu_milli=share).demand)["gpu"] == units


def test_no_device_is_no_gpu_whatever_else_the_row_says(trace_file):
    task = one(trace_file, num_gpu="0", gpu_milli="0", gpu_spec="T4")
    assert (task.demand, task.gpu_models) == ((("cpu", 1), ("memory", 1)), ())


def test_what_was_measured_as_nothing_is_not_asked_for(trace_file):
    assert one(trace_file, cpu_milli="0").demand == (("memory", 1),)
    assert one(trace_file, cpu_milli="0", memory_mib="0").demand == ()


def test_an_empty_duration_never_ends_and_one_of_zero_ends_at_once(trace_file):
    assert one(trace_file, duration_s="").duration_ms == 0
    assert one(trace_file, duration_s="0.0").duration_ms == 1


def test_fractions_of_a_demand_are_rounded_up(trace_file):
    assert one(trace_file, cpu_milli="12.01", memory_mib="3.0").demand == (
        ("cpu", 13),
        ("memory", 3),
    )


@pytest.mark.parametrize(
    ("priority", "qos", "wanted"),
    [
        ("11", "class1", CRITICAL),
        ("9", "class0", CRITICAL),
        ("8", "class2", MEDIUM),
        ("2", "class0", MEDIUM),
        ("1", "class0", LOW),
        ("0", "class0", LOW),
        ("100", "LS", HIGH),
        ("100", "Guaranteed", HIGH),
        ("50", "Burstable", MEDIUM),
        ("0", "BE", LOW),
        ("0", "batch", MEDIUM),
        ("high", "", HIGH),
        ("CRITICAL", "LS", CRITICAL),
        ("", "LS", MEDIUM),
        ("10", "", CRITICAL),
        ("50", "", MEDIUM),
        ("0", "", LOW),
    ],
)
def test_priorities_of_published_traces_are_mapped(trace_file, priority, qos, wanted):
    assert one(trace_file, priority=priority, qos=qos).priority == wanted


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("job_id", ""),
        ("job_id", "a\x07b"),
        ("job_id", "j" * 257),
        ("submit_time_s", ""),
        ("submit_time_s", "soon"),
        ("submit_time_s", "-1"),
        ("submit_time_s", "nan"),
        ("submit_time_s", "1e999999999"),
        ("duration_s", "inf"),
        ("duration_s", "-0.5"),
        ("duration_s", "400000000"),
        ("priority", "12"),
        ("priority", "urgent"),
        ("count", "0"),
        ("count", "-3"),
        ("count", "10000001"),
        ("cpu_milli", ""),
        ("cpu_milli", "-1"),
        ("cpu_milli", "1e16"),
        ("memory_mib", "9" * 30),
        ("memory_mib", "²"),
        ("num_gpu", "65"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(trace_file, column, value):
    path = trace_file(cells(), cells(**{column: value}))
    with pytest.raises(InvalidRequest) as caught:
        list(read_trace(path))
    assert caught.value.field == f"{path}, line 3, column {column}"
    assert caught.value.remedy


@pytest.mark.parametrize("share", ["0", "1001", "-5"])
def test_a_share_is_more_than_nothing_and_no_more_than_a_device(trace_file, share):
    with pytest.raises(InvalidRequest, match="gpu_milli"):
        one(trace_file, num_gpu="1", gpu_milli=share)


def test_a_row_with_a_cell_too_many_is_named_by_its_line(trace_file):
    path = trace_file(GOOD, GOOD + ",more")
    with pytest.raises(InvalidRequest, match="line 3: 14 cells under a header of 13"):
        list(read_trace(path))


def test_lines_are_counted_as_an_editor_does(trace_file):
    path = trace_file(cells(end_state='"two\nlines"'), "", cells(count="0"))
    with pytest.raises(InvalidRequest, match="line 5, column count"):
        list(read_trace(path))


def test_a_header_without_a_column_names_it(trace_file):
    with pytest.raises(InvalidRequest, match="no column duration_s, cpu_milli, memory_mib"):
        list(read_trace(trace_file(header="job_id,submit_time_s")))


def test_a_column_twice_is_refused(trace_file):
    with pytest.raises(InvalidRequest, match="column count stands there twice"):
        list(
            read_trace(
                trace_file(
                    header="job_id,submit_time_s,duration_s,cpu_milli,memory_mib,count,count"
                )
            )
        )


def test_files_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        list(read_trace(str(tmp_path / "none.csv")))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00job")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        list(read_trace(str(binary)))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="no column job_id"):
        list(read_trace(str(tmp_path / "empty.csv")))


def test_a_quote_that_never_closes_is_an_error_not_a_crash(trace_file):
    with pytest.raises(InvalidRequest):
        list(read_trace(trace_file('"' + "x" * 200_000)))


def test_rows_are_read_as_they_are_asked_for_and_no_more_than_the_limit(trace_file):
    path = trace_file(GOOD, GOOD, cells(count="nonsense"))
    assert len(list(read_trace(path, limit=2))) == 2
    assert next(iter(read_trace(path))).line == 2
