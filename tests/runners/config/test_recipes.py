"""Recipes: each piece by itself, what is typed counts more, and what is wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from runners.boards.chain import steps_of
from runners.config import recipes
from runners.config.recipes import FOLDER, _switched
from runners.config.spelling import spelled_out
from runners.config.stages import checked
from runners.config.typed import key_of
from tests.conftest import Cli, composed, configure, tiny
from tests.runners.boards.test_chain import Folder, started  # noqa: F401

SUN = {
    "budget": ["budget.batch_size=24", "budget.epochs=4", "budget.max_length=512", "lr=2e-5"],
    "schedule": ["budget.schedule=linear", "budget.warmup=0.1"],
    "long_texts": ["budget.truncate=head_tail"],
    "layer_rates": ["method.llrd.decay=0.95", "method=[llrd]"],
}


def test_suns_recipe_is_what_the_paper_says() -> None:
    config = configure(*spelled_out(["recipe=sun2019", "task=sst2", "data=embedded"]))
    budget = config.settings.budget
    assert (budget.batch_size, budget.epochs, budget.max_length, config.lr) == (24, 4, 512, 2e-5)
    assert (budget.schedule, budget.warmup, budget.truncate) == ("linear", 0.1, "head_tail")
    [method] = config.method_options()
    assert (method["name"], method["decay"]) == ("llrd", 0.95)


@pytest.mark.parametrize("piece", SUN)
def test_each_piece_is_switched_by_itself(piece: str) -> None:
    every = set(spelled_out(["recipe=sun2019"]))
    assert every - set(spelled_out(["recipe=sun2019", f"recipe.{piece}=false"])) == set(SUN[piece])


def test_a_piece_that_is_off_is_switched_on_and_has_options() -> None:
    typed = ["recipe=sun2019", "recipe.layers=true", "method.head_layers.pool=mean", "task=sst2"]
    config = composed(tuple(spelled_out(typed)))
    assert set(config["method"]) == {"llrd", "head_layers"}
    assert config["method"]["head_layers"]["pool"] == "mean"


def test_suns_further_pretraining_is_a_stage_on_the_targets_own_text() -> None:
    typed = ["recipe=sun2019", "recipe.further_pretraining=true", "task=cola"]
    masked, target = composed(tuple(spelled_out(typed)))["stages"]
    assert (masked["task"], target["task"]) == ("mlm", "cola")
    config = configure("task=mlm", *masked["set"])
    assert config.settings.task.mlm is not None
    assert config.settings.task.mlm.on == ["cola"]
    assert (config.settings.budget.epochs, config.lr, config.method_names) == (10, 5e-5, ("full",))


def test_what_is_typed_counts_more() -> None:
    typed = ["recipe=sun2019", "budget.epochs=2", "lr=1e-3", "method=bitfit", "task=cola"]
    config = composed(tuple(spelled_out(typed)))
    assert (config["budget"]["epochs"], config["lr"]) == (2, 1e-3)
    assert list(config["method"]) == ["bitfit"]


def _of_stages(*typed: str) -> list[list[str]]:
    """Return what Hydra reads for each run of a recipe's chain, the target's last."""
    whole = spelled_out(typed)
    return steps_of(checked(composed(tuple(whole))["stages"]), whole)


# Each piece of a shipped recipe that has a stage, and a value that no recipe sets, of each key.
STAGES = [
    (recipe, name)
    for recipe in ("lp_ft", "sun2019")
    for name, piece in _switched(recipe, []).items()
    if piece.stage is not None
] + [("sun2019", "further_pretraining")]
OTHER = {"budget.batch_size": "8", "budget.epochs": "1", "budget.max_length": "64", "lr": "1e-4"}


@pytest.mark.parametrize(("recipe", "piece"), STAGES)
def test_what_is_typed_counts_more_in_a_stage_too(recipe: str, piece: str) -> None:
    """A stage's own settings come last, so that they stood over what was typed."""
    switched = [f"recipe={recipe}", f"recipe.{piece}=true", "task=sst2", "data=embedded"]
    typed = [f"{key}={value}" for key, value in OTHER.items()]
    for step in _of_stages(*switched, *typed):
        config = configure(*step)
        budget = config.settings.budget
        assert (budget.batch_size, budget.epochs, budget.max_length) == (8, 1, 64)
        assert config.lr == 1e-4
    plain = _switched(recipe, [f"recipe.{piece}=true"])[piece].stage or []
    kept = _of_stages(*switched, *typed)[0]
    for setting in plain:  # what a piece sets, and nobody typed, is still there
        assert (setting.replace("{task}", "sst2") in kept) == (key_of(setting) not in OTHER)


