"""Small made-up traces and fleets."""

from __future__ import annotations

import pytest

HEADER = (
    "job_id,submit_time_s,duration_s,user,priority,qos,count,"
    "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,end_state"
)


@pytest.fixture
def trace_file(tmp_path):
    """`trace_file("j1,0,10,...", ...)` answers the path of a trace with these rows."""

    def write(*rows, header=HEADER, name="trace.csv"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return str(path)

    return write
