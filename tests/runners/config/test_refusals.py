"""What is refused where it is typed, and still read where an old record or delta says it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import yaml

from results.errors import UserError
from runners.config.check import check, from_record
from runners.config.compose import Composer, compose, composing
from runners.config.refusals import task_problems
from runners.config.task import Task
from runners.config.typed import ONE_OF
from runners.contract.parts import composed, configure
from runners.root import CONFIGS
from tests.conftest import Cli

PLACES = [
    *(
        f"task.{source}.{where}"
        for source in ("local", "hub")
        for where in ("report", "where_present")
    ),
    *("task.diagnostics", "task.pairs"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["train", "selection"])
def test_a_split_called_as_one_of_the_runs_own_is_refused(place: str, name: str) -> None:
    """It took the place of the training split, which then was dev."""
    task, method = ("sts", "embedding") if place == "task.pairs" else ("mnli", "full")
    value = {"task.diagnostics": "[accuracy]", "task.pairs": "{file: a.tsv}"}.get(
        place, "MNLI/a.tsv"
    )
    given = [f"task={task}", f"method={method}", f"+{place}.{name}={value}"]
    with pytest.raises(UserError, match=rf"{re.escape(place)}\.{name}: a run calls a split"):
        configure(*given)
    stored = copy.deepcopy(composed(tuple(given)))
    assert from_record(stored).stored  # what was run is taken as it is


@pytest.mark.parametrize("source", ["local", "hub"])
def test_two_report_splits_of_one_name_are_refused(source: str) -> None:
    with pytest.raises(UserError, match=rf"task\.{source}\.where_present\.validation_matched: "):
        configure("task=mnli", f"+task.{source}.where_present.validation_matched=other.tsv")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["task=rte", "task.local.columns.sentence1=label"], r"task\.local\..*sentence1 and label"),
        (["task=cola", "task.local.columns.sentence=1"], r"task\.local\..*sentence and label.* 1;"),
        (["task=rte", "task.hub.columns.sentence2=sentence1"], r"task\.hub\..*sentence1 and sent"),
        (
            ["task=sts", "method=embedding", "task.pairs.STS-B.columns=[5,6,6]"],
            r"task\.pairs\.STS-B\.columns: the second one and the score are both column 6",
        ),
        (
            ["task=sts", "method=embedding", "task.selection.columns=[5,5,4]"],
            r"task\.selection\.columns: the first sentence and the second one",
        ),
    ],
)
def test_a_column_is_not_read_as_a_text_and_the_answer(given: list[str], said: str) -> None:
    """The model read the answer, and was right in every row."""
    with pytest.raises(UserError, match=said):
        configure(*given)


def test_columns_of_tasks_that_another_names_are_looked_at_too() -> None:
    rte = composed(("task=rte",))["task"]
    wrong = {**rte, "local": {**rte["local"], "columns": {"sentence1": "label"}}}
    tasks = {"rte": wrong, "cola": composed(("task=cola",))["task"]}
    mixture = {"of": [*tasks], "tasks": tasks}
    plain = {"name": "mix", "kind": "multitask", "text": ["text"], "metrics": ["accuracy"]}
    [said] = task_problems(Task.model_validate({**plain, "mixture": mixture}), "auto")
    assert said.startswith("mix.of: task=rte.local.columns: sentence1 and label are both column")
    further = {"other": {"task": "rte", "definition": wrong}}
    [said] = task_problems(Task.model_validate({**rte, "further": further}), "auto")
    assert said.startswith("task.further.other: task.local.columns: sentence1 and label")


def test_shipped_tasks_have_no_such_split() -> None:
    for task in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"):
        configure(f"task={task}")
    configure("task=sts", "method=simcse", "protocol=select")


def test_every_group_of_one_is_known() -> None:
    """By the shipped defaults: what is no list there is one of its kind."""
    defaults = yaml.safe_load((CONFIGS / "config.yaml").read_text())["defaults"]
    groups = [(*entry.items(),) for entry in defaults if isinstance(entry, dict)]
    assert {group for ((group, chosen),) in groups if not isinstance(chosen, list)} == {*ONE_OF}


@pytest.mark.parametrize("group", ONE_OF)
def test_several_files_of_a_group_are_refused(group: str, cli: Cli, tmp_path: Path) -> None:
    """They were laid over each other: the last one's name, with what the first alone says."""
    names = sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))[:2]
    several = f"{group}=[{','.join(names)}]"
    done = cli(several)
    said = (
        f"{several} names 2, and a run has one {group}; a run of each: -m {group}={','.join(names)}"
    )
    assert (done.code, done.err) == (2, f"error: {said}\n")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="names 2, and a run has one"):
        compose([several])
    with composing(), pytest.raises(UserError, match="names 2, and a run has one"):
        Composer()([several, "seed=1"])  # as a board composes its rows
    with pytest.raises(UserError, match=rf"names 0, .* type {group}=NAME"):
        compose([f"{group}=[]"])


