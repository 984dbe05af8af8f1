"""Leases: renewed, extended, given back the time without a leader; never shortened, never past the end."""

from __future__ import annotations

import pytest

from raftalloc.core import commands, events, rejections, views
from raftalloc.core.leases import device_set, devices_of
from raftalloc.core.records import DONE, GRANTED
from tests.core.asking import Talk, allocate, code_of, node, there


@pytest.fixture
def talk():
    talk = Talk()
    talk.ask(1000, node("n1", cpu=8000))
    return talk


def times(talk, ident=1):
    found = there(views.allocation(talk.state, ident))
    return found.expires_ms, found.ends_ms


def test_a_renewal_counts_from_now_and_not_past_the_end(talk):
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=1000, duration_ms=2500))
    assert times(talk) == (2000, 3500)
    talk.ask(1900, commands.Renew(1, 1, "a"))
    assert times(talk) == (2900, 3500)
    talk.ask(2800, commands.Renew(1, 1, "a"))
    assert times(talk) == (3500, 3500)
    talk.ask(3500, commands.Tick())
    assert [e.reason for e in talk.happened(events.Ended)] == [events.DURATION_ENDED]


def test_a_renewal_after_a_gap_does_not_take_the_gap_away_again(talk):
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=1000))
    talk.ask(1500, commands.TakeLead("r2", 5000))
    assert times(talk) == (7000, 0)
    talk.ask(1600, commands.Renew(1, 1, "a"))
    assert times(talk) == (7000, 0)
    talk.ask(6500, commands.Renew(1, 1, "a"))
    assert times(talk) == (7500, 0)


def test_a_new_leader_saves_leases_that_ran_out_while_nobody_led(talk):
    """Its first entry comes after their time; what it gives back is given before anything expires."""
    talk.ask(
        1000, allocate("a", cpu=1000, lease_ttl_ms=1000), allocate("b", cpu=1000, duration_ms=900)
    )
    talk.ask(1000, allocate("c", cpu=1000, lease_ttl_ms=1000, duration_ms=1200))
    talk.ask(60_000, commands.TakeLead("r2", 59_000), commands.Tick())
    assert times(talk, 1) == (61_000, 0)
    assert sorted(e.allocation_id for e in talk.happened(events.Ended)) == [2, 3]
    talk.ask(61_000, commands.Tick())
    assert [e.reason for e in talk.happened(events.Ended)] == [events.LEASE_EXPIRED]


def test_a_gap_is_given_back_up_to_the_end_and_no_further(talk):
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=1000, duration_ms=10_000))
    talk.ask(1500, commands.TakeLead("r2", 20_000))
    assert times(talk) == (11_000, 11_000)


def test_a_gap_of_nothing_changes_nothing(talk):
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=1000))
    talk.ask(1500, commands.TakeLead("r2", 0))
    assert times(talk) == (2000, 0)


def test_an_extension_moves_the_end_and_without_an_end_does_nothing(talk):
    talk.ask(
        1000, allocate("a", cpu=1000, duration_ms=1000), allocate("b", cpu=1000, lease_ttl_ms=500)
    )
    assert talk.ask(1400, commands.Renew(1, 1, "a", 2000)).status == DONE
    assert times(talk) == (0, 4000)
    talk.ask(1400, commands.Renew(2, 2, "b", 2000))
    assert times(talk, 2) == (1900, 0)
    talk.ask(2000, commands.Tick())
    assert times(talk) == (0, 4000)
    assert code_of(talk.ask(2001, commands.Renew(1, 1, "a"))) == rejections.NO_LEASE


def test_a_grant_takes_the_earlier_of_lease_and_end(talk):
    talk.ask(1000, allocate("a", cpu=1000, lease_ttl_ms=9000, duration_ms=500))
    assert times(talk) == (1500, 1500)
    talk.ask(1500, commands.Tick())
    assert [e.reason for e in talk.happened(events.Ended)] == [events.DURATION_ENDED]


def test_tokens_rise_over_releases_and_restarts(talk):
    tokens = []
    for round_ in range(5):
        granted = talk.ask(1000 + round_, allocate("a", cpu=8000))
        assert granted.status == GRANTED
        tokens.append(granted.token)
        talk.ask(1000 + round_, commands.Release(granted.subject, granted.token, "a"))
        talk.rig.restore()
    assert tokens == [1, 2, 3, 4, 5]


def test_an_old_token_is_stale_and_the_latest_is_not(talk):
    talk.ask(1000, allocate("a", cpu=1000), allocate("a", cpu=1000))
    assert code_of(talk.ask(1001, commands.Release(2, 1, "a"))) == rejections.STALE_TOKEN
    assert talk.ask(1002, commands.Release(2, 2, "a")).status == DONE


@pytest.mark.parametrize("devices", [[], [0], [63], [0, 1, 62, 63], list(range(64))])
def test_sixty_four_devices_fit_one_number(devices):
    bits = device_set(devices)
    assert -(1 << 63) <= bits < 1 << 63
    assert devices_of(bits) == devices


def test_all_sixty_four_devices_of_a_node_can_be_held(talk):
    talk.ask(1001, node("big", ("A100",) * 64, cpu=1000))
    assert talk.ask(1002, allocate("a", gpu=64_000)).status == GRANTED
    held = there(views.allocation(talk.state, 1)).devices
    assert [int(device) for device, _ in held] == list(range(64))
    talk.rig.restore()
    assert talk.ask(1003, commands.Release(1, 1, "a")).status == DONE
    assert talk.ask(1004, allocate("a", gpu=1, gpu_models=("A100",))).status == GRANTED
