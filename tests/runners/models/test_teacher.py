"""Which runs may label rows: none that may have seen the labels that are hidden."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from results.errors import UserError
from results.sealed import sealed
from runners.models.about import ABOUT, FORMAT, OURS
from runners.models.learned import seen_by
from runners.models.predecessor import Predecessor, find_predecessor
from runners.models.teacher import check_stage, find_teacher
from runners.models.weights import Weights
from tests.conftest import configure

MIX = {"name": "mix", "kind": "multitask", "mixture": {"of": ["sst2", "mrpc"]}}


def _find(
    monkeypatch: pytest.MonkeyPatch, selection: str | None = None, **more: Any
) -> Predecessor | None:
    """Find a teacher whose record has other parts than a plain one, or another task."""
    settings = configure("task=sst2", "data=embedded", "data.train_size=20",
                         "data.pseudo.teacher=RUN").settings  # fmt: skip
    stored = {
        "status": "finished", "trained_sha256": "0", "run": "RUN", "task": "sst2",
        "config": {"task": settings.task.model_dump(), "method": []}, "weights": {},
        "environment": {}, "data": {"splits": {"train": {"sha256": "rows"}}}, **more,
    }  # fmt: skip
    monkeypatch.setattr("runners.models.teacher._record_of", lambda *_: Path("RUN.json"))
    monkeypatch.setattr("results.record.read", lambda _: SimpleNamespace(**stored))
    return find_teacher(settings, "rows", selection)


def _taught(*chain: dict[str, Any]) -> dict[str, Any]:
    return {"splits": {"train": {"sha256": "rows"}}, "pseudo": {"teacher": {"chain": [*chain]}}}


def _entry(task: dict[str, Any]) -> dict[str, Any]:
    config = {"task": task, "method": {}, "data": {}, "model": {"name": "tiny"}}
    stage: dict[str, Any] = Predecessor("R", "0", (), Path(), config, {}).facts["chain"][0]
    return stage


def test_a_chain_tells_whose_labels_were_seen() -> None:
    text = {"name": "mlm", "mlm": {"on": ["sst2"]}}
    assert _entry(MIX)["labelled"] == ["mrpc", "sst2"]
    assert _entry(text)["labelled"] == []
    assert seen_by([_entry(MIX), _entry(text)]) == {"mrpc", "sst2"}
    old = [{"task": "mix(rte+mrpc)"}, {"task": "mlm(sst2, shuffled)"}, {"task": "cola"}]
    assert {"rte", "mrpc", "cola"} <= seen_by(old)
    assert "sst2" not in seen_by(old)


def test_a_chain_from_an_arm_has_the_settings_that_it_had() -> None:
    """Records of before a task said whose rows are among its own stand in a row with later ones."""
    arm = configure("task=cft_fcd", "data=embedded").settings.task.model_dump()
    before = {key: value for key, value in arm.items() if key != "rows_of"}
    assert arm != before
    assert _entry(arm)["settings"] == _entry(before)["settings"]


@pytest.mark.parametrize("stage", [_entry(MIX), {"task": "mix(sst2+mrpc)"}, {"task": "sst2"}])
def test_a_teacher_that_started_from_the_labels_is_refused(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="started from another run of task=sst2"):
        _find(monkeypatch, weights={"start": {"chain": [stage]}})


@pytest.mark.parametrize("adds", ["pseudo", "generated"])
def test_a_teacher_that_is_to_be_trained_is_refused_for_its_start(
    adds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ["data.generated.generator=GPT"] if adds == "generated" else []
    settings = configure("task=sst2", "data=embedded", "data.train_size=20", *made,
                         f"data.{adds}.teacher=stage", "start.run=FIRST").settings  # fmt: skip

    def start(task: dict[str, Any], taught: tuple[str, ...] = ()) -> Predecessor:
        config = {"task": task, "method": {}, "data": {}, "model": {"name": "tiny"}}
        return Predecessor("FIRST", "0", (), Path(), config, {}, taught=taught)

    check_stage(settings, None)
    check_stage(settings, start({"name": "mr"}))
    for before in [start({"name": "sst2"}), start(MIX), start({"name": "mr"}, ("sst2",))]:
        with pytest.raises(UserError) as ahead:
            check_stage(settings, before)
        with pytest.raises(UserError) as later:
            _find(monkeypatch, weights={"start": before.facts})
        where, _, sentence = str(ahead.value).partition(": ")
        assert where == f"data.{adds}.teacher=stage start=FIRST"
        assert sentence == str(later.value).partition(": ")[2]


def test_a_teachers_own_teacher_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = {"task": "sst2"}, {"task": "mr"}
    assert _find(monkeypatch) is not None
    assert _find(monkeypatch, data=_taught(own)) is not None  # held to the same rows then
    for data, task in [(_taught({"task": "mix(sst2+mrpc)"}, own), "sst2"), (_taught(own), "mr"),
                       (_taught({**other, "labelled": ["mr", "sst2"]}), "sst2")]:  # fmt: skip
        with pytest.raises(UserError, match="its own teacher came from a run of task=sst2"):
            _find(monkeypatch, data=data, task=task)


def _start(folder: Path, **said: Any) -> Predecessor | None:
    """Find the delta of a run of mr that a run of sst2 had taught, by what it says of itself."""
    settings = configure("task=sst2", "data=embedded", f"start.run={folder}").settings
    weights = Weights(folder, "tiny", None, "0", "0", ())
    config = {"task": {"name": "mr"}, "method": {}, "model": {"name": "tiny"},
              "data": {"pseudo": {"teacher": "T"}}}  # fmt: skip
    about = {
        "format": FORMAT, "run": "R", "trained_sha256": "0", "file": OURS, "sha256": "0",
        "weights": {"sha256": "0"}, "config": config, **said,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / ABOUT).write_text(sealed(about))
    return find_predecessor(settings, weights)


def test_a_delta_tells_whose_labels_its_runs_teacher_saw(tmp_path: Path) -> None:
    taught = _start(tmp_path / "R.delta", teacher={"run": "T", "chain": [_entry(MIX)]})
    assert taught is not None
    assert seen_by(taught.facts["chain"]) == {"mr", "mrpc", "sst2"}
    with pytest.raises(UserError, match="does not say whose labels its teacher saw"):
        _start(tmp_path / "R.delta")
    plain = {"task": {"name": "mr"}, "method": {}, "model": {"name": "tiny"}, "data": {}}
    own = _start(tmp_path / "R.delta", config=plain)
    assert own is not None
    assert seen_by(own.facts["chain"]) == {"mr"}


def test_a_teacher_that_chose_its_weights_by_other_rows_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {"splits": {"train": {"sha256": "rows"}, "selection": {"sha256": "chosen by"}}}
    assert _find(monkeypatch, "chosen by", data=data) is not None
    for selection in (None, "others"):
        with pytest.raises(UserError, match="it chose its weights by rows of task=sst2"):
            _find(monkeypatch, selection, data=data)


def test_a_teacher_that_trained_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="nothing of that run was trained"):
        _find(monkeypatch, trained_sha256=None)
    with pytest.raises(UserError, match="that run is diverged"):
        _find(monkeypatch, status="diverged")


@pytest.mark.parametrize("adds", ["pseudo.teacher=stage", "generated.generator=GPT"])
def test_a_run_that_trains_nothing_has_no_rows_added(adds: str) -> None:
    with pytest.raises(UserError, match="trains on no rows that data"):
        configure("task=sst2", "data=embedded", "data.train_size=20", "budget.epochs=0",
                  "budget.steps=null", f"data.{adds}")  # fmt: skip


ARMS = [
    ("cft_decisions", "cft_fcd"),  # what a run is of, and what its teacher is of
    ("cft_fcd", "cft_decisions"),
    ("cft_fd", "cft_more"),
    ("cft_fcd", "cft_facts"),  # whose rows are among those
    ("cft_facts", "cft_fcd"),
]


def _of_arm(
    monkeypatch: pytest.MonkeyPatch, task: str, theirs: str, train: str, **more: Any
) -> Predecessor | None:
    """Find a teacher of one generated task for a run of another."""
    settings, config = (
        configure(f"task={name}", "data=embedded", "data.train_size=20", *given).settings
        for name, given in ((task, ["data.pseudo.teacher=RUN"]), (theirs, []))
    )
    stored = {
        "status": "finished", "trained_sha256": "0", "run": "RUN", "task": theirs,
        "config": {"task": config.task.model_dump(), "method": []}, "weights": {},
        "environment": {}, "data": {"splits": {"train": {"sha256": train}}}, **more,
    }  # fmt: skip
    monkeypatch.setattr("runners.models.teacher._record_of", lambda *_: Path("RUN.json"))
    monkeypatch.setattr("results.record.read", lambda _: SimpleNamespace(**stored))
    return find_teacher(settings, "rows")


@pytest.mark.parametrize(("task", "theirs"), ARMS)
def test_a_run_of_an_arm_is_a_teacher_of_the_same_task(
    task: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="it learned from other rows of task=cft_"):
        _of_arm(monkeypatch, task, theirs, "others")
    chosen = {"splits": {"train": {"sha256": "rows"}, "selection": {"sha256": "others"}}}
    with pytest.raises(UserError, match="it chose its weights by rows of task=cft_"):
        _of_arm(monkeypatch, task, theirs, "rows", data=chosen)


@pytest.mark.parametrize(("task", "theirs"), ARMS)
def test_a_teacher_that_started_from_an_arm_is_refused(
    task: str, theirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = configure(f"task={theirs}", "data=embedded").settings.task.model_dump()
    for chain in ([_entry(arm)], [{"task": task}]):
        with pytest.raises(UserError, match="started from another run of task=cft_"):
            _of_arm(
                monkeypatch, task, "cft_comparisons", "rows", weights={"start": {"chain": chain}}
            )
    data = {"splits": {"train": {"sha256": "rows"}}}
    data |= {"pseudo": {"teacher": {"chain": [_entry(arm)]}}}
    with pytest.raises(UserError, match="its own teacher came from a run of task=cft_"):
        _of_arm(monkeypatch, task, "cft_comparisons", "rows", data=data)


def test_components_of_their_own_may_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    for theirs in ("cft_facts", "cft_comparisons"):
        assert _of_arm(monkeypatch, "cft_decisions", theirs, "others") is not None
