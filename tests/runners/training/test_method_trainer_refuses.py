"""What a Trainer with methods refuses, as the weights would not be those of the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    TrainingArguments,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from methods.registry import method_class
from results.errors import UserError
from runners.training.method_trainer import MethodTrainer
from runners.training.trainer_arguments import CHANGED_BY_CHECKPOINTING
from tests.runners.training.test_method_trainer import OURS

Folder = Callable[[str], Path]


def _arguments(folder: Path, **more: Any) -> TrainingArguments:
    given: dict[str, Any] = {
        "learning_rate": 0.1,
        "optim": "sgd",
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "seed": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainingArguments(output_dir=str(folder), **given | more)


def _fresh(folder: Path, **more: Any) -> Any:
    """Return a tiny model that is the same at each call."""
    torch.manual_seed(3)
    return AutoModelForSequenceClassification.from_pretrained(folder, **{"num_labels": 2} | more)


def _rows(count: int = 4) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 40, (count, 8), generator=draw)
    return [
        {"input_ids": row, "attention_mask": torch.ones_like(row), "labels": i % 2}
        for i, row in enumerate(ids)
    ]


def _trainer(name: str, model: Any, arguments: TrainingArguments, **more: Any) -> MethodTrainer:
    options = {name: method_class(name).narrow}
    given: dict[str, Any] = {"train_dataset": _rows(), "max_length": 16} | more
    return MethodTrainer(model, arguments, methods=options, **given)


@pytest.mark.parametrize("name", OURS)
def test_layers_computed_twice_give_the_same_weights_or_are_refused(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    def weights(twice: bool) -> dict[str, torch.Tensor]:
        arguments = _arguments(tmp_path, gradient_checkpointing=twice)
        trainer = _trainer(name, _fresh(tiny_folder("bert")), arguments)
        trainer.train()
        return dict(trainer.model.state_dict())

    if name in CHANGED_BY_CHECKPOINTING:
        with pytest.raises(UserError, match=f"method={name} speed.gradient_checkpointing=true"):
            weights(twice=True)
        return
    once, twice = weights(twice=False), weights(twice=True)
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


@pytest.mark.parametrize("name", sorted(CHANGED_BY_CHECKPOINTING))
def test_a_model_that_computes_layers_twice_already_is_refused(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    model = _fresh(tiny_folder("bert"))
    model.gradient_checkpointing_enable()
    with pytest.raises(UserError, match=f"{name} would train wrongly where layers are computed"):
        _trainer(name, model, _arguments(tmp_path))
    model.gradient_checkpointing_disable()
    _trainer(name, model, _arguments(tmp_path))


class Own(BertPreTrainedModel):
    """A classifier of a user's own, whose encoder has the name that a test gives it."""

    def __init__(self, config: BertConfig, encoder: str) -> None:
        super().__init__(config)
        self.called = encoder
        self.add_module(encoder, BertModel(config))
        self.classifier = torch.nn.Linear(config.hidden_size, 2)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None
    ) -> SequenceClassifierOutput:
        states = getattr(self, self.called)(input_ids, attention_mask=attention_mask)
        logits = self.classifier(states.pooler_output)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Unnamed(Own):
    base_model_prefix = ""


def _small() -> BertConfig:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertConfig(vocab_size=40, intermediate_size=8, max_position_embeddings=32, **sizes)


HEAD = ["classifier.weight", "classifier.bias"]


@pytest.mark.parametrize("name", ["full", "linear", "noisytune", "wd_pre", "lora", "mixout"])
@pytest.mark.parametrize("head", [None, HEAD], ids=["head by name", "head given"])
def test_a_model_whose_encoder_is_not_known_is_refused(
    name: str, head: list[str] | None, tmp_path: Path
) -> None:
    model = Own(_small(), "encoder")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    why = (
        r"not known where Own has its encoder, .* with 'bert\.', .*: call the attribute self\.bert"
    )
    with pytest.raises(UserError, match=why):
        _trainer(name, model, _arguments(tmp_path), head=head)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    with pytest.raises(UserError, match="where Unnamed has its encoder: set base_model_prefix"):
        _trainer(name, Unnamed(_small(), "encoder"), _arguments(tmp_path), head=head)


def test_a_bare_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not known where BertModel has its encoder"):
        _trainer("full", BertModel(_small()), _arguments(tmp_path))


def test_an_own_model_with_the_encoder_in_its_place_trains_its_head(tmp_path: Path) -> None:
    model = Own(_small(), "bert")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    _trainer("linear", model, _arguments(tmp_path)).train()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(HEAD)


def _of_several_outputs(problem: str | None, folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Return a model with three outputs, and rows of three labels each."""
    rows = [{**row, "labels": torch.tensor([1.0, 0.0, i % 2])} for i, row in enumerate(_rows())]
    return _fresh(folder, num_labels=3, problem_type=problem), rows


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
@pytest.mark.parametrize("name", ["r3f", "rdrop", "setfit", "sift", "smart"])
def test_outputs_that_are_no_classes_are_not_compared_as_such(
    name: str, problem: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    model, rows = _of_several_outputs(problem, tiny_folder("bert"))
    with pytest.raises(UserError, match=f"{name} (compares|makes) .*problem_type={problem} has"):
        _trainer(name, model, _arguments(tmp_path), train_dataset=rows)


@pytest.mark.parametrize("name", ["r3f", "rdrop", "setfit", "sift", "smart"])
def test_labels_that_first_say_so_are_refused_before_a_step(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Transformers takes several numbers for several labels, where nothing says what they are."""
    model, rows = _of_several_outputs(None, tiny_folder("bert"))
    trainer = _trainer(name, model, _arguments(tmp_path), train_dataset=rows)
    before = model.classifier.weight.detach().clone()
    with pytest.raises(UserError, match=f"{name} .*problem_type=multi_label_classification has"):
        trainer.train()
    assert torch.equal(model.classifier.weight, before)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression", None])
@pytest.mark.parametrize("name", ["freelb", "full"])
def test_methods_that_take_the_models_own_loss_train_several_outputs(
    name: str, problem: str | None, tiny_folder: Folder, tmp_path: Path
) -> None:
    model, rows = _of_several_outputs(problem, tiny_folder("bert"))
    before = model.classifier.weight.detach().clone()
    _trainer(name, model, _arguments(tmp_path), train_dataset=rows).train()
    assert not torch.equal(model.classifier.weight, before)


@pytest.mark.parametrize("name", ["r3f", "rdrop", "sift", "smart"])
def test_a_single_score_is_compared_as_a_score(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    rows = [{**row, "labels": float(row["labels"])} for row in _rows()]
    model = _fresh(tiny_folder("bert"), num_labels=1, problem_type="regression")
    _trainer(name, model, _arguments(tmp_path), train_dataset=rows).train()
