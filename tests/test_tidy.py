"""Rules of the house that the linters do not know, checked on the source itself.

Each rule is a function from a parsed module to complaints, and each has an example that it must complain of.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "raftalloc"
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
SCRIPT_LINES_MAX = 30
MODULE_NAMES_BANNED = ("util", "utils", "common", "helpers", "misc")

CORE_NAMES_BANNED = ("set", "frozenset", "float", "complex")
CORE_CALLS_BANNED = (
    "hash",
    "id",
    "open",
    "input",
    "print",
    "eval",
    "exec",
    "vars",
    "globals",
    "__import__",
)
CORE_IMPORTS_BANNED = (
    "time",
    "datetime",
    "random",
    "uuid",
    "secrets",
    "os",
    "asyncio",
    "threading",
    "logging",
    "socket",
)
# Rounding, order or content that may differ between machines. argsort is looked at apart.
CORE_ATTRIBUTES_BANNED = (
    "float16", "float32", "float64", "longdouble", "mean", "average", "std", "var", "median", "percentile", "quantile",
    "true_divide", "divide", "reciprocal", "sqrt", "log", "log2", "exp", "linspace", "argpartition",
)  # fmt: skip

Rule = "Callable[[ast.Module], Iterator[str]]"


def functions_are_short(tree: ast.Module) -> Iterator[str]:
    """Whole functions, docstring and all, fit a screen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} are the limit"


def exceptions_are_not_swallowed(tree: ast.Module) -> Iterator[str]:
    """No `except: pass`, and no other way to write it around everything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(
            isinstance(line, ast.Pass) for line in node.body
        ):
            yield f"{node.lineno}: an exception is dropped; handle it, or suppress that one with a reason"
        if isinstance(node, ast.Call) and _called(node) == "suppress":
            too_wide = [a for a in node.args if _name(a) in ("Exception", "BaseException")]
            if too_wide or not node.args:
                yield f"{node.lineno}: suppress names everything; name the one exception that is meant"


def no_asserts_with_effects(tree: ast.Module) -> Iterator[str]:
    """An assert may go (python -O): nothing in it may do anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            for inner in ast.walk(node.test):
                if isinstance(inner, ast.NamedExpr | ast.Await | ast.Yield):
                    yield f"{node.lineno}: an assert has an effect"


def core_is_deterministic(tree: ast.Module) -> Iterator[str]:
    """No set, hash, id, float, true division, clock, file or coroutine."""
    for node in ast.walk(tree):
        complaint = _impurity(node)
        if complaint:
            yield f"{getattr(node, 'lineno', 0)}: {complaint} in the core"


def _impurity(node: ast.AST) -> str:
    match node:
        case ast.Set() | ast.SetComp():
            return "a set"
        case ast.Constant(value=float() | complex()):
            return "a float"
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return "true division"
        case ast.Name(id=name) if name in CORE_NAMES_BANNED:
            return name
        case ast.Attribute(attr=name) if name in CORE_ATTRIBUTES_BANNED:
            return f".{name}"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="partition"):
            return "np.partition (ties would follow the processor)"
        case ast.Call(func=ast.Name(id=name)) if name in CORE_CALLS_BANNED:
            return f"{name}()"
        case ast.Call(func=ast.Attribute(attr="argsort")) if not _is_stable(node):
            return "argsort without kind='stable' (ties would follow the processor)"
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return "a coroutine"
        case ast.Global():
            return "a global that changes"
        case ast.Import(names=names):
            return next(
                (f"import {n.name}" for n in names if _root(n.name) in CORE_IMPORTS_BANNED), ""
            )
        case ast.ImportFrom(module=module) if _root(module or "") in CORE_IMPORTS_BANNED:
            return f"from {module} import"
    return ""


def _is_stable(call: ast.Call) -> bool:
    values = [k.value for k in call.keywords if k.arg == "kind"]
    return any(isinstance(v, ast.Constant) and v.value == "stable" for v in values)


