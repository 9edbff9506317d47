"""An exported model is the trained one: in a process without tunebench, for every method."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from methods.registry import default_options, method_class, registered
from results.errors import UserError
from runners.config.check import RunConfig, check
from runners.exports.model import (
    TOLERANCE,
    NotPlain,
    check_plain,
    checked_model,
    export_model,
    plain_model,
    plain_tensors,
)
from runners.models.build import apply_methods, load_pretrained
from runners.models.pretrained import Loaded
from runners.models.weights import find_weights
from runners.tasks.cut import cut_texts
from tests.alone import alone
from tests.conftest import EACH_KIND, SMALL, composed, task_of
from tests.tiny import ARCHITECTURES

Folder = Callable[[str], Path]
PAIRS = [
    ["who bought the house", "anna bought it"],
    ["the plot is dull", "the music is warm and the cast is charming " * 9],  # is cut
    ["dogs are asleep", "cats are not"],
]
SINGLE = [[pair[1]] for pair in PAIRS]
LENGTH = 24
WHOLE = [m for m, cls in EACH_KIND.items() if not cls.represents and not cls.leaves]
LEAVES = [m for m, cls in registered().items() if not cls.represents and cls.leaves]
REPRESENT = [m for m, cls in registered().items() if cls.represents]


def _changed(config: RunConfig, scale: float = 0.05) -> Loaded:
    """Return a run's model with noise in all that it trains, as training would leave it."""
    weights = find_weights(config.settings.model)
    loaded = apply_methods(config, load_pretrained(config, weights), weights, total_steps=1)
    stream = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=stream)
                parameter.add_(noise, alpha=scale)
    loaded.model.eval()
    return loaded


def _ours(config: RunConfig, loaded: Loaded, texts: list[list[str]]) -> torch.Tensor:
    """Return our model's logits of each row by itself, cut as a run cuts it: no padding."""
    rows, end = [], config.settings.budget.truncate
    for row in texts:
        if len(row) == 1:
            tokens, _ = cut_texts(row, loaded.tokenizer, LENGTH, end)
        else:
            tokens = loaded.tokenizer(*[[t] for t in row], truncation=True, max_length=LENGTH)
        with torch.no_grad():
            rows.append(loaded.model(**{k: torch.tensor(v) for k, v in tokens.items()}).logits[0])
    return torch.stack(rows)


class _Asked:
    """Exports models and keeps what ours say, until one process is asked for them all."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked: dict[str, dict[str, Any]] = {}
        self.ours: dict[str, torch.Tensor] = {}

    def add(self, name: str, config: RunConfig, texts: list[list[str]], **more: Any) -> None:
        loaded, folder = _changed(config), self.place / f"{name}.model"
        export_model(folder, loaded, config, "# a card\n")
        auto = more.pop("auto", "AutoModelForSequenceClassification")
        self.asked[name] = {"folder": str(folder), "auto": auto, "texts": texts, **more}
        self.ours[name] = _ours(config, loaded, texts) if auto != MASKED else _tokens(loaded, texts)


MASKED = "AutoModelForMaskedLM"


def _tokens(loaded: Loaded, texts: list[list[str]]) -> torch.Tensor:
    """Return logits of every token of texts of one length, [texts, tokens, words]."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    tokens = loaded.tokenizer(*columns, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(**tokens).logits
    return logits


def _typed(folder: Path, task: str, **methods: dict[str, Any]) -> RunConfig:
    """Return a run's configuration; `methods` are named with what is not as their class has it."""
    return check(_composed(folder, task, **methods))


def _composed(folder: Path, task: str, **methods: dict[str, Any]) -> dict[str, Any]:
    whole = composed((*SMALL, f"task={task}"))
    chosen = {name: default_options(method_class(name)) | own for name, own in methods.items()}
    return {
        **whole,
        "model": {**whole["model"], "package": None, "sha256": None, "untrained": []}
        | {"name_or_path": str(folder), "name": "tiny"},
        "budget": {**whole["budget"], "max_length": LENGTH},
        "data": {**whole["data"], **({"text": "lines.txt"} if task == "mlm" else {})},
        "method": chosen or whole["method"],
    }


def _narrow(method: str) -> dict[str, Any]:
    return {method: dict(method_class(method).narrow)}


def _options(folder: Path) -> RunConfig:
    """Return a run of a task of one's own with three options."""
    task = {
        "name": "colours", "kind": "multiple_choice", "text": ["question"],
        "options": ["first", "second", "third"], "labels": ["A", "B", "C"],
        "metrics": ["accuracy"], "local": {"train": "t.csv", "report": {"validation": "d.csv"}},
    }  # fmt: skip
    return check({**_composed(folder, "rte", lora={}), "task": task})


OPTIONS = [["who is asleep", f"the {word} are"] for word in ("dogs", "cats", "music")] * 2


