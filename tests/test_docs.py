"""What there is, is documented: every RPC, event, rejection, metric, option, command and exit code has its line."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from typer.main import get_command

from raftalloc.api.v1 import (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    simulation_pb2,
    usage_pb2,
)
from raftalloc.config.options import SECTIONS
from raftalloc.core import events, quantities, rejections
from raftalloc.server.status import OF_REJECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
API = (
    admin_pb2,
    allocator_pb2,
    events_pb2,
    fleet_pb2,
    queue_pb2,
    quotas_pb2,
    reservations_pb2,
    simulation_pb2,
    usage_pb2,
)


def page(name: str) -> str:
    """The text of one page."""
    return (DOCS / name).read_text(encoding="utf-8")


def rpcs() -> list[str]:
    """`Allocator.Allocate` and so on, from the descriptors."""
    services = [s for module in API for s in module.DESCRIPTOR.services_by_name.values()]
    return [f"{service.name}.{method.name}" for service in services for method in service.methods]


def test_every_rpc_has_its_row():
    assert [rpc for rpc in rpcs() if f"| `{rpc}` |" not in page("api.md")] == []


def test_no_rpc_is_documented_that_does_not_exist():
    documented = re.findall(r"^\| `([A-Z]\w+\.[A-Z]\w+)` \|", page("api.md"), re.MULTILINE)
    assert sorted(documented) == sorted(rpcs())


def test_every_event_has_its_row():
    names = [kind.__name__ for kind in get_args(events.Event)]
    assert [name for name in names if f"| `{name}` |" not in page("api.md")] == []


def test_every_reason_for_an_end_is_named():
    reasons = [*events.END_REASONS, events.COMPLETED, events.BROKEN]
    assert [reason for reason in reasons if f"`{reason}`" not in page("api.md")] == []


def test_every_rejection_has_its_row_with_its_status():
    rows = [f"| `{code}` | {OF_REJECTION[code].name} |" for code in rejections.CODES]
    assert [row for row in rows if row not in page("api.md")] == []


def test_every_kind_has_its_row_with_unit_and_scale():
    rows = [
        f"| `{kind}` | {quantities.unit_of(kind)} | {quantities.scale_of(kind)} |"
        for kind in quantities.BASE_KINDS
    ]
    assert [row for row in rows if row not in page("api.md")] == []


def test_every_option_stands_in_the_example_configuration():
    text = (ROOT / "cluster.toml").read_text(encoding="utf-8")
    complete = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    for section, options in SECTIONS.items():
        names = {field.name for field in dataclasses.fields(options)}
        assert names <= complete[section].keys(), section


def test_every_section_of_the_configuration_is_spoken_of():
    assert [name for name in SECTIONS if f"`[{name}]`" not in page("operations.md")] == []


def metric_names() -> list[str]:
    """What /metrics gives, from the registry itself."""
    metrics = importlib.import_module("raftalloc.telemetry.metrics")
    source = Path(str(metrics.__file__)).read_text(encoding="utf-8")
    return sorted(set(re.findall(r'"(raftalloc_[a-z_]+)"', source)))


def test_every_metric_is_explained():
    text = page("metrics.md") + page("operations.md")
    assert len(metric_names()) > 10
    assert [name for name in metric_names() if f"`{name}" not in text] == []


def commands_of(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below one, with its words. Commands are Click's; which Click is Typer's affair."""
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands_of(child, (*path, name))


def cli() -> list[tuple[tuple[str, ...], Any]]:
    """Every command of `raftalloc`."""
    main = importlib.import_module("raftalloc.cli.main")
    return list(commands_of(get_command(main.app), ("raftalloc",)))


def test_every_command_has_its_row():
    rows = [f"| `{' '.join(path)}" for path, _ in cli()]
    assert len(rows) > 20
    assert [row for row in rows if row not in page("cli.md")] == []


def commands_in(text: str) -> list[list[str]]:
    """The `raftalloc ...` lines of a page's shell blocks, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("raftalloc ")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_the_text_can_be_given(path):
    known = dict(cli())
    for words in commands_in(path.read_text(encoding="utf-8")):
        name = tuple(words[:3]) if tuple(words[:3]) in known else tuple(words[:2])
        assert name in known, words
        known[name].make_context(" ".join(name), words[len(name) :])


def snippets() -> list[str]:
    """The Python blocks of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_first_request_of_the_readme_runs_as_written(tmp_path):
    command = [sys.executable, "-W", "error", "-c", snippets()[0]]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("True ")


def test_the_other_snippets_of_the_readme_are_python():
    for snippet in snippets():
        ast.parse(snippet)


def test_every_command_says_what_it_does():
    assert [" ".join(path) for path, command in cli() if not (command.help or "").strip()] == []


def test_every_exit_code_has_its_row():
    output = importlib.import_module("raftalloc.cli.output")
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in output.EXIT_MEANINGS.items()]
    assert [row for row in rows if row not in page("cli.md")] == []


def test_every_script_is_spoken_of():
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    scripts = [path.name for path in (ROOT / "scripts").iterdir() if not path.suffix]
    scripts = [name for name in scripts if (ROOT / "scripts" / name).is_file()]
    assert [name for name in scripts if f"scripts/{name}" not in text] == []


def anchors_of(path: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_found_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in DOCS.glob("*.md") if f"](docs/{path.name})" not in readme] == []


def test_the_changelog_knows_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_readme_says_what_is_not_safe_yet():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "there are no permissions" in " ".join(readme.replace(">", "").split())
