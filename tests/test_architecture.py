"""The linters, the types and the import contracts are tests: a change that breaks one is red like any other."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent

COMMANDS = {
    "import contracts": ["lint-imports", "--no-cache"],
    "ruff": ["ruff", "check", "--no-cache", "."],
    "format": ["ruff", "format", "--no-cache", "--check", "."],
    "types": ["mypy"],
}


@pytest.mark.slow
@pytest.mark.timeout(600)  # mypy without a cache, on a slow machine
@pytest.mark.parametrize("name", COMMANDS)
def test_tool_has_no_complaint(name):
    program, *arguments = COMMANDS[name]
    result = subprocess.run(
        [str(TOOLS / program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_has_its_layer():
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts["importlinter:contract:layers"]
    assert layers["exhaustive"] == "True"
    placed = layers["layers"].replace("|", " ").replace(":", " ").split()
    packages = {
        path.name for path in (ROOT / "raftalloc").iterdir() if (path / "__init__.py").is_file()
    }
    modules = {path.stem for path in (ROOT / "raftalloc").glob("*.py")} - {"__init__"}
    assert sorted(placed) == sorted(packages | modules)


def test_the_types_are_shipped():
    assert (ROOT / "raftalloc/py.typed").is_file()
