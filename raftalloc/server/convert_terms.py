"""The terms of a request, from the API to the core: what could never be meant is refused here, with its field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.core import commands, terms
from raftalloc.core.terms import NO_TERMS, Affinity, Alternative, Spread, Terms, Toleration
from raftalloc.errors import InvalidRequest
from raftalloc.server import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from raftalloc.api.v1 import types_pb2
    from raftalloc.core.quantities import Vector

    Demand = Callable[[Mapping[str, int], Sequence[str]], tuple[Vector, tuple[str, ...]]]

WEIGHT_MAX: Final = 100
TOLERATIONS_MAX: Final = 16
LABELS_MAX: Final = 16
SPREAD_MAX: Final = 4
AFFINITY_MAX: Final = 8
ALTERNATIVES_MAX: Final = 4


def terms_of(message: types_pb2.Terms, demand: Demand, *, count: int, gang: bool) -> Terms:
    """`demand` converts resources and models, as for the request itself."""
    if not message.ByteSize():
        return NO_TERMS
    for field, limit in (
        ("scorers", len(commands.POLICIES)),
        ("tolerations", TOLERATIONS_MAX),
        ("labels", LABELS_MAX),
        ("spread", SPREAD_MAX),
        ("affinity", AFFINITY_MAX),
        ("alternatives", ALTERNATIVES_MAX),
    ):
        checks.at_most(f"terms.{field}", getattr(message, field), limit)
    _check_gang(message, count, gang=gang)
    return Terms(
        pool=checks.name("terms.pool", message.pool),
        scorers=_scorers(message.scorers),
        tolerations=tuple(_tolerations(message)),
        labels=_labels(message.labels),
        spread=tuple(_spread(message)),
        affinity=tuple(_affinity(message)),
        alternatives=tuple(_alternatives(message, demand)),
        gang_min=message.gang_min,
        gang_layout=message.gang_layout,
        gang_key=checks.name("terms.gang_key", message.gang_key),
    )


def _check_gang(message: types_pb2.Terms, count: int, *, gang: bool) -> None:
    checks.whole("terms.gang_min", message.gang_min, 0, count)
    if message.gang_layout not in terms.GANG_LAYOUT_NAMES:
        known = ", ".join(terms.GANG_LAYOUT_NAMES.values())
        problem = f"{message.gang_layout} is not known"
        raise InvalidRequest("terms.gang_layout", problem, f"there are {known}")
    if gang and count > 1:
        return
    for field in ("gang_min", "gang_layout", "gang_key"):
        if getattr(message, field):
            raise InvalidRequest(f"terms.{field}", "is for gangs", "give gang, and count above 1")


def _scorers(scorers: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    for name, weight in scorers.items():
        if name not in commands.POLICY_NUMBERS:
            known = ", ".join(commands.POLICY_NUMBERS)
            problem = f"{checks.shown(name)} is no policy"
            raise InvalidRequest("terms.scorers", problem, f"there are {known}")
        checks.whole(f"terms.scorers.{name}", weight, 1, WEIGHT_MAX)
    return tuple(sorted(scorers.items()))


def _labels(labels: Mapping[str, str]) -> tuple[terms.Label, ...]:
    for key in terms.IMPLIED_LABELS:
        if key in labels:
            problem = "every allocation has it by itself"
            raise InvalidRequest(f"terms.labels.{key}", problem, "choose another key")
    return tuple(
        (checks.required_name("terms.labels", key), checks.name("terms.labels", value))
        for key, value in sorted(labels.items())
    )


def _tolerations(message: types_pb2.Terms) -> Iterator[Toleration]:
    for row, each in enumerate(message.tolerations):
        field = f"terms.tolerations[{row}]"
        checks.at_most(f"{field}.values", each.values, TOLERATIONS_MAX)
        values = tuple(checks.name(f"{field}.values", value) for value in each.values)
        yield Toleration(checks.name(f"{field}.key", each.key), values)


def _label(field: str, each: types_pb2.Terms.Spread | types_pb2.Terms.Affinity) -> terms.Label:
    key = checks.required_name(f"{field}.label_key", each.label_key)
    return key, checks.name(f"{field}.label_value", each.label_value)


def _spread(message: types_pb2.Terms) -> Iterator[Spread]:
    for row, each in enumerate(message.spread):
        field = f"terms.spread[{row}]"
        skew = checks.whole(f"{field}.max_skew", each.max_skew, 0, commands.COUNT_MAX) or 1
        key = checks.name(f"{field}.key", each.key)
        yield Spread(key, _label(field, each), skew, each.soft)


def _affinity(message: types_pb2.Terms) -> Iterator[Affinity]:
    hard: dict[tuple[str, terms.Label], tuple[bool, int]] = {}
    for row, each in enumerate(message.affinity):
        field = f"terms.affinity[{row}]"
        found = Affinity(
            checks.name(f"{field}.key", each.key), _label(field, each), each.anti, each.soft
        )
        if not each.soft:
            anti, first = hard.setdefault((found.key, found.label), (each.anti, row))
            if anti != each.anti:
                problem = f"contradicts terms.affinity[{first}]"
                raise InvalidRequest(field, problem, "drop one of them, or make it soft")
        yield found


def _alternatives(message: types_pb2.Terms, demand: Demand) -> Iterator[Alternative]:
    for row, each in enumerate(message.alternatives):
        try:
            yield Alternative(*demand(each.resources, each.gpu_models))
        except InvalidRequest as error:
            field = f"terms.alternatives[{row}].{error.field}"
            raise InvalidRequest(field, error.problem, error.remedy) from error
