"""Commands that share options: a parameter that is a dataclass stands for its fields.

Typer reads the signature of a function. `disguised` gives one function the parameters of another, with dataclasses
taken apart and options added; `gathered` puts together again what Typer then gives.
"""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Final, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY


def wanted_by(command: Callable[..., object]) -> list[inspect.Parameter]:
    """The parameters of a command, their annotations resolved."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    return [each.replace(annotation=hints.get(each.name, each.annotation)) for each in parameters]


def gathered(wanted: Sequence[inspect.Parameter], given: Mapping[str, object]) -> dict[str, object]:
    """What Typer gives by option -> what the command takes by parameter."""
    left = dict(given)
    together: dict[str, object] = {}
    for parameter in wanted:
        record = _record_of(parameter)
        if record is None:
            together[parameter.name] = left.pop(parameter.name)
        else:
            together[parameter.name] = record(
                **{each.name: left.pop(each.name) for each in _fields_of(record)}
            )
    return together


def disguised(
    run: Callable[..., None],
    command: Callable[..., object],
    wanted: Sequence[inspect.Parameter],
    options: Sequence[tuple[str, object, object]],
) -> Callable[..., None]:
    """Let Typer take `run` for a function with the parameters of the command, and the options behind them.

    options: (name, annotation, default).
    """
    parameters: list[inspect.Parameter] = []
    for parameter in wanted:
        record = _record_of(parameter)
        parameters += [parameter] if record is None else _fields_of(record)
    for name, annotation, default in options:
        parameters.append(inspect.Parameter(name, _KEYWORD, default=default, annotation=annotation))
    parameters = [parameter.replace(kind=_KEYWORD) for parameter in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__, run.__module__ = (
        command.__name__,
        command.__doc__,
        command.__module__,
    )
    return run


def _record_of(parameter: inspect.Parameter) -> Callable[..., object] | None:
    """The dataclass that a parameter is, or None."""
    annotation = parameter.annotation
    return annotation if isinstance(annotation, type) and is_dataclass(annotation) else None


def _fields_of(record: Callable[..., object]) -> list[inspect.Parameter]:
    """The fields of a dataclass, as the parameters of its constructor."""
    hints = get_type_hints(record, include_extras=True)
    parameters = inspect.signature(record).parameters.values()
    return [each.replace(annotation=hints[each.name]) for each in parameters]
