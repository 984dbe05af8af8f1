"""The generated code in the tree is what the protos give."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
PROTOC_SECONDS_MAX = 120


def generated(directory: Path) -> dict[str, str]:
    """File name -> content of everything protoc wrote there."""
    return {
        path.name: path.read_text()
        for path in sorted(directory.iterdir())
        if path.name.endswith(SUFFIXES)
    }


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        assert os.environ.get("CI") != "true", "CI must install the codegen group"
        pytest.skip("grpcio-tools is not installed: pip install --group codegen")
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "protos.py"), str(tmp_path)],
        check=True,
        timeout=PROTOC_SECONDS_MAX,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"},
    )
    wanted = generated(tmp_path / "raftalloc" / "api" / "v1")
    found = generated(ROOT / "raftalloc" / "api" / "v1")
    assert list(found) == list(wanted), "files differ: run ./scripts/protos"
    stale = [name for name in wanted if found[name] != wanted[name]]
    assert not stale, f"out of date: {stale}; run ./scripts/protos"
