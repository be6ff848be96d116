from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nft_lightning.stats.majority import majority_at_k
from nft_lightning.verdict import Verdict

RIGHT, SILENT = Verdict("correct", "1"), Verdict("unparsable")


def vote(chosen):
    """The result of one vote, as a person would count it."""
    votes = Counter("right" if v.correct else v.extracted for v in chosen if v.extracted is not None)
    if not votes or votes["right"] < max(votes.values()):
        return 0.0
    return 1 / sum(n == votes["right"] for n in votes.values())


@given(
    st.lists(
        st.sampled_from([RIGHT, SILENT, *(Verdict("wrong", x) for x in "abc")]), min_size=1, max_size=8
    ),
    st.data(),
)
def test_against_all_subsets(verdicts, data):
    k = data.draw(st.integers(1, len(verdicts)))
    subsets = list(combinations(verdicts, k))
    assert majority_at_k(verdicts, k) == pytest.approx(sum(map(vote, subsets)) / len(subsets))


def test_right_answers_are_one_class_whatever_their_form():
    forms = [Verdict("correct", "1/2"), Verdict("correct", "0.5"), Verdict("wrong", "2")]
    assert majority_at_k(forms, 3) == 1.0


def test_a_vote_of_one_is_the_mean():
    assert majority_at_k([RIGHT, SILENT, RIGHT, Verdict("wrong", "2")], 1) == 0.5


def test_many_samples_are_counted_exactly():
    verdicts = [RIGHT] * 120 + [Verdict("wrong", str(i % 50)) for i in range(136)]
    assert majority_at_k(verdicts, 256) == 1.0
    assert 0.99 < majority_at_k(verdicts, 32) < 1


def test_too_few_samples():
    with pytest.raises(ValueError, match="needs as many"):
        majority_at_k([RIGHT], 2)