def test_a_list_of_one_and_lists_of_methods_are_as_before() -> None:
    assert compose(["task=[rte]", "method=[hype,bitfit]"]) == compose(
        ["task=rte", "method=[hype,bitfit]"]
    )


def test_a_job_of_a_sweep_may_not_name_several_either(cli: Cli, tmp_path: Path) -> None:
    done = cli("-m", "task=[rte,mrpc],cola", "data=embedded", "own_process=false", "lr=-1")
    assert done.code == 2
    assert "task=[rte,mrpc] names 2, and a run has one task" in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["task=rte", "+task.diagnostics={validation: [accuracy]}"], "local.report holds diagnos"),
        (["task=mnli", "+task.diagnostics.aax=[accuracy]"], "aax: no such split; did you mean ax"),
        (["task=mnli", "task.diagnostics.ax=[pearson]"], "pearson does not suit kind=classific"),
        (["task=mnli", "task.diagnostics.ax=[f1]"], "ax: f1 needs two labels and positive_label"),
        (["task=mnli", "task.metrics=[f1]"], "metric f1 needs two labels and positive_label"),
        (["task=rte", "+task.positive_label=entails"], "=entails is not a label; known: entail"),
        (["task=rte", "~task.local", "~task.hub"], "task=rte says nowhere where its data lies"),
        (["task=rte", "+task.generated=true"], "generated=true: rte has task.local too; leave out"),
        (["task=cft_fd", "+task.hub={path: a, report: {dev: dev}}"], "cft_fd has task.hub too"),
        (["task=rte", "task.text=[label]"], "task.text: label is the answer's column"),
        (["task=rte", "task.text=[sentence1,sentence1]"], "sentence1 is named twice"),
        (["task=rte", "task.labels=[true,false]"], r"task\.labels\.0=True \(must be text: write"),
        (["task=stsb", "task.range=[5,0]"], r"task.range=\[5.0, 0.0\]: the lowest score stands fi"),
        (["task=rte", "task.labels=a"], r"^task.labels='a' \(must be a list, as \[a, b\]\)$"),
        (
            ["task=rte", "~task.local", "+task.local=[a]"],
            r"^task.local=\['a'\] \(must be keys and values, as {a: b}",
        ),
        (["task=rte", "task.metrics=[]"], r"^task.metrics=\[\] \(must hold at least 1\)$"),
        (
            ["task=rte", "++task.local.label_names={0: entailment}"],
            "label_names: the key 0 must be",
        ),
        (["task=rte", "+task.lables=[a]"], "^no key called 'task.lables'; did you mean labels"),
        (
            ["method=lora", "+method.lora.rnk=3"],
            "^no key called 'method.lora.rnk'; did you mean ran",
        ),
        (["+data.txt=a"], "^no key called 'data.txt'; did you mean text"),
        (["data.text=3"], r"^data.text=3 \(must be text: write it in quotes[^;]*$"),
        (["task=rte", "task.labels=[0,1]"], r"task\.labels\.1=1 \(must be text: write it in quo"),
    ],
)
def test_a_task_that_would_fail_later_is_refused_in_a_sentence(given: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configure(*given)


@pytest.mark.parametrize("act", ["verify", "embed"])
@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("{folder}", "that is a folder"),
        ("{folder}/none.json", "no such file"),
        ("'*'", "that is a pattern"),
        ("'[x]'", "that is a pattern"),
    ],
)
def test_what_names_no_record_is_one_line(
    act: str, named: str, said: str, cli: Cli, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one\n")
    more = [f"text={text}", f"out={tmp_path / 'v.npy'}"] if act == "embed" else []
    done = cli(f"{act}={named.format(folder=tmp_path)}", *more)
    assert done.code == 2, done.err
    assert re.fullmatch(
        rf"error: {act}=[^\n]*: {said}; name [^\n]*a record's file[^\n]*\n", done.err
    )


@pytest.mark.parametrize("group", [*(g for g in ONE_OF if g != "board"), "method"])
def test_a_group_set_to_nothing_is_one_line(group: str, cli: Cli) -> None:
    done = cli(f"{group}=null")
    said = f"error: {group}=null: a run has one; type {group}=NAME, or leave it out\n"
    assert (done.code, done.err) == (2, said)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lora.r=4", "method.lora.rank"),
        ("bitfit.l=4", "method.bitfit.lr, with method=bitfit"),
        ("method.adapter.sise=4", "method.adapter.size, with method=adapter"),
        ("rank=4", "method.lora.rank"),
        ("method.lora.rnk=4", "method.lora.rank"),
        ("budget.epcs='${task.nam}'", "budget.epochs"),
        ("budget.epochs='${task.nam}'", "task.name"),
        ("method.lora.r=4", "method.lora.rank"),
        ("method.lora.alph=4", "method.lora.alpha"),
        ("budget.epoch=4", "budget.epochs"),
    ],
)
def test_a_shortened_key_is_looked_for_in_its_own_section(typed: str, meant: str, cli: Cli) -> None:
    done = cli("method=lora", typed)
    assert done.code == 2
    assert done.err.endswith(f"did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["seed='${seed}'"], "seed: it would be its own value; write the value itself"),
        (["lr=1,2"], "lr=1,2 has several values; -m makes a run of each"),
        (["-m", "lr=-1", "--nothing"], "no option --nothing; python run.py --hydra-help lists"),
        (["task.local=[a]"], "task.local=[a]: another kind of value stands there"),
        (["--config-dir", "none"], "/none: no such folder; name one with task/"),
        (["nonsense=4"], "no key called 'nonsense'; known: budget, checkpoint, control, data, "),
    ],
)
def test_what_hydra_says_in_several_lines_is_one(typed: list[str], said: str, cli: Cli) -> None:
    done = cli(*typed, "data=embedded")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert len(done.err) < 400


