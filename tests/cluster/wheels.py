"""Versions of raftalloc as wheels, each installed in an environment of its own that shares this one's dependencies."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = Path(__file__).with_name("previous.txt")


def pinned() -> str:
    """The commit of the previous version."""
    lines = PIN.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line and not line.startswith("#"))


def has_commit(commit: str) -> bool:
    """Whether the repository is here, and holds it."""
    found = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}^{{commit}}"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    return found.returncode == 0


def source_of(commit: str, into: Path, *, version: str) -> Path:
    """The tree of a commit, calling itself `version`; of "" what is there now, committed or not."""
    if commit:
        done = subprocess.run(
            ["git", "archive", commit, "raftalloc", "protos", "pyproject.toml", "README.md"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(into, filter="data")
    else:
        _copy("raftalloc", into)
        for name in ("pyproject.toml", "README.md"):
            (into / name).write_bytes((ROOT / name).read_bytes())
    project = into / "pyproject.toml"
    text = re.sub(r'^version = ".*"$', f'version = "{version}"', project.read_text(), flags=re.M)
    project.write_text(text)
    return into


def _copy(name: str, into: Path) -> None:
    for path in (ROOT / name).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = into / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def installed(source: Path, environment: Path) -> Path:
    """Build the wheel of a tree and install it; answers the environment's interpreter."""
    wheels = environment / "wheels"
    isolated = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    _run("-m", "pip", "wheel", "--quiet", "--no-deps", *isolated, "-w", str(wheels), str(source))
    _run("-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    (wheel,) = wheels.glob("raftalloc-*.whl")
    _run("-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", str(wheel))
    (site,) = (environment / "lib").glob("python*/site-packages")
    # Behind its own packages, so that the wheel goes before what this environment has of the same name.
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def _run(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
