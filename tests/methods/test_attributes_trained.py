"""Runs that read attributes: what trains, what is learnt, and what a delta knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from results.errors import UserError
from runners.config.check import RunConfig
from runners.contract import tiny as of_contract
from runners.data.embedded import tastes
from runners.jobs.job import Job
from runners.machine.device import make_accelerator, make_deterministic
from runners.runs.predict import load_predictor
from runners.tasks.scoring import Scoring
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli, configure, narrow, tiny
from tests.shapes import perturb_trained

Folder = Callable[[str], Path]


def _ready(config: RunConfig) -> Prepared:
    make_deterministic()
    return prepare(Job(config), make_accelerator("cpu", config))


def _tastes(folder: Path, *more: str) -> list[str]:
    given = [a for a in tiny(folder) if not a.startswith("task=")]
    return [*given, "task=tastes", *narrow("attributes"), *more]


def test_drop_trains_the_unknown_row_and_without_it_stays(tiny_folder: Folder) -> None:
    for drop, moves in (("0.3", True), ("0", False)):
        given = _tastes(tiny_folder("bert"), f"method.attributes.drop={drop}", "budget.warmup=0")
        loop = _ready(configure(*given, "budget.steps=4")).loop
        table = loop.model.attr.tables[0].weight  # type: ignore[union-attr,index]
        before = table.detach().clone()
        loop.run(4)
        assert torch.equal(table[0], before[0]) != moves
        assert not torch.equal(table[1:], before[1:])


def test_a_batch_in_parts_is_the_batch(tiny_folder: Folder) -> None:
    given = _tastes(tiny_folder("bert"), "method.attributes.drop=0", "budget.dropout=0")
    gradients = []
    for rows in (None, 3):
        loop = _ready(configure(*given)).loop
        perturb_trained(loop.model)
        loop.micro_batch = rows
        loop._backward(loop.batch(np.arange(8)), loop._owned_loss)
        gradients.append({n: p.grad for n, p in loop.model.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_layers_computed_twice_read_the_vectors_of_their_own_pass(tiny_folder: Folder) -> None:
    """R-Drop makes two passes of a step, each with unknown rows of its own."""
    given = _tastes(tiny_folder("bert"), "method.attributes.drop=0.5", "budget.steps=3")
    given = ["method=[attributes,rdrop]" if a == "method=attributes" else a for a in given]
    ended = []
    for twice in ("false", "true"):
        switch = f"speed.gradient_checkpointing={twice}"
        ready = _ready(configure(*given, switch, "budget.warmup=0", "speed.first_token=false"))
        ready.loop.start(ready.encoded)
        ready.loop.run(3)
        trained = {n: p for n, p in ready.loop.model.named_parameters() if p.requires_grad}
        ended.append({n: p.detach().clone() for n, p in trained.items()})
    assert all(torch.allclose(p, ended[1][n], atol=1e-6) for n, p in ended[0].items())


def _accuracy(ready: Prepared, config: RunConfig, *names: str) -> Scoring:
    scoring = Scoring(Job(config), ready.kind, ready.encoded, make_accelerator("cpu", config))
    scoring(ready.loop.model, names, 0)
    return scoring


def _right(scoring: Scoring, split: str) -> np.ndarray[Any, Any]:
    kept = scoring.predictions[split]
    return np.asarray(kept["predictions"]) == np.asarray(kept["references"])


def test_a_label_that_only_the_attribute_tells_is_learnt_from_it(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    rows = [
        f"{text},{label},{user}\n"
        for text in ("the plot is dull", "the cast is charming")
        for user, label in zip("abcdefgh", "yyynynnn", strict=True)
    ]
    (tmp_path / "rows.csv").write_text("text,label,user\n" + "".join(rows * 4))
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "told.yaml").write_text(
        "name: told\ntext: [text]\nlabels: [y, n]\nmetrics: [accuracy]\nattributes: [user]\n"
        f"local: {{train: {tmp_path}/rows.csv, report: {{validation: {tmp_path}/rows.csv}}}}\n"
    )
    given = [a for a in tiny(tiny_folder("bert")) if not a.startswith(("task=", "data"))]
    given += ["task=told", *narrow("attributes"), "budget.steps=80", "lr=1e-2"]
    for inject, least, most in (("adapter", 0.99, 1), ("none", 0.5, 0.5)):
        config = configure(*given, f"method.attributes.inject={inject}", config_dir=tmp_path)
        ready = _ready(config)
        ready.loop.run(80)
        assert least <= _right(_accuracy(ready, config, "train"), "train").mean() <= most


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny BERT that knows the words of tastes, and passes on what tokens it reads.

    Drawn as tiny as others are, an attention without training would bring nearly nothing of a word
    to the token that the head reads.
    """
    said = [w for side in tastes.SIDES.values() for words in side for w in words]
    said += [*tastes.DISHES, *tastes.ROOMS, *(w for t in tastes.TEMPLATES for w in t.split())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_contract, "TEXTS", [*of_contract.TEXTS, " ".join(said)])
        folder = of_contract.save_bert(tmp_path_factory.mktemp("loud") / "bert")
    path = folder / "model.safetensors"
    scale = {
        n: 20.0 if "word_embeddings" in n else 1.0 if "embeddings" in n else 8.0
        for n in load_file(path)
    }
    louder = {n: t * scale[n] if t.ndim == 2 else t for n, t in load_file(path).items()}
    save_file(louder, path, metadata={"format": "pt"})
    return folder


