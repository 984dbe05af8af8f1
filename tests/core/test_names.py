"""Interned texts with reference counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftalloc.core.names import Names

TEXTS = st.sampled_from(["", "a", "b", "c", "d"])


@given(st.lists(st.tuples(st.booleans(), TEXTS), max_size=60))
def test_a_text_is_there_as_long_as_somebody_refers_to_it(steps):
    names, held = Names(), {"": 1}
    for acquires, text in steps:
        if acquires:
            number = names.acquire(text)
            held[text] = held.get(text, 0) + 1
            assert names.text(number) == text
        elif held.get(text, 0) > (text == ""):
            names.release(names.find(text))
            held[text] -= 1
    live = {text for text, count in held.items() if count}
    assert names.count() == len(live)
    for text in ("", "a", "b", "c", "d"):
        assert (names.find(text) >= 0) == (text in live)
    again = Names(*names.parts())
    assert again.parts() == names.parts()
    assert again.acquire("new") == names.acquire("new")


def test_a_number_is_used_again_the_latest_freed_first():
    names = Names()
    a, b = names.acquire("a"), names.acquire("b")
    names.release(a)
    names.release(b)
    assert [names.acquire("c"), names.acquire("d")] == [b, a]


def test_the_empty_text_has_number_0_for_ever():
    names = Names()
    assert names.acquire("") == 0
    names.release(0)
    names.release(0)
    assert names.text(0) == ""
    assert names.acquire("a") == 1


def test_releasing_more_often_than_acquiring_is_a_bug():
    names = Names()
    number = names.acquire("a")
    names.release(number)
    with pytest.raises(AssertionError, match="released more often than acquired"):
        names.release(number)
