"""What the shipped records say of the shipped sentences."""

from __future__ import annotations

import pytest

from results.papers.claims import claims
from tests.conftest import committed_records


@pytest.mark.parametrize("folder", ["runs", "pats", "pats_two", "private", "low1k_wide"])
def test_no_sentence_is_decided_by_one_of_several_rows(folder: str) -> None:
    """A board's controls are rows of the method that they control: a sentence names its options."""
    judged = claims(committed_records(f"results/{folder}"))
    assert [j.claim.claim for j in judged if "is the first of" in j.numbers] == []
