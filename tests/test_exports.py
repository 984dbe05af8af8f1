"""The public names of Python, pinned: adding one is a decision, losing one breaks somebody."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import raftalloc
from raftalloc import errors

ROOT = Path(__file__).resolve().parent.parent

PUBLIC = [
    "Affinity",
    "Allocation",
    "Alternative",
    "Client",
    "Compacted",
    "ConfigError",
    "Constraint",
    "DataDirectoryError",
    "Forbidden",
    "GangLayout",
    "HistoryRecord",
    "InvalidRequest",
    "KindQuota",
    "KindUtilization",
    "NoLeader",
    "NotLeader",
    "Operator",
    "OutcomeUnknown",
    "Overloaded",
    "Policy",
    "Priority",
    "QueueSettings",
    "QuotaUsage",
    "RaftallocError",
    "Refusal",
    "Rejected",
    "ReplicaFailed",
    "Reservation",
    "ResourceManager",
    "ResourceRequest",
    "Spread",
    "SyncAllocation",
    "SyncResourceManager",
    "Terms",
    "TlsFiles",
    "Toleration",
    "Unauthenticated",
    "Unavailable",
    "UtilizationMetrics",
    "__version__",
]


def test_the_public_names_are_these():
    assert sorted(raftalloc.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_had_and_says_what_it_is(name):
    found = getattr(raftalloc, name)
    if inspect.isclass(found):
        assert found.__name__ == name
        assert inspect.getdoc(found)


def test_what_type_checkers_see_is_what_there_is():
    tree = ast.parse((ROOT / "raftalloc/__init__.py").read_text(encoding="utf-8"))
    seen = [
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raftalloc.")
        for alias in node.names
    ]
    assert sorted([*seen, "__version__"]) == sorted(PUBLIC)


def test_every_exception_is_public():
    kinds = [
        n
        for n, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    ]
    assert [name for name in kinds if name not in raftalloc.__all__] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = raftalloc.nonsense


def test_public_methods_say_what_they_do():
    silent = [
        f"{name}.{method}"
        for name in PUBLIC
        if inspect.isclass(kind := getattr(raftalloc, name))
        for method, member in vars(kind).items()
        if not method.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property | classmethod))
        and not inspect.getdoc(member)
    ]
    assert silent == []


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert raftalloc.__version__ == project["version"]


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("raftalloc", "grpc numpy typer rocksdict pysyncobj"),
        ("raftalloc.core.machine", "grpc typer rocksdict pysyncobj asyncio"),
        ("raftalloc.storage.process", "grpc typer pysyncobj numpy"),
    ],
)
def test_importing_a_part_does_not_import_the_rest(module, spared):
    script = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert [name for name in spared.split() if name in loaded.stdout.split()] == []
