"""A log that was lived, and what it would have been under other settings, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftalloc.core import codec
from raftalloc.core.commands import ORDER_NAMES, POLICY_NAMES
from raftalloc.errors import InvalidRequest
from raftalloc.replay.evaluation import LivedRun, OtherRun
from raftalloc.replay.following import Following

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftalloc.core.state import State
    from raftalloc.replay.evaluation import Change
    from raftalloc.replay.history import History

ASSUMPTIONS: Final = (
    "every request comes when it came, whatever became of the others",
    "a grant is followed by the same releases and renewals, as long after it as in the log",
    "a request that the log never granted holds what it is granted here for its duration, or until the log ends",
    "nodes, quotas and changes of leader come as they came",
)


async def evaluate(
    history: History,
    change: Change,
    *,
    index: int = 0,
    time_ms: int = 0,
    progress: Callable[[int, int], None] = lambda _index, _at_ms: None,
) -> dict[str, object]:
    """The figures of both runs from a moment on (neither: from the oldest there is), as JSON values.

    `progress` hears (index, time) from time to time. Reads the log twice. Raises Compacted, InvalidRequest.
    """
    start = await history.start(index, time_ms)
    first_index, first_ms = start.state.index, start.state.now_ms
    following, last = Following(), 0
    async for block in history.blocks(first_index):
        following.take(block)
        last = block.index
    if not last:
        raise InvalidRequest("since", "no entry comes behind it", "name an earlier moment")
    other = OtherRun(_copy(start.state), start.chain, change, following)
    lived = LivedRun(start.state, start.chain)
    async for block in history.blocks(first_index):
        if block.index > last:
            break
        happened = codec.decode_events(block.events)
        lived.take(block, happened)
        other.take(block, happened)
        first_ms = first_ms or block.at_ms
        progress(block.index, block.at_ms)
    end_ms = lived.state.now_ms
    lived.finish(end_ms)
    other.finish(end_ms)
    return {
        "policy": POLICY_NAMES.get(change.policy, "as asked"),
        "queue_policy": ORDER_NAMES.get(change.queue.order, "as set"),
        "queue_settings": change.wanted(),
        "from_index": first_index + 1,
        "to_index": last,
        "from_ms": first_ms,
        "to_ms": end_ms,
        "arrivals": following.arrivals,
        "diverged_at": other.diverged_at,
        "same": not other.diverged_at and other.chain == lived.chain,
        "chain": lived.chain.hex(),
        "lived": lived.account.figures(lived.state),
        "other": other.account.figures(other.state),
        "assumptions": list(ASSUMPTIONS),
    }


def _copy(state: State) -> State:
    return codec.decode_state(codec.encode_state(state))
