"""How splits are drawn and whether they overlap stands in the record and the tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.record import read_all
from results.tables.collect import tables
from runners.config.check import from_record
from runners.config.settings import Settings
from runners.data.load import describe, load_task_data
from runners.data.split import TaskData
from tests.conftest import Cli, configure

HEADER = "index\tsentence1\tsentence2\tlabel\n"
NAMES = ("entailment", "not_entailment")


def _write(folder: Path, train: list[tuple[str, int]], dev: list[tuple[str, int]]) -> None:
    (folder / "RTE").mkdir(exist_ok=True)
    for name, rows in (("train", train), ("dev", dev)):
        lines = [f"{i}\t{text}\tb\t{NAMES[label]}\n" for i, (text, label) in enumerate(rows)]
        (folder / "RTE" / f"{name}.tsv").write_text(HEADER + "".join(lines))


def _skewed(folder: Path) -> list[str]:
    """Write nine examples of a class for each of the other; return what to type for them."""
    _write(folder, *([(f"{n} {i}", int(i % 10 == 0)) for i in range(200)] for n in "td"))
    return ["task=rte", "data=local", f"data.dir={folder}", "data.train_size=30"]


def _load(settings: Settings) -> TaskData:
    return load_task_data(settings.task, settings.data, settings.protocol)


@pytest.mark.parametrize(
    ("typed", "train", "dev"),
    [
        ([], True, False),
        (["data.balanced=train"], True, False),
        (["data.balanced=all"], True, True),
        (["data.balanced=none"], False, False),
    ],
)
def test_only_what_is_to_be_balanced_is(
    typed: list[str], train: bool, dev: bool, tmp_path: Path
) -> None:
    given = [*_skewed(tmp_path), "data.eval_size=20"]
    data = _load(configure(*given, *typed).settings)
    for split, balanced, size in ((data.train, train, 30), (data.report["validation"], dev, 20)):
        order = list(range(200))
        random.Random(f"0:{split.name}").shuffle(order)
        rare = [i for i in order if i % 10 == 0]
        often = [i for i in order if i % 10]
        half = size // 2
        chosen = rare[:half] + often[:half] if balanced else order[:size]
        letter = split.name[0].replace("v", "d")
        assert [texts[0] for texts in split.texts] == [f"{letter} {i}" for i in sorted(chosen)]
        assert sum(split.labels or ()) == sum(i % 10 == 0 for i in chosen)


def test_a_stored_configuration_without_the_choice_draws_as_it_did(tmp_path: Path) -> None:
    config = configure(*_skewed(tmp_path), "data.eval_size=20")
    today: dict[str, Any] = {**config.settings.model_dump(), "method": config.method_options()}
    data = {key: value for key, value in today["data"].items() if key != "balanced"}
    before = from_record({**today, "data": data}).settings
    assert before.data.balanced == "all"
    assert from_record(today).settings.data.balanced == "train"
    dev = [_load(settings).report["validation"] for settings in (before, config.settings)]
    assert sum(dev[0].labels or ()) == 10
    assert dev[0].sha256 != dev[1].sha256


def test_a_table_names_the_draw_and_a_record_of_it_verifies(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = f"model.name_or_path={tiny_folder('bert')}"
    given = [*_skewed(tmp_path), "data.eval_size=20", "budget=smoke", "budget.steps=2", model]
    for typed in ([], ["data.balanced=all"], ["data.balanced=none"]):
        assert cli(*given, *typed, "device=cpu").code == 0
    records = {r.config["data"]["balanced"]: r for r in read_all(tmp_path / "runs")}
    assert set(records) == {"train", "all", "none"}
    even, chance = " (classes balanced)", " (drawn by chance)"
    for choice, (train, dev) in {
        "train": (even, chance),
        "all": (even, even),
        "none": (chance, chance),
    }.items():
        [table] = tables([records[choice]])
        assert table.marks == {"rte": f"subset: train 30{train}, validation 20{dev}"}
        done = cli(f"verify={records[choice].run}", "device=cpu")
        assert done.code == 0, done.err
        assert "equal to the bit" in done.out
    del records["all"].config["data"]["balanced"]
    assert tables([records["all"]])[0].marks == {"rte": f"subset: train 30, validation 20{even}"}


def test_overlap_counts_equal_texts_whatever_their_white_space(tmp_path: Path) -> None:
    _write(
        tmp_path,
        [("a", 0), ("b  c", 1), ("d", 0), ("d", 1)],
        [("a ", 1), ("b c", 1), ("bc", 0), ("A", 0), ("d", 0), ("d", 1)],
    )
    given = ["task=rte", "data=local", f"data.dir={tmp_path}"]
    data = _load(configure(*given).settings)
    assert describe(data.report["validation"], None)["also_in_train"] == 4
    assert "also_in_train" not in describe(data.train, None)
    # What decides which weights are reported is learned from too, and may itself be in train.
    cut = _load(configure(*given, "protocol=select", "protocol.fraction=0.4").settings)
    assert cut.selection is not None
    assert cut.report["validation"].also_in_train == 4
    rest = set(cut.train.texts)
    assert cut.selection.also_in_train == sum(texts in rest for texts in cut.selection.texts)
    drawn = _load(configure(*given, "data.train_size=2").settings)
    some = {" ".join(text.split()) for text, _ in drawn.train.texts}
    assert drawn.report["validation"].also_in_train == sum(
        word in some for word in ("a", "b c", "bc", "A", "d", "d")
    )


def test_a_dev_set_that_is_the_training_set_is_warned_of_in_one_line(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [(f"t {i}", i % 2) for i in range(8)]
    model = f"model.name_or_path={tiny_folder('bert')}"
    given = ["task=rte", f"data.dir={tmp_path}", "budget=smoke", "budget.steps=1", model]
    _write(tmp_path, rows, rows)
    done = cli(*given, "data=local", "device=cpu")
    assert done.code == 0, done.err
    warned = [line for line in done.err.splitlines() if line.startswith("OVERLAP: task=rte")]
    assert len(warned) == 1
    assert "8 of 8 examples of validation are in train too" in warned[0]
    [record] = read_all(tmp_path / "runs")
    assert record.data["splits"]["validation"]["also_in_train"] == 8
    _write(tmp_path, rows, [(f"d {i}", i % 2) for i in range(8)])
    apart = cli(*given, "data=local", "device=cpu")
    assert apart.code == 0
    assert "OVERLAP" not in apart.err
    assert not any(
        "also_in_train" in str(r.data) for r in read_all(tmp_path / "runs") if r != record
    )


def test_each_seed_learns_from_rows_of_its_own_and_is_scored_on_the_same(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = f"model.name_or_path={tiny_folder('bert')}"
    given = [*_skewed(tmp_path), "data.eval_size=20", "budget=smoke", "budget.steps=1", model]
    for seed in (1, 2):
        for typed in ("seed", str(seed)):
            for method in ("full", "bitfit"):
                run = [f"seed={seed}", f"data.seed={typed}", f"method={method}", "device=cpu"]
                done = cli(*given, *run)
                assert done.code == 0, done.err
    records = {(r.config["data"]["seed"], r.seed, *r.methods): r
               for r in read_all(tmp_path / "runs")}  # fmt: skip
    assert len(records) == 8

    def split(draw: object, seed: int, name: str) -> str:
        one, other = (records[draw, seed, m].data["splits"][name] for m in ("full", "bitfit"))
        assert one == other
        return str(one["sha256"])

    for seed in (1, 2):
        assert split("seed", seed, "train") == split(seed, seed, "train")
    assert split("seed", 1, "train") != split("seed", 2, "train")
    assert split("seed", 1, "validation") == split("seed", 2, "validation")
    [table] = tables([r for key, r in records.items() if key[0] == "seed"])
    assert table.tasks == ("rte",)
    assert all(row.cells["rte"].seeds == (1, 2) for row in table.rows)
    assert "train 30 (classes balanced, others with each seed)" in table.marks["rte"]
    [apart] = tables([r for key, r in records.items() if key[0] != "seed"])
    assert apart.tasks == ("rte", "rte#2")
    done = cli(f"verify={records['seed', 2, 'full'].run}", "device=cpu")
    assert done.code == 0, done.err
    assert "equal to the bit" in done.out
    for typed in ("each", "-1", "1.5", "true"):
        [line] = cli(*given, f"data.seed={typed}").err.splitlines()
        assert "data.seed" in line
        assert "must be a whole number, 0 or more, or the word seed" in line


def test_seeds_that_draw_from_other_rows_are_apart(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = f"model.name_or_path={tiny_folder('bert')}"
    given = [*_skewed(tmp_path), "data.eval_size=20", "budget=smoke", "budget.steps=1", model]
    given += ["data.seed=seed", "device=cpu"]
    assert cli(*given, "seed=1").code == 0
    train = tmp_path / "RTE" / "train.tsv"
    train.write_text(train.read_text().replace("t 7\t", "another 7\t"))
    assert cli(*given, "seed=2").code == 0
    [table] = tables(read_all(tmp_path / "runs"))
    assert table.tasks == ("rte", "rte#2")
