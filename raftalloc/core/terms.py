"""The terms of a request: what it asks of its place beyond a demand, device models and constraints.

One nested record of Allocate and Queued (`formats`): append fields with defaults, never rename or reorder.

LABELS are an allocation's own key=value pairs; SPREAD and AFFINITY count the live allocations that carry one. The label
keys `agent`, `agent_type` and `workflow` need not be given: every allocation has them. A DOMAIN is all nodes with the
same value of an attribute (a rack, a zone); the empty key makes every node a domain of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftalloc.core.quantities import Vector

Label = tuple[str, str]

IMPLIED_LABELS: Final = ("agent", "agent_type", "workflow")

GANG_ANY: Final = 0
GANG_PACK: Final = 1
GANG_SPREAD: Final = 2
GANG_STRICT_PACK: Final = 3
GANG_STRICT_SPREAD: Final = 4
GANG_LAYOUT_NAMES: Final = {
    GANG_ANY: "any",
    GANG_PACK: "pack",
    GANG_SPREAD: "spread",
    GANG_STRICT_PACK: "strict_pack",
    GANG_STRICT_SPREAD: "strict_spread",
}


@dataclass(frozen=True, slots=True)
class Toleration:
    """Taints that do not keep a request away: of this key (empty: of any) and, where given, one of these values."""

    key: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Spread:
    """Among the domains of attribute `key`, the counts of allocations with `label` may differ by at most max_skew.

    soft: nodes that would break it come last instead of not at all.
    """

    key: str
    label: Label
    max_skew: int = 1
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Affinity:
    """To stand in a domain of attribute `key` where an allocation with `label` lives; anti: where none does.

    The first of its own kind may stand anywhere: where no allocation has the label and the request itself does.
    soft: as for Spread.
    """

    key: str
    label: Label
    anti: bool = False
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another demand that will do, with the device models it accepts."""

    demand: Vector
    gpu_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """pool: nodes whose attribute `pool` has this value; empty: any.

    scorers: (policy name, weight), which together stand in for the policy. labels: what the allocations will carry.
    alternatives: tried in order when the demand itself cannot start. gang_min: a gang may start with so few of `count`
    members; 0: with all. gang_layout: how its members stand on the domains of gang_key: on as few, or evenly on as many
    as can be; the strict ones on one, or each on another, or not at all.
    """

    pool: str = ""
    scorers: tuple[tuple[str, int], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    labels: tuple[Label, ...] = ()
    spread: tuple[Spread, ...] = ()
    affinity: tuple[Affinity, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    gang_min: int = 0
    gang_layout: int = GANG_ANY
    gang_key: str = ""

    @property
    def follows_others(self) -> bool:
        """Whether where it may start depends on where others live, not only on what is free."""
        return bool(self.spread or self.affinity)

    @property
    def is_plain(self) -> bool:
        """Whether a line knows all that can be in its way: room, or a quota, of one demand."""
        return not (self.spread or self.affinity or self.alternatives)


NO_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class Typical:
    """A demand that is often asked for, and how many live allocations have it."""

    demand: Vector
    count: int