@pytest.mark.parametrize(("recipe", "piece"), STAGES)
def test_a_stage_of_a_recipe_takes_settings_of_its_own(recipe: str, piece: str) -> None:
    switched = [f"recipe={recipe}", f"recipe.{piece}=true", "task=sst2", "data=embedded"]
    own = ["stages.0.lr=3e-4", "stages.0.budget.epochs=2", "stages.0.method=[bitfit]"]
    stage, target = (configure(*s) for s in _of_stages(*switched, "lr=1e-4", *own))
    assert (stage.lr, stage.settings.budget.epochs, stage.method_names) == (3e-4, 2, ("bitfit",))
    assert (target.lr, target.method_names == ("bitfit",)) == (1e-4, False)
    option = _of_stages(*switched, "stages.0.budget.batch_size=4", "method=bitfit")
    assert [configure(*step).settings.budget.batch_size == 4 for step in option] == [True, False]
    assert [configure(*step).method_names == ("bitfit",) for step in option] == [False, True]


def test_an_option_of_a_stages_method_leaves_it_its_method() -> None:
    typed = ["recipe=lp_ft", "task=rte", "data=embedded", "stages.0.method.linear.lr=7e-3"]
    probe = configure(*_of_stages(*typed)[0])
    assert (probe.method_names, probe.lr) == (("linear",), 7e-3)


def test_epochs_and_steps_stand_in_each_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "first: {stage: [method=full, budget.steps=9]}\nrest: {set: [budget.steps=7]}\n"
    (tmp_path / "mine.yaml").write_text(text)
    typed = ["recipe=sun2019", "recipe.further_pretraining=true", "task=sst2", "data=embedded"]
    for step in _of_stages(*typed, "budget.steps=3"):
        assert not [s for s in step if key_of(s) == "budget.epochs"]
    masked, target = _of_stages(*typed, "budget.steps=null")
    assert ("budget.epochs=10" in masked, "budget.epochs=4" in target) == (True, True)
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    for step in _of_stages("recipe=mine", "task=sst2", "data=embedded", "budget.epochs=2"):
        budget = configure(*step).settings.budget
        assert (budget.epochs, budget.steps) == (2, None)


@pytest.mark.usefixtures("forked_runs")
def test_lp_ft_trains_the_head_and_goes_on_from_it(
    cli: Cli,
    tiny_folder: Folder,
    tmp_path: Path,
    started: list[list[str]],  # noqa: F811
) -> None:
    given = [a for a in tiny(tiny_folder("bert"), "budget.steps=3") if not a.startswith("task=")]
    done = cli("recipe=lp_ft", "task=rte", "keep=true", *given)
    assert done.code == 0, done.err
    assert len(started) == 2
    probe, target = sorted(read_all(tmp_path / "runs"), key=lambda r: len(r.config))
    assert (probe.methods, target.methods) == (["linear"], ["full"])
    assert target.config["start"] == {"run": probe.run, "head": "keep"}
    assert probe.parameters["trainable_without_head"] == 0
    assert target.parameters["trainable_without_head"] > 0
    swept = spelled_out(["-m", "recipe=lp_ft", "task=rte, mrpc"])
    assert [a.count("task:rte") + a.count("task:mrpc") for a in swept] == [0, 4]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["recipe=lpft", "task=rte"], "did you mean lp_ft?"),
        (["recipe=nothing", "task=rte"], "known: lp_ft, sun2019"),
        (["recipe=lp_ft"], "name it by task=NAME"),
        (["recipe=lp_ft", "stages=[mnli,rte]"], "stages= of several"),
        (["recipe=lp_ft", "board=smoke"], "board= of several"),
        (["recipe.layers=true"], "of no recipe"),
        (["recipe=sun2019", "recipe.layer=true"], "has the pieces budget, schedule"),
        (["recipe=sun2019", "recipe.layers=maybe"], "true or false"),
        (
            ["recipe=sun2019", "recipe.layers=true", "method=full", "task=sst2"],
            "recipe.layers=true adds method=head_layers, and what is typed as method= replaces it",
        ),
    ],
)
def test_wrong_recipes_are_named(typed: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        spelled_out(typed)


def test_every_shipped_recipe_can_be_read() -> None:
    names = [path.stem for path in FOLDER.glob("*.yaml")]
    assert names
    assert all(_switched(name, []) for name in names)
