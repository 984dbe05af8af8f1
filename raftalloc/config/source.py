"""Where configured values come from, and how to say exactly where a bad one stands.

A PATH is the keys that lead to a value, `("limits", "message_bytes")`; an environment variable goes before the file.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from raftalloc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

FILE_BYTES_MAX: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<four>[^:\[\]]+)):(?P<port>[0-9]{1,5})"
)

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file with its text, and an environment."""

    file: str
    content: str
    values: Mapping[str, Any]
    environment: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, environment: Mapping[str, str]) -> Source:
        """Parse the file; syntax errors name their line."""
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"{path}: cannot be read: {reason}; give the path of a cluster.toml"
            ) from error
        if len(content) > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: is above {FILE_BYTES_MAX} bytes; is it a cluster.toml?")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}:{line}: is not UTF-8; save it as UTF-8 text") from error
        try:
            return cls(str(path), text, tomllib.loads(text), environment)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{_place(path, text, str(error))}; correct the TOML") from error

    @classmethod
    def empty(cls, environment: Mapping[str, str]) -> Source:
        """No file, only an environment."""
        return cls("", "", {}, environment)

    def has(self, path: KeyPath, variable: str = "") -> bool:
        """Whether the environment or the file gives a value."""
        return variable in self.environment or path[-1] in self.table(path[:-1])

    def table(self, path: KeyPath) -> Mapping[str, Any]:
        """The keys of a table; empty where there is none."""
        found = self.values
        for depth, key in enumerate(path, 1):
            inner = found.get(key, {})
            if not isinstance(inner, dict):
                raise self.error(
                    path[:depth], "is not a table", f"write [{'.'.join(path[:depth])}]"
                )
            found = inner
        return found

    def raw(self, path: KeyPath, variable: str) -> object:
        """The raw value, the environment's as a str."""
        if variable in self.environment:
            return self.environment[variable]
        return self.table(path[:-1])[path[-1]]

    def integer(self, path: KeyPath, variable: str, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self.raw(path, variable)
        if isinstance(value, str) and variable in self.environment:
            value = int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(
                path, f"{_shown(value)} is not a whole number", f"write {low} to {high}", variable
            )
        if not low <= value <= high:
            raise self.error(path, f"{value} is out of bounds", f"write {low} to {high}", variable)
        return value

    def text(self, path: KeyPath, variable: str = "", choices: Collection[str] = ()) -> str:
        """A non-empty string, one of `choices` where there are any."""
        value = self.raw(path, variable)
        if not isinstance(value, str) or not value or "\0" in value:
            remedy = f"write one of {', '.join(choices)}" if choices else 'write "..."'
            raise self.error(path, f"{_shown(value)} is not a text", remedy, variable)
        if choices and value not in choices:
            problem = f"{_shown(value)} is not known"
            raise self.error(path, problem, _suggestion(value, choices), variable)
        return value

    def name(self, path: KeyPath) -> str:
        """An identifier."""
        value = self.text(path)
        self.check_name(path, value)
        return value

    def check_name(self, path: KeyPath, value: str) -> None:
        """Names become directory names, so they are plain."""
        if not _NAME.fullmatch(value):
            problem = f"{_shown(value)} is not a plain name"
            raise self.error(path, problem, "use up to 64 letters, digits, '-' and '_'")

    def address(self, path: KeyPath, *, only_loopback: str) -> tuple[str, int]:
        """Host and port. `only_loopback`: why it must be there, and after ";" what to do; empty if it need not."""
        value = self.text(path)
        match = _ADDRESS.fullmatch(value)
        if match is None:
            raise self.error(path, f"{_shown(value)} is not an address", 'write "127.0.0.1:PORT"')
        host, port = match["six"] or match["four"], int(match["port"])
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            problem = f"host {_shown(host)} is not an IP address"
            raise self.error(path, problem, f'write "127.0.0.1:{port}"') from None
        if only_loopback and not address.is_loopback:
            why, _, remedy = only_loopback.partition("; ")
            problem = f"{host} is not a loopback address, and {why}"
            raise self.error(path, problem, f'write "127.0.0.1:{port}", or {remedy}')
        if path[-1] != "http" and (address.is_unspecified or address.is_multicast):
            problem = f"{host} is no address of a machine"
            raise self.error(path, problem, "write the one that the others reach it at")
        if not 1 <= port <= 65_535:
            raise self.error(path, f"port {port} is out of bounds", "write 1 to 65535")
        return host, port

    def refuse_unknown(self, path: KeyPath, known: Collection[str]) -> None:
        """Every key of a table must be one of `known`."""
        for key in self.table(path):
            if key not in known:
                raise self.error((*path, key), "is not known", _suggestion(key, known))

    def refuse_unknown_variables(self, known: Collection[str], prefixes: tuple[str, ...]) -> None:
        """Every variable with one of the prefixes must be one of `known`."""
        for variable in sorted(self.environment):
            if variable.startswith(prefixes) and variable not in known:
                remedy = _suggestion(variable, known)
                raise ConfigError(f"environment: {variable}: is not known; {remedy}")

    def error(self, path: KeyPath, problem: str, remedy: str, variable: str = "") -> ConfigError:
        """`cluster.toml:12: limits.message_bytes: ...; ...`, or the variable that said it."""
        variable = variable or "_".join(("RAFTALLOC", *path)).upper()
        if variable in self.environment or not self.file:
            return ConfigError(f"environment: {variable}: {problem}; {remedy}")
        return ConfigError(
            f"{self.file}:{self.line_of(path)}: {'.'.join(path)}: {problem}; {remedy}"
        )

    def line_of(self, path: KeyPath) -> int:
        """The line that a key's statement begins in; of what is not there, that of the table it belongs in, or else 1.

        The first n lines of a file say more and more of it; so the smallest n that has the key is found by bisection,
        asking tomllib and not a second parser of TOML.
        """
        lines = self.content.splitlines(keepends=True)
        while path and not _contains(self.values, path):
            path = path[:-1]
        if not path:
            return 1
        end = bisect_left(
            range(len(lines) + 1), True, key=lambda n: _contains(_parsed(lines, n)[1], path)
        )
        # A value that spans lines begins after the last part that was whole before it.
        return _parsed(lines, end - 1)[0] + 1


def _parsed(lines: list[str], count: int) -> tuple[int, Mapping[str, Any]]:
    """The longest whole part of the first `count` lines: how many lines, and what they say."""
    while count > 0:
        try:
            return count, tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            count -= 1
    return 0, {}


def _contains(values: Any, path: KeyPath) -> bool:  # any TOML value
    """Whether the keys lead anywhere."""
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _place(path: Path, text: str, message: str) -> str:
    """The sentence of tomllib, its place moved to the front as `file:line`."""
    match = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if match:
        return f"{path}:{match[1]}: {message[: match.start()]} (column {match[2]})"
    line = text.rstrip().count("\n") + 1
    return f"{path}:{line}: {message}"


def _suggestion(wrong: str, known: Collection[str]) -> str:
    """The nearest that would be right, or all there are."""
    near = difflib.get_close_matches(wrong[:64], known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"


def _shown(value: object) -> str:
    """A value as it may stand in an error: not at any length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
