"""Whether a refusal is true: a naive search of everything that could have been granted instead."""

from __future__ import annotations

import copy

from raftalloc.core import commands, events, rejections
from raftalloc.core.commands import Asked
from raftalloc.core.events import CORDONED, READY
from tests.core.promised import ahead_of, keeping
from tests.core.reference import Wish, World, holds

TOO_LATE = (rejections.KEY_EXPIRED, rejections.KEY_REUSED, rejections.KEYS_EXHAUSTED)
"""Refusals that do not look at the command."""
BASE_KINDS = "cpu memory disk network gpu cache db_connections query_capacity api_quota"


class Truth:
    """Judges refusals by the world in which they were given."""

    def __init__(self, world: World) -> None:
        self.world = world

    def refused(self, event: events.Refused, asked: Asked) -> None:
        code = event.code
        assert code in rejections.CODES
        command = asked.command
        if code in (*TOO_LATE, rejections.LIMIT_REACHED):
            return
        if isinstance(command, commands.Allocate) and command.reservation_id:
            self._draw_refused(code, command, asked)
        elif isinstance(command, commands.Allocate):
            self.waits_rightly(asked, code)
            if code == rejections.NO_CAPACITY:
                self._reason_is_real(event, command)
        elif isinstance(command, commands.Reserve):
            self._reserve_refused(code, command)
        else:
            assert code != rejections.UNSATISFIABLE
            assert code != rejections.UNKNOWN_KIND or isinstance(command, commands.Resize)

    def waits_rightly(self, asked: Asked | None, code: str | None) -> None:
        """A request that is refused, or has to wait (code None), does not fit, and for the reason given."""
        world = self.world
        assert asked is not None
        command = asked.command
        assert isinstance(command, commands.Allocate)
        wish = Wish.of(command)
        members = command.count if command.gang else 1
        end_ms = world.now_ms + command.duration_ms if command.duration_ms else 0
        unknown = [kind for kind, _ in wish.demand if kind not in self.known_kinds()]
        if code == rejections.UNKNOWN_KIND:
            assert unknown
            return
        assert not unknown
        if code == rejections.UNSATISFIABLE:
            assert world.members_on_empty_fleet(wish) < members
        elif code == rejections.QUOTA_EXCEEDED:
            assert world.over_quota(wish, members, end_ms)
        else:
            assert code in (None, rejections.NO_CAPACITY)
            over = world.over_quota(wish, members, end_ms)
            with keeping(world, ahead_of(world, command)):
                fits = not over and self.places(wish, members, end_ms)
            assert not fits, f"{command} would have fitted"
            assert code is None or not over, "refused for capacity, where a quota forbids it first"

    def _reason_is_real(self, event: events.Refused, command: commands.Allocate) -> None:
        """What a refusal names as short is short: of a kind, devices, one node for all, all members, or time."""
        world, wish = self.world, Wish.of(command)
        rows = [row_id for row_id in world.rows if world.could_serve(row_id, wish)]
        fits_for_a_moment = world.place(wish, world.now_ms + 1) is not None
        name, _, kind = event.field.partition(".")
        if kind:
            asked = dict(wish.demand)[kind]
            assert all(world.free(row_id, kind) < asked for row_id in rows)
        elif name == "gpu_models":
            assert not any(world.devices_fit(row_id, wish) for row_id in rows)
        elif name == "resources":
            assert not fits_for_a_moment
        elif name == "count":
            assert command.gang
            assert command.count > 1
            assert fits_for_a_moment
        else:
            assert name == "duration_ms"
            assert fits_for_a_moment

    def known_kinds(self) -> list[str]:
        """Base kinds, and what was ever offered or limited."""
        return [*BASE_KINDS.split(), *self.world.kinds]

    def places(self, wish: Wish, members: int, end_ms: int) -> bool:
        """Whether so many members fit at once: each put down for good before the next is tried."""
        world = copy.copy(self.world)
        world.live = dict(world.live)
        for member in range(members):
            place = world.place(wish, end_ms)
            if place is None:
                return False
            node_id, suppliers, devices = place
            ident = -1 - member
            grant = events.Granted(
                ident, ident, "", "default", "", "", 1, wish.demand, node_id, suppliers, devices,
                world.token, 0, end_ms, 0, 0, 0,
            )  # fmt: skip
            world.token -= 1
            world.take(grant)
        return True

    def _draw_refused(self, code: str, command: commands.Allocate, asked: Asked) -> None:
        """The guarantee: what is left of an open window is never refused to its owner, but with its rows."""
        window = self.world.windows.get(command.reservation_id)
        if window is None:
            assert code in (rejections.UNKNOWN_RESERVATION, rejections.UNKNOWN_KIND)
            return
        if window.made.principal != asked.origin.principal:
            assert code in (rejections.WRONG_OWNER, rejections.UNKNOWN_KIND)
            return
        if not window.open:
            assert code in (rejections.RESERVATION_NOT_OPEN, rejections.UNKNOWN_KIND)
            return
        left = self.world.undrawn(window)
        enough = all(left.get(kind, 0) >= a * command.count for kind, a in command.demand)
        gone = any(self.world.rows[s].state not in (READY, CORDONED) for s in window.made.suppliers)
        has_gpu = any(kind == "gpu" for kind, _ in command.demand)
        if code == rejections.UNSATISFIABLE:
            node = self.world.rows[window.made.node_id]
            attributes = dict(node.event.attributes)
            assert not all(holds(attributes.get(c.key), c) for c in command.constraints)
            return
        assert not enough or gone or has_gpu, f"{code} for {command}, and {left} are left"
        if code == rejections.NODE_STATE:
            assert gone

    def _reserve_refused(self, code: str, command: commands.Reserve) -> None:
        world, wish = self.world, Wish.of(command)
        end_ms = command.start_ms + command.duration_ms
        match code:
            case rejections.WINDOW_PAST:
                assert command.start_ms < world.now_ms
            case rejections.NO_CAPACITY | rejections.UNSATISFIABLE:
                assert world.place_window(wish, command.start_ms, end_ms) is None
            case rejections.UNKNOWN_KIND:
                assert [kind for kind, _ in wish.demand if kind not in self.known_kinds()]
            case rejections.QUOTA_EXCEEDED:
                assert world.window_over_quota(wish, command.start_ms, end_ms), (
                    "a quota with room enough refused a window"
                )
            case _:
                raise AssertionError(f"{code} is no answer to a reserve")

    def fits(self, queued: events.Queued) -> bool:
        """Whether a request could start now: the next member of it, or the whole gang."""
        members = queued.count if queued.gang else 1
        end_ms = self.world.now_ms + queued.duration_ms if queued.duration_ms else 0
        wish = Wish.of(queued)
        over = self.world.over_quota(wish, members, end_ms)
        with keeping(self.world, ahead_of(self.world, queued)):
            return not over and self.places(wish, members, end_ms)