def _root(module: str) -> str:
    return module.partition(".")[0]


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else _name(call.func)


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _modules(*folders: Path) -> list[Path]:
    found = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in found if "api/v1" not in path.as_posix()]


def _complaints(rule: Callable[[ast.Module], Iterator[str]], paths: list[Path]) -> list[str]:
    assert paths
    return [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in paths
        for complaint in rule(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _tracked() -> list[Path]:
    """Every text file of the project: what git knows, or would know after an add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    generated = ROOT / "raftalloc/api/v1"
    return [path for path in paths if path.is_file() and generated not in path.parents]


@pytest.mark.parametrize(
    "rule", [functions_are_short, exceptions_are_not_swallowed, no_asserts_with_effects]
)
def test_the_package_keeps_the_rule(rule):
    assert _complaints(rule, _modules(PACKAGE, ROOT / "scripts")) == []


def test_the_core_is_a_function_of_its_inputs():
    assert _complaints(core_is_deterministic, _modules(PACKAGE / "core")) == []


def test_modules_are_small():
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for path in _modules(PACKAGE, ROOT / "tests")
    }
    assert {str(p.relative_to(ROOT)): n for p, n in lines.items() if n > MODULE_LINES_MAX} == {}


def test_modules_are_nouns():
    assert [p for p in _modules(PACKAGE) if p.stem in MODULE_NAMES_BANNED] == []


def test_nothing_is_left_for_later():
    words = re.compile(
        r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b"
    )
    assert _lines_that_match(words) == []


def test_no_text_speaks_of_somebodys_machine():
    private = re.compile(
        r"(?<![\w.$}*])/(?:home|root|Users|work)/|blue" + r"print|[\w.-]+\.(?:corp|internal|lan)\b"
    )
    assert _lines_that_match(private) == []


def _lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in _tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # golden bytes
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line}"
            for n, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    return found


SCRIPTS = [
    path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and not path.suffix
]


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_a_script_is_executable_parses_and_is_thin(script):
    text = script.read_text(encoding="utf-8")
    shell = "bash" if "bash" in text.splitlines()[0] else "sh"
    assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0
    assert script.stat().st_mode & 0o111
    assert len(text.splitlines()) <= SCRIPT_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (functions_are_short, "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
        (exceptions_are_not_swallowed, "try:\n    f()\nexcept ValueError:\n    pass"),
        (exceptions_are_not_swallowed, "with suppress(Exception):\n    f()"),
        (no_asserts_with_effects, "assert (n := f())"),
        (core_is_deterministic, "x = {1, 2}"),
        (core_is_deterministic, "x = {n for n in y}"),
        (core_is_deterministic, "x = set(y)"),
        (core_is_deterministic, "x = hash(y)"),
        (core_is_deterministic, "x = open(y)"),
        (core_is_deterministic, "x = 0.5"),
        (core_is_deterministic, "x = a / b"),
        (core_is_deterministic, "x /= b"),
        (core_is_deterministic, "x = y.astype(np.float64)"),
        (core_is_deterministic, "x = np.argsort(y)"),
        (core_is_deterministic, "x = np.partition(y, 3)"),
        (core_is_deterministic, "def f():\n    import time"),
        (core_is_deterministic, "from datetime import datetime"),
        (core_is_deterministic, "async def f(): ..."),
    ],
)
def test_each_rule_complains_of_what_it_forbids(rule, source):
    assert len(list(rule(ast.parse(source)))) >= 1


def test_the_rules_let_plain_code_pass():
    source = "def f(id: int) -> int:\n    assert id > 0\n    return id // 2\n"
    source += "order = np.argsort(x, kind='stable')\nhead = text.partition('.')"
    rules = (
        functions_are_short,
        exceptions_are_not_swallowed,
        no_asserts_with_effects,
        core_is_deterministic,
    )
    assert [c for rule in rules for c in rule(ast.parse(source))] == []
