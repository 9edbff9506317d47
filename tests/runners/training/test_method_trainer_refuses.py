"""What a Trainer with methods refuses, as the weights would not be those of the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, TrainingArguments

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
