"""Regular expressions that match exactly the names that they are made from."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.common.patterns import one_of
from unmask.config.grid.expand import expand

PARTS = st.text("ab.+~|", min_size=1, max_size=3)
NAMES = st.sets(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=12)


@given(names=NAMES, other=NAMES)
def test_the_names_and_no_others_match(names, other):
    pattern = re.compile(one_of(names))
    assert {name for name in names | other if pattern.fullmatch(name)} == names


@pytest.mark.parametrize("names", [[], [""]], ids=["none", "empty"])
def test_no_name_is_different_from_an_empty_one(names):
    assert bool(re.fullmatch(one_of(names), "")) == bool(names)


def test_runs_that_differ_in_the_seed_share_a_part(config):
    runs = expand(config | {"scale": "laptop"}).runs
    assert len(one_of(runs)) < len("|".join(map(re.escape, runs))) / 4
