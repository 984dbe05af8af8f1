"""After the work: wait until the replicas stand still at one index, and read the whole log of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from raftalloc.api.v1 import admin_pb2, events_pb2, usage_pb2
from raftalloc.cli.demo.log import Log, Seen, seen
from raftalloc.errors import RaftallocError, Unavailable

if TYPE_CHECKING:
    from raftalloc.cli.group import LocalGroup

READ_THIS_REPLICA: Final = (("raftalloc-read", "any"),)
PAGE_ENTRIES: Final = 250
CALL_SECONDS: Final = 30.0
STILL_SECONDS: Final = 45.0
IDLE_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.2
_READ: Final = "/raftalloc.api.v1.Events/Read"
_UTILIZATION: Final = "/raftalloc.api.v1.Usage/Utilization"


@dataclass(frozen=True, slots=True)
class Digests:
    """What the replicas say of their states at one index."""

    index: int
    by_replica: dict[str, tuple[str, str]]
    invariants: dict[str, str]

    @property
    def equal(self) -> bool:
        """Whether chain and content digests are the same everywhere."""
        return len(set(self.by_replica.values())) == 1

    @property
    def sound(self) -> str:
        """`ok`, or the first complaint of a replica about its own state."""
        complaints = [each for each in self.invariants.values() if each != "ok"]
        return complaints[0] if complaints else "ok"


async def wait_idle(group: LocalGroup, leader: str) -> int:
    """Until nothing is allocated and nothing waits, since leases run out; what is left after IDLE_SECONDS."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + IDLE_SECONDS
    while True:
        request = usage_pb2.UtilizationRequest()
        usage, _ = await group.transport(leader).unary(
            _UTILIZATION, request, usage_pb2.UtilizationResponse, timeout=CALL_SECONDS
        )
        left = usage.active_allocations + usage.waiting_requests
        if not left or loop.time() > give_up:
            return left
        await asyncio.sleep(_PAUSE_SECONDS)


async def digests(group: LocalGroup) -> Digests:
    """Of all replicas at the same index. Raises Unavailable where they do not come to stand at one in time."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + STILL_SECONDS
    last = "no answer"
    while loop.time() < give_up:
        statuses = await group.statuses(with_digest=True, seconds=CALL_SECONDS)
        answers = _all_answered(statuses)
        if answers and len({each.digest_index for each in answers.values()}) == 1:
            index = next(iter(answers.values())).digest_index
            return Digests(
                index,
                {name: (each.chain_digest, each.content_digest) for name, each in answers.items()},
                {name: each.invariants for name, each in answers.items()},
            )
        last = ", ".join(
            f"{name}: {answer}"
            if isinstance(answer, RaftallocError)
            else f"{name} at {answer.digest_index}"
            for name, answer in statuses.items()
        )
        await asyncio.sleep(_PAUSE_SECONDS)
    raise Unavailable(
        f"the replicas did not come to stand at one index in {STILL_SECONDS:g} s: {last}"
    )


def _all_answered(
    statuses: dict[str, admin_pb2.StatusResponse | RaftallocError],
) -> dict[str, admin_pb2.StatusResponse]:
    answers = {
        name: answer for name, answer in statuses.items() if not isinstance(answer, RaftallocError)
    }
    return answers if len(answers) == len(statuses) else {}


async def logs(group: LocalGroup, through_index: int, *replica_ids: str) -> dict[str, Log]:
    """The events of those replicas, or all, up to an index, each read from that replica itself."""
    shared: dict[tuple[int, int], tuple[str, Seen]] = {}
    return {
        name: await _log(group, name, through_index, shared)
        for name in replica_ids or group.replica_ids
    }


async def _log(
    group: LocalGroup,
    replica_id: str,
    through_index: int,
    shared: dict[tuple[int, int], tuple[str, Seen]],
) -> Log:
    """One replica's. An event that came byte for byte the same from another replica is kept once."""
    found: list[Seen] = []
    index = 1
    while index <= through_index:
        request = events_pb2.ReadRequest(from_index=index, page_size=PAGE_ENTRIES)
        answer, _ = await group.transport(replica_id).unary(
            _READ,
            request,
            events_pb2.ReadResponse,
            timeout=CALL_SECONDS,
            metadata=READ_THIS_REPLICA,
        )
        found += [_once(event, shared) for event in answer.events if event.index <= through_index]
        if answer.next_index <= index:
            break
        index = answer.next_index
    return tuple(found)


def _once(event: events_pb2.Event, shared: dict[tuple[int, int], tuple[str, Seen]]) -> Seen:
    place = (event.index, event.sequence)
    raw = f"{event.type} {event.detail_json}"
    kept = shared.get(place)
    if kept is None or kept[0] != raw:
        kept = (raw, seen(event))
        shared.setdefault(place, kept)
    return kept[1]
