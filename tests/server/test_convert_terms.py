"""Terms of a request: from Python and from the command line through the API to the core, and what is refused."""

from __future__ import annotations

import pytest

from raftalloc import Affinity, Alternative, GangLayout, ResourceRequest, Spread, Terms, Toleration
from raftalloc.api.v1 import types_pb2
from raftalloc.cli import terms as typed
from raftalloc.core import commands
from raftalloc.core import terms as core
from raftalloc.errors import InvalidRequest
from raftalloc.server import convert

WHOLE = Terms(
    pool="audits",
    scorers={"fgd": 2, "best_fit": 1},
    tolerations=[Toleration("gpu", ["yes", "no"]), Toleration()],
    labels={"app": "web"},
    spread=[Spread("zone", ("app", "web"), 2, soft=True)],
    affinity=[Affinity("rack", ("app", "db")), Affinity("", ("agent", "b"), anti=True)],
    alternatives=[Alternative({"gpu": 2, "cpu": 0.5}, ["T4", "P100"])],
    gang_min=2,
    gang_layout=GangLayout.STRICT_SPREAD,
    gang_key="zone",
)
WORDS = [
    "scorer:fgd=2", "scorer:best_fit=1", "tolerate:gpu=yes,no", "tolerate:*", "label:app=web",
    "soft-spread:zone:app=web:2",
    "near:rack:app=db", "away::agent=b", "else:gpu=2,cpu=0.5;T4|P100", "min:2",
    "layout:strict_spread:zone",
]  # fmt: skip


def command_of(terms: Terms, **settings) -> commands.Allocate:
    settings = {"agent_id": "a", "resources": {"cpu": 1}, "count": 3, "gang": True, **settings}
    return convert.allocate(ResourceRequest(terms=terms, **settings).to_message(), 1)


def test_all_terms_arrive_in_the_core():
    assert command_of(WHOLE).terms == core.Terms(
        pool="audits",
        scorers=(("best_fit", 1), ("fgd", 2)),
        tolerations=(core.Toleration("gpu", ("yes", "no")), core.Toleration()),
        labels=(("app", "web"),),
        spread=(core.Spread("zone", ("app", "web"), 2, soft=True),),
        affinity=(
            core.Affinity("rack", ("app", "db")),
            core.Affinity("", ("agent", "b"), anti=True),
        ),
        alternatives=(core.Alternative((("cpu", 500), ("gpu", 2000)), ("T4", "P100")),),
        gang_min=2,
        gang_layout=core.GANG_STRICT_SPREAD,
        gang_key="zone",
    )


def test_what_is_typed_is_the_same_message():
    assert typed.terms_of("audits", WORDS) == WHOLE.to_message()
    assert typed.terms_of("", []) is None


@pytest.mark.parametrize(
    "word",
    ["", "near", "near:zone", "spread:zone:app=web:x", "soft-min:2", "layout:odd", "min:two"],
)
def test_a_word_that_is_no_term_is_refused_with_the_way_to_write_it(word):
    with pytest.raises(InvalidRequest, match="term\\[0\\]") as caught:
        typed.terms_of("", [word])
    assert "label:app=web" in caught.value.remedy


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (Terms(scorers={"odd": 1}), "terms.scorers"),
        (Terms(scorers={"fgd": 101}), "terms.scorers.fgd"),
        (Terms(labels={"agent": "x"}), "terms.labels.agent"),
        (Terms(labels={"": "x"}), "terms.labels"),
        (Terms(gang_min=4), "terms.gang_min"),
        (Terms(spread=[Spread("zone", ("", "x"))]), "terms.spread[0].label_key"),
        (Terms(spread=[Spread("zone", ("a", "x"), -1)]), "terms.spread[0].max_skew"),
        (
            Terms(affinity=[Affinity("z", ("a", "b")), Affinity("z", ("a", "b"), anti=True)]),
            "terms.affinity[1]",
        ),
        (
            Terms(alternatives=[Alternative({"cpu": 1}, ["T4"])]),
            "terms.alternatives[0].gpu_models",
        ),
        (Terms(alternatives=[Alternative({"cpu": 1})] * 5), "terms.alternatives"),
    ],
)  # fmt: skip
def test_terms_that_could_never_be_meant_are_refused_with_their_field(terms, field):
    with pytest.raises(InvalidRequest) as caught:
        command_of(terms)
    assert caught.value.field == field
    assert caught.value.remedy


def test_terms_of_gangs_are_for_gangs():
    with pytest.raises(InvalidRequest, match="is for gangs"):
        command_of(Terms(gang_min=1), count=1)
    with pytest.raises(InvalidRequest, match="is for gangs"):
        command_of(Terms(gang_layout=GangLayout.PACK), gang=False)


def test_a_layout_of_a_newer_client_is_refused():
    message = ResourceRequest(agent_id="a", resources={"cpu": 1}, count=2, gang=True).to_message()
    message.terms.gang_layout = types_pb2.Terms.GangLayout.ValueType(9)
    with pytest.raises(InvalidRequest, match="pack, spread"):
        convert.allocate(message, 1)
