"""`--term`: what a request asks of its place, one word each: `spread:zone:app=web` -> the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import types_pb2
from raftalloc.cli import arguments
from raftalloc.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WRITE: Final = (
    "write label:app=web  tolerate:key=a,b  spread:zone:app=web  near:rack:app=db  away:rack:app=db  "
    "else:gpu=2,cpu=4;T4|P100  scorer:fgd=2  min:3  layout:pack:zone; soft-spread, soft-near, soft-away too"
)


def terms_of(pool: str, words: Sequence[str]) -> types_pb2.Terms | None:
    """Nothing typed: None. Raises InvalidRequest."""
    if not pool and not words:
        return None
    terms = types_pb2.Terms(pool=pool)
    for row, word in enumerate(words):
        sort, _, text = word.partition(":")
        soft = sort.startswith("soft-")
        add = _SORTS.get(sort.removeprefix("soft-"))
        if add is None or not text or (soft and add not in (_spread, _near, _away)):
            raise InvalidRequest(f"term[{row}]", f"{word!r} is no term", _WRITE)
        add(terms, text, f"term[{row}]", soft)
    return terms


def _pair(text: str, field: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise InvalidRequest(field, f"{text!r} is no key=value", _WRITE)
    return key, value


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(field, f"{text!r} is no whole number", _WRITE)
    return int(text)


def _label(terms: types_pb2.Terms, text: str, field: str, _soft: bool) -> None:
    key, value = _pair(text, field)
    terms.labels[key] = value


def _tolerate(terms: types_pb2.Terms, text: str, _field: str, _soft: bool) -> None:
    key, sign, values = text.partition("=")
    terms.tolerations.add(key="" if key == "*" else key, values=values.split(",") if sign else [])


def _spread(terms: types_pb2.Terms, text: str, field: str, soft: bool) -> None:
    key, _, label = text.partition(":")
    label, _, skew = label.partition(":")
    name, value = _pair(label, field)
    most = _number(skew, field) if skew else 1
    terms.spread.add(key=key, label_key=name, label_value=value, max_skew=most, soft=soft)


def _near(terms: types_pb2.Terms, text: str, field: str, soft: bool) -> None:
    key, _, label = text.partition(":")
    name, value = _pair(label, field)
    terms.affinity.add(key=key, label_key=name, label_value=value, soft=soft)


def _away(terms: types_pb2.Terms, text: str, field: str, soft: bool) -> None:
    _near(terms, text, field, soft)
    terms.affinity[-1].anti = True


def _else(terms: types_pb2.Terms, text: str, _field: str, _soft: bool) -> None:
    amounts, _, models = text.partition(";")
    resources = arguments.resources(amounts.split(","))
    terms.alternatives.add(resources=resources, gpu_models=models.split("|") if models else [])


def _scorer(terms: types_pb2.Terms, text: str, field: str, _soft: bool) -> None:
    name, weight = _pair(text, field)
    terms.scorers[name] = _number(weight, field)


def _min(terms: types_pb2.Terms, text: str, field: str, _soft: bool) -> None:
    terms.gang_min = _number(text, field)


def _layout(terms: types_pb2.Terms, text: str, field: str, _soft: bool) -> None:
    layout, _, key = text.partition(":")
    name = f"GANG_LAYOUT_{layout.upper()}"
    known = [value.name for value in types_pb2.Terms.GangLayout.DESCRIPTOR.values]
    if name not in known:
        raise InvalidRequest(field, f"{layout!r} is no layout", _WRITE)
    terms.gang_layout, terms.gang_key = types_pb2.Terms.GangLayout.Value(name), key


_SORTS: Final[dict[str, Callable[[types_pb2.Terms, str, str, bool], None]]] = {
    "label": _label,
    "tolerate": _tolerate,
    "spread": _spread,
    "near": _near,
    "away": _away,
    "else": _else,
    "scorer": _scorer,
    "min": _min,
    "layout": _layout,
}
