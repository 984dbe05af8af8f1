"""Filter, rank, choose: where one member of a request goes, if anywhere.

A request asks a NODE for its node-bound kinds, all from one, and PROVIDERS for its cluster-wide kinds, each
from any one. Read `pipeline` first: it is the algorithm.

    ask        a demand by columns
    room       what is free, as a decision sees it
    filters    which nodes could take a member: the ordered filters
    devices    GPUs: shares and whole devices
    scorers    which of them is best: costs by policy
    typical    what is typically asked for, counted from what is live
    fragments  GPU capacity that is of no use to what is typically asked for
    stranding  capacity that no member could use, because another kind runs out first
    providers  which provider serves a cluster-wide kind
    ahead      what windows booked ahead leave of a row
    pipeline   filter, rank, choose
    topology   spread over domains, affinity and its opposite
    gang       all members or none, packed or spread
    possible   what an empty fleet could hold

Everything here reads and nothing writes. Cost on the common path: a handful of numpy passes over (rows,), about
1 us each per thousand nodes and kind.
"""

from raftalloc.core.placement.ask import Ask, compile_ask
from raftalloc.core.placement.devices import choose_devices, fits_devices
from raftalloc.core.placement.filters import feasible, filters
from raftalloc.core.placement.gang import place_gang
from raftalloc.core.placement.pipeline import choose, fit_in_time, free_until, place
from raftalloc.core.placement.possible import possible_members
from raftalloc.core.placement.room import Placement, Room
from raftalloc.core.placement.topology import standing
from raftalloc.core.placement.typical import typical_shapes

__all__ = [
    "Ask",
    "Placement",
    "Room",
    "choose",
    "choose_devices",
    "compile_ask",
    "feasible",
    "filters",
    "fit_in_time",
    "fits_devices",
    "free_until",
    "place",
    "place_gang",
    "possible_members",
    "standing",
    "typical_shapes",
]