@pytest.fixture(scope="module")
def answered(
    tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[_Asked, Mapping[str, Any]]:
    """Return our logits, and a stranger's of the same texts from the folders, by name."""
    asked, bert = _Asked(tmp_path_factory.mktemp("alone")), tiny_folder("bert")
    for method in WHOLE:
        asked.add(method, _typed(bert, "rte", **_narrow(method)), PAIRS)
    asked.add("composed", _typed(bert, "rte", lora={}, rdrop={}, hype={}), PAIRS)
    asked.add("single", _typed(bert, "sst2"), SINGLE, pipeline=True)
    tail = _composed(bert, "sst2")
    tail["budget"]["truncate"] = "tail"
    asked.add("tail", check(tail), SINGLE)
    asked.add("classes", _typed(bert, "mnli", ia3={}), PAIRS, pipeline=True)
    asked.add("score", _typed(bert, "stsb"), PAIRS, pipeline=True)
    masked = _typed(bert, "mlm", lora={})
    asked.add("masked", masked, [["dogs are asleep"], ["cats are not"]], auto=MASKED)
    for name in ARCHITECTURES:
        folder = tiny_folder(name)
        if name in ("roberta", "modernbert", "t5"):
            asked.add(f"lora {name}", _typed(folder, "rte", lora={}), PAIRS)
        if name == "xlnet":
            asked.add(f"full {name}", _typed(folder, "rte"), PAIRS)
        if name in ("xlnet", "t5"):
            continue
        choice = {"auto": "AutoModelForMultipleChoice", "options": 3}
        asked.add(f"options {name}", _options(folder), OPTIONS, **choice)
    return asked, alone(asked.asked, asked.place)


def test_every_method_is_either_whole_or_refused_by_name(tiny_folder: Folder) -> None:
    bert = tiny_folder("bert")
    assert {*WHOLE, *LEAVES, *REPRESENT} == {*EACH_KIND, *LEAVES}
    assert {"lora", "ia3", "full", "mixout"} < set(WHOLE)
    for method in (*LEAVES, *REPRESENT):
        task = task_of(method, "rte")
        with pytest.raises(UserError, match=rf"save=model: method={method} ") as refused:
            check({**_composed(bert, task, **_narrow(method)), "save": "model"})
        assert "use save=" in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("method", LEAVES)
def test_what_is_refused_would_answer_otherwise(method: str, tiny_folder: Folder) -> None:
    config = _typed(tiny_folder("bert"), task_of(method, "rte"), **_narrow(method))
    loaded = _changed(config)
    with pytest.raises(NotPlain):
        checked_model(loaded, config)


def test_a_stranger_gets_our_logits_for_every_method(
    answered: tuple[_Asked, Mapping[str, Any]],
) -> None:
    """To rounding: merged matrices, and a last layer computed whole and in padded batches."""
    asked, answers = answered
    for name, ours in asked.ours.items():
        theirs = torch.tensor(answers[name]["logits"])
        assert theirs.numel() == ours.numel(), name
        largest = max(1.0, float(ours.abs().max()))
        apart = float((theirs.flatten() - ours.flatten()).abs().max())
        assert apart <= 5e-6 * largest, (name, apart)
        assert answers[name]["lacking"] == [], name
        assert answers[name]["attention"] != "sdpa_fast_dropout"
        assert not answers[name]["training"]
        assert answers[name]["longest"] == LENGTH
    assert 5e-6 < TOLERANCE < 1e-3


def test_models_differ_from_those_that_lack_a_methods_part(
    tiny_folder: Folder,
) -> None:
    """The trap: what save_pretrained leaves of LoRA is loaded, and answers otherwise."""
    config = _typed(tiny_folder("bert"), "rte", lora={})
    loaded = _changed(config, scale=0.3)
    whole = _ours(config, loaded, PAIRS)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert float((_ours(config, loaded, PAIRS) - whole).abs().max()) > 10 * TOLERANCE


def test_pipeline_names_the_labels(answered: tuple[_Asked, Mapping[str, Any]]) -> None:
    asked, answers = answered
    names = {"single": ["negative", "positive"], "classes": None, "score": ["score"]}
    for name, labels in names.items():
        for row, given in zip(asked.ours[name], answers[name]["pipeline"], strict=True):
            scores = {one["label"]: one["score"] for one in given}
            config = json.loads((Path(asked.asked[name]["folder"]) / "config.json").read_text())
            ordered = [config["id2label"][str(i)] for i in range(len(row))]
            assert config["label2id"] == {label: i for i, label in enumerate(ordered)}
            assert labels is None or ordered == labels
            expected = row if name == "score" else row.softmax(-1)  # a score as it is
            assert [scores[label] for label in ordered] == pytest.approx(
                expected.tolist(), abs=1e-5
            )
    assert set(config["id2label"].values()) == {"score"}
    assert config["problem_type"] == "regression"


def test_a_folder_is_whole_and_names_no_place_of_this_machine(
    answered: tuple[_Asked, Mapping[str, Any]], tiny_folder: Folder
) -> None:
    asked, _ = answered
    for name, one in asked.asked.items():
        folder = Path(one["folder"])
        files = {path.name: path for path in folder.iterdir()}
        assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
        assert not [n for n in files if n.endswith((".bin", ".pt", ".pkl", ".py"))], name
        for path in files.values():
            assert stat.S_IMODE(path.stat().st_mode) == 0o644
            if path.suffix in (".json", ".md"):
                text = path.read_text()
                assert str(tiny_folder("bert").parent) not in text, path
                assert "fast_dropout" not in text, path
                assert '"truncation": {' not in text, path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    tail = json.loads((asked.place / "tail.model" / "tokenizer_config.json").read_text())
    assert tail["truncation_side"] == "left"


def test_merged_matrices_are_the_papers(tiny_folder: Folder) -> None:
    """LoRA's W + (α/r) B A, and (IA)³'s scaled rows and columns, written out; ours stay as is."""
    for method in ("lora", "ia3"):
        config = _typed(tiny_folder("bert"), "rte", **{method: {}})
        model = _changed(config).model
        before = {n: t.clone() for n, t in model.state_dict().items()}
        merged = plain_tensors(model)
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
        place = "bert.encoder.layer.1.attention.self.value"
        weight, bias = (before[f"{place}.base_layer.{k}"] for k in ("weight", "bias"))
        if method == "lora":
            up, down = (before[f"{place}.lora_{k}.default.weight"] for k in "BA")
            weight = weight + 16 / 8 * up @ down
        else:
            scale = before[f"{place}.ia3_l.default"]  # (width, 1)
            weight, bias = weight * scale, bias * scale.flatten()
            into = "bert.encoder.layer.1.output.dense"
            inner = before[f"{into}.base_layer.weight"] * before[f"{into}.ia3_l.default"]
            assert torch.allclose(merged[f"{into}.weight"], inner, atol=1e-7)
            assert torch.equal(merged[f"{into}.bias"], before[f"{into}.base_layer.bias"])
        assert torch.allclose(merged[f"{place}.weight"], weight, atol=1e-7)
        assert torch.allclose(merged[f"{place}.bias"], bias, atol=1e-7)
        assert not any("base_layer" in name for name in merged)


def test_a_check_before_training_draws_nothing_and_leaves_the_mode(tiny_folder: Folder) -> None:
    config = _typed(tiny_folder("bert"), "rte", lora={}, hype={})
    loaded = _changed(config)
    loaded.model.train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    check_plain("save=model", loaded, config)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.model.training
    assert not any(method.paused for method in config.methods)


def test_somebody_elses_method_that_adds_something_is_named(tiny_folder: Folder) -> None:
    """Neither a module nor a hook of a method that does not say what it leaves gets through."""
    config = _typed(tiny_folder("bert"), "rte")
    hooked, more = _changed(config), _changed(config)
    hooked.model.get_input_embeddings().register_forward_hook(lambda *given: given[2] * 2)
    more.model.add_module("extra", torch.nn.Linear(2, 2))
    for loaded, why in ((hooked, "its logits lie"), (more, "unexpected tensors, such as extra")):
        with pytest.raises(UserError, match=why) as refused:
            check_plain("save=model", loaded, config)
        assert str(refused.value).startswith("save=model with method=full: ")
    with torch.no_grad():
        hooked.model.classifier.weight.fill_(torch.nan)
    with pytest.raises(NotPlain, match="nan apart"):
        checked_model(hooked, config)


def test_a_broken_disk_leaves_nothing(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _typed(tiny_folder("bert"), "rte")
    loaded = _changed(config)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(loaded.tokenizer), "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        export_model(tmp_path / "x.model", loaded, config, "")
    assert list(tmp_path.iterdir()) == []


def test_an_exported_model_is_one_that_runs_may_start_from(
    answered: tuple[_Asked, Mapping[str, Any]],
) -> None:
    """Its head is left aside, its encoder is the trained one."""
    asked, _ = answered
    folder = asked.place / "lora.model"
    config = _typed(folder, "mnli")
    loaded = load_pretrained(config, find_weights(config.settings.model))
    stored, own = load_file(folder / "model.safetensors"), loaded.model.state_dict()
    encoder = [name for name in stored if name.startswith("bert.")]
    assert encoder
    assert all(torch.equal(stored[name], own[name]) for name in encoder)
    assert own["classifier.weight"].shape[0] == 3


def test_an_architecture_without_a_head_over_options_is_named(tiny_folder: Folder) -> None:
    config = _options(tiny_folder("bert"))
    loaded = _changed(config)
    with pytest.MonkeyPatch.context() as patch:
        import transformers

        def unknown(*given: object) -> None:
            raise ValueError("Unrecognized configuration class")

        patch.setattr(transformers.AutoModelForMultipleChoice, "from_config", unknown)
        with pytest.raises(NotPlain, match="of a bert model none is known that chooses"):
            plain_model(loaded.model, config)
