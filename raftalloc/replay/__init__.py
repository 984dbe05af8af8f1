"""Replaying a recorded workload, against the machine itself or against a running group.

    trace.py  fleet.py      the two CSV forms (docs/traces.md), read through `table.py`
    workload.py             tasks -> the commands they become, in order of time
    embedded.py             the pure machine, driven by the trace's own time
    group.py                a live group, driven through the client at a chosen speed
    report.py  picture.py   what came of it, for machines and for eyes

Both ways fold the events they see through the same `raftalloc.analytics`.
"""
