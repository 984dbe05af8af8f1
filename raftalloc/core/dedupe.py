"""Answering an attempt that was answered before: the rules over what `sessions` remembers."""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b

from raftalloc.core import rejections
from raftalloc.core.commands import Asked
from raftalloc.core.events import Answered
from raftalloc.core.records import REJECTED, Outcome
from raftalloc.core.rejections import Rejection
from raftalloc.core.sessions import KEYS_MAX
from raftalloc.core.state import State


def recall(state: State, asked: Asked) -> Outcome | None:
    """The outcome of an earlier attempt, or the refusal of one too old to tell; None: this is the first."""
    origin = asked.origin
    if origin.key:
        return _recall_key(state, asked)
    if not origin.session:
        return None
    session = state.sessions.sessions.get(origin.session)
    if session is None or session.principal != origin.principal:
        return _refusal(state, rejections.KEY_EXPIRED, "idempotency.session")
    known = session.outcomes.get(origin.sequence)
    if known is not None:
        return _replay(state, asked, *known)
    if origin.sequence <= session.floor:
        return _refusal(state, rejections.KEY_EXPIRED, "idempotency.sequence")
    return None


def _recall_key(state: State, asked: Asked) -> Outcome | None:
    key = asked.origin.key
    known = state.sessions.keys.get(key)
    if known is not None:
        return _replay(state, asked, known[0], known[1])
    if key in state.sessions.tombstones:
        return _refusal(state, rejections.KEY_EXPIRED, "idempotency.key")
    if state.sessions.keys_count() >= KEYS_MAX:
        limit = (("limit", KEYS_MAX),)
        return _refusal(state, rejections.KEYS_EXHAUSTED, "idempotency.key", limit)
    return None


def _replay(state: State, asked: Asked, answered: Answered, index: int) -> Outcome:
    if answered.digest != digest_of(asked):
        return _refusal(state, rejections.KEY_REUSED, "idempotency")
    rejection = None
    if answered.rejection_code:
        rejection = Rejection(
            answered.rejection_code,
            answered.rejection_field,
            answered.rejection_subject,
            answered.rejection_numbers,
        )
    return Outcome(
        answered.status,
        answered.subject,
        answered.count,
        answered.token,
        rejection,
        index,
        replayed=True,
    )


def _refusal(
    state: State, code: str, field: str, numbers: tuple[tuple[str, int], ...] = ()
) -> Outcome:
    rejection = Rejection(code, field, "", numbers)
    return Outcome(REJECTED, rejection=rejection, index=state.index)


def answered(asked: Asked, outcome: Outcome) -> Answered | None:
    """The event that keeps an outcome; None where the attempt did not name itself."""
    origin = asked.origin
    if not origin.key and not origin.session:
        return None
    rejection = outcome.rejection
    return Answered(
        session=0 if origin.key else origin.session,
        sequence=0 if origin.key else origin.sequence,
        key=origin.key,
        digest=digest_of(asked),
        status=outcome.status,
        subject=outcome.subject,
        count=outcome.count,
        token=outcome.token,
        rejection_code=rejection.code if rejection else "",
        rejection_field=rejection.field if rejection else "",
        rejection_subject=rejection.subject if rejection else "",
        rejection_numbers=rejection.numbers if rejection else (),
    )


_CAME_LATER = ("terms", "taints", "soft_taints")
"""Fields of commands that are left out where they have their default, so that an attempt can be repeated across an
upgrade: its digest is what it was before they came."""


def digest_of(asked: Asked) -> str:
    """16 hexadecimal digits that tell commands apart, and who asks: another's answer is nobody else's business.

    As a dataclass's repr it names every field, and nothing else.
    """
    command = asked.command
    named = ", ".join(
        f"{field.name}={getattr(command, field.name)!r}"
        for field in fields(command)
        if field.name not in _CAME_LATER or getattr(command, field.name) != field.default
    )
    text = f"({asked.origin.principal!r}, {type(command).__qualname__}({named}))"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
