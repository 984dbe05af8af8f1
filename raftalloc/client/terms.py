"""What a caller of ResourceManager asks of the place of a request: pools, taints, others, gangs, alternatives.

In whole units, as ResourceRequest; `to_message` refuses what is wrong whatever the state is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from raftalloc.api.v1 import types_pb2
from raftalloc.client.names import check_name
from raftalloc.client.quantities import Amount, vector_of
from raftalloc.errors import InvalidRequest


class GangLayout(IntEnum):
    """How the members of a gang stand on the domains of an attribute."""

    ANY = types_pb2.Terms.GANG_LAYOUT_UNSPECIFIED
    PACK = types_pb2.Terms.GANG_LAYOUT_PACK
    SPREAD = types_pb2.Terms.GANG_LAYOUT_SPREAD
    STRICT_PACK = types_pb2.Terms.GANG_LAYOUT_STRICT_PACK
    STRICT_SPREAD = types_pb2.Terms.GANG_LAYOUT_STRICT_SPREAD


@dataclass(frozen=True, slots=True)
class Toleration:
    """Taints that do not keep a request away: of this key (empty: of any) and one of these values (none: of any)."""

    key: str = ""
    values: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """`Spread("zone", ("app", "web"))`: counts of allocations with the label differ by at most max_skew between zones.

    An empty attribute makes each node a domain. soft: nodes that would break it come last instead of not at all.
    """

    key: str
    label: tuple[str, str]
    max_skew: int = 1
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Affinity:
    """`Affinity("rack", ("app", "db"))`: in a rack where an allocation with the label lives; anti: where none does."""

    key: str
    label: tuple[str, str]
    anti: bool = False
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    """Resources that will do as well: `Alternative({"gpu": 2}, ["T4"])`."""

    resources: Mapping[str, Amount]
    gpu_models: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """pool: of nodes, by their attribute `pool`. scorers: policy name -> weight, instead of one policy.

    labels: carried by the allocations, for `spread` and `affinity` of this and other requests; `agent`, `agent_type`
    and `workflow` are carried anyway. alternatives: tried in order. gang_min: a gang may start with so few of `count`.
    """

    pool: str = ""
    scorers: Mapping[str, int] = field(default_factory=dict)
    tolerations: Sequence[Toleration] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    spread: Sequence[Spread] = ()
    affinity: Sequence[Affinity] = ()
    alternatives: Sequence[Alternative] = ()
    gang_min: int = 0
    gang_layout: GangLayout = GangLayout.ANY
    gang_key: str = ""

    def to_message(self) -> types_pb2.Terms:
        """The message. Raises InvalidRequest."""
        return types_pb2.Terms(
            pool=check_name(self.pool, field="terms.pool", optional=True),
            scorers=dict(self.scorers),
            tolerations=[
                types_pb2.Terms.Toleration(key=each.key, values=list(each.values))
                for each in self.tolerations
            ],
            labels=dict(self.labels),
            spread=[
                types_pb2.Terms.Spread(
                    key=each.key,
                    label_key=_label(each.label, f"terms.spread[{row}]")[0],
                    label_value=each.label[1],
                    max_skew=each.max_skew,
                    soft=each.soft,
                )
                for row, each in enumerate(self.spread)
            ],
            affinity=[
                types_pb2.Terms.Affinity(
                    key=each.key,
                    label_key=_label(each.label, f"terms.affinity[{row}]")[0],
                    label_value=each.label[1],
                    anti=each.anti,
                    soft=each.soft,
                )
                for row, each in enumerate(self.affinity)
            ],
            alternatives=[
                types_pb2.Terms.Alternative(
                    resources=vector_of(each.resources), gpu_models=list(each.gpu_models)
                )
                for each in self.alternatives
            ],
            gang_min=self.gang_min,
            gang_layout=types_pb2.Terms.GangLayout.ValueType(self.gang_layout),
            gang_key=self.gang_key,
        )


def _label(label: tuple[str, str], path: str) -> tuple[str, str]:
    if not isinstance(label, tuple) or len(label) != 2:
        raise InvalidRequest(f"{path}.label", f"{label!r:.40} is no label", 'write ("app", "web")')
    return label