def test_a_file_of_ones_own_is_named_where_another_is_looked_for(cli: Cli, tmp_path: Path) -> None:
    """An argument after --config-dir was told to be no setting."""
    for group, text in (
        ("task", "defaults: [rtee]\nname: a\n"),
        ("method", "# @package method.lora\nlr: ${model.lr.fll}\n"),
        ("budget", "name: short\nepochs: 1\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    for typed, said in (
        (["task=mine"], "task/mine.yaml: defaults: no task called 'rtee'; did you mean rte?"),
        (
            ["method=mine"],
            "method.lora.lr: no key called 'model.lr.fll'; did you mean model.lr.full",
        ),
        (["budget=mine", "budget.steps=1"], "leaves it out: type +budget.steps=VALUE"),
    ):
        done = cli("--config-dir", str(tmp_path), *typed)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err


def test_options_may_stand_among_keys(cli: Cli, tmp_path: Path) -> None:
    """Hydra's parser took them before or after all keys, and told the rest to be unknown."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("defaults: [rte]\nname: mine\n")
    typed = ["task=mine", "-m", "lr=-1,-2", "--config-dir", str(tmp_path), "own_process=false"]
    done = cli(*typed, "data=embedded")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            *("run 1 of 2: lr=-1", "error: lr=-1 (must be > 0)"),
            *("run 2 of 2: lr=-2", "error: lr=-2 (must be > 0)"),
            *("run 1 was refused: lr=-1", "run 2 was refused: lr=-2"),
        ],
    )


@pytest.mark.parametrize("odd", [{"name": "\ud800"}, {"\ud800": 1}, {"budget": {"\udfff": 1}}])
def test_half_of_a_surrogate_pair_is_named_and_no_traceback(odd: dict[str, object]) -> None:
    given = composed(("task=rte",))
    for changed in (
        {**given, **odd},
        {**given, "task": {**given["task"], **odd}},
        {**given, "method": {"full": odd}},
    ):
        with pytest.raises(UserError):
            check(changed)


@pytest.mark.parametrize(
    "typed",
    [
        ["data.train_size=20", "data.pseudo.teacher=stage"],
        ["data.generated.generator=FOLDER"],
        ["data.mine.source=train"],
    ],
)
def test_rows_that_nobody_labelled_have_no_attributes(typed: list[str]) -> None:
    with pytest.raises(UserError, match=r"which has attributes .guests, occasion.: such rows have"):
        configure("task=tastes", *typed)