def test_tastes_are_learnt_from_text_and_attributes_and_not_from_the_text(loud: Path) -> None:
    """Any answer to the text alone is right in exactly half of the rows, as they are built."""
    given = ["task=tastes", "data=embedded", "device=cpu", f"model.name_or_path={loud}"]
    given += ["method=attributes", "method.attributes.size=32"]
    given += ["budget.max_length=48", "budget.batch_size=64"]
    given += ["budget.evaluate=end", "budget.dropout=0", "lr=3e-3"]
    config = configure(*given, "budget.steps=10", "method.attributes.inject=none")
    ready = _ready(config)
    ready.loop.run(10)
    assert _right(_accuracy(ready, config, "validation"), "validation").mean() == 0.5

    own = [f"method.attributes.{option}" for option in ("std=1", "dimension=32", "drop=0")]
    config = configure(*given, "budget.steps=200", *own)
    ready = _ready(config)
    ready.loop.run(200)
    scoring, job = _accuracy(ready, config, "train", "validation"), Job(config)
    assert _right(scoring, "train").mean() > 0.75
    known, rows = set(job.attributes["guests"]), job.data.report["validation"].attributes or ()
    seen = np.asarray([set(guests) <= known for guests, _ in rows])
    assert _right(scoring, "validation")[seen].mean() > 0.65


def test_a_delta_knows_its_values_and_answers_with_them(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    done = cli(*_tastes(tiny_folder("bert")), "save=delta", "threads=1")
    assert done.code == 0, done.err
    [path] = (tmp_path / "runs").glob("*.delta")
    about = json.loads((path / "delta.json").read_text())
    [record] = (tmp_path / "runs").glob("*.json")
    kept = json.loads(record.read_text())
    counts = kept["method_reports"]["attributes"]["known_values"]
    assert {name: len(values) for name, values in about["attributes"].items()} == counts
    scored = cli(f"eval={path}", "device=cpu", "threads=1")
    assert scored.code == 0, scored.err
    assert "predictions equal the record's" in scored.out

    chained = [*_tastes(tiny_folder("bert")), "threads=1", f"start={record.stem}"]
    assert cli(*chained).code == 0
    other = cli(*(a for a in chained if "train_size" not in a), "data.train_size=8")
    assert other.code == 2
    assert "its train has other values of guests, occasion than this run's" in other.err
    own = [a for a in _tastes(tiny_folder("bert")) if not a.startswith("task=")]
    chain = cli(*own, "stages=[tastes,tastes]", "stages.1.data.train_size=8", "plan=true")
    assert chain.code == 2  # before a stage is begun
    assert "start from task=tastes: its train has other values of guests" in chain.err

    predict = load_predictor(path, device="cpu")
    texts = ["the soup was hot"] * 4
    guests: list[Any] = ["anna|zz", ["zz", "anna"], "", "nobody"]
    answers = predict(texts, {"guests": guests, "occasion": ["wedding"] * 4}).probabilities
    assert answers is not None
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[2], answers[3])
    with pytest.raises(UserError, match="reads the attributes guests, occasion, and none were"):
        predict(texts)
    with pytest.raises(UserError, match="attribute guests has 1 cells for 4 rows"):
        predict(texts, {"guests": ["anna"], "occasion": ["wedding"] * 4})

    table = tmp_path / "rows.jsonl"
    lines = [
        {"remark": t, "guests": g, "occasion": "wedding"}
        for t, g in zip(texts, guests, strict=True)
    ]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "answers.jsonl"
    asked = [f"predict={path}", f"text={table}", f"out={out}", "device=cpu"]
    assert cli(*asked).code == 0
    written = [json.loads(line)["probability_praise"] for line in out.read_text().splitlines()]
    assert written == pytest.approx(answers[:, 1].tolist(), abs=1e-8)
    table.write_text('{"remark": "a soup", "guests": "anna"}\n')
    refused = cli(*asked)
    assert refused.code == 2
    assert "line 1 has no column 'occasion', which task=tastes reads" in refused.err
    table.write_text('{"remark": "a soup", "guests": {"a": 1}, "occasion": null}\n')
    assert "its guests is {'a': 1}; a value is a text" in cli(*asked).err

    about["attributes"]["guests"].pop()
    about.pop("content_sha256", None)
    (path / "delta.json").write_text(json.dumps(about))
    assert cli(f"eval={path}", "device=cpu").code == 2


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["task=rte"], "attributes reads attributes, and task=rte names none"),
        (["task=mlm", "mlm.on=[cola]"], "reads attributes of whole texts; task=mlm"),
        (["task=tastes", "method.attributes.inject=text", "budget.truncate=tail"], "cuts off what"),
        (["task=tastes", "+method.dp.epsilon=1"], "no noise of dp hides"),
    ],
)
def test_what_cannot_be_read_is_refused(typed: list[str], said: str) -> None:
    method = "method=[attributes,dp]" if "dp" in typed[-1] else "method=attributes"
    typed = [argument for argument in typed if "dp" not in argument]
    with pytest.raises(UserError, match=said):
        configure(method, *typed)
