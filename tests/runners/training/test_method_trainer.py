"""A Trainer with methods takes the steps of our loop, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    TrainerCallback,
    TrainingArguments,
)

from methods.method import Method
from methods.registry import method_class
from results.errors import UserError
from runners.contract.parts import configure, prepared, tiny, typed
from runners.jobs.job import Job
from runners.models.build import kept_tensors, load_pretrained
from runners.seeds import derive
from runners.training.loop import Loop
from runners.training.method_trainer import MethodTrainer
from tests.conftest import EACH_KIND
from tests.methods.shake import shake_installed

Folder = Callable[[str], Path]
STEPS = 12  # an epoch
PLAIN = (
    *(
        "task=rte",
        "seed=1",
        "threads=1",
        f"budget.steps={STEPS}",
        "budget.batch_size=4",
        "budget.max_length=48",
        "lr=1e-3",
    ),
    *("budget.warmup=0.2", "speed.fast_dropout=false", "speed.first_token=false"),
    *("speed.trim_vocabulary=false", "speed.onednn=false"),
)
OURS = sorted(
    name
    for name, cls in EACH_KIND.items()
    if cls.__module__.startswith("methods.")
    and not cls.represents
    and not cls.owns & {"gradient", "average"}
    and cls.criterion is Method.criterion
    and cls.model_head is None
    and name != "attributes"
)
TOGETHER = (("hype", "bitfit"), ("rdrop", "lora"), ("child_tuning_d", "mixout", "llrd"))


class Batches(torch.utils.data.Dataset[Any]):
    """Batches of our loop as the rows of a data set, in their order."""

    def __init__(self, batches: Sequence[dict[str, torch.Tensor]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.batches[index]


class InOrder(MethodTrainer):
    """Takes the rows as they lie."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def _arguments(folder: Path, **more: Any) -> TrainingArguments:
    given: dict[str, Any] = {
        "learning_rate": 1e-3,
        "warmup_steps": 0.2,
        "per_device_train_batch_size": 1,
        "max_steps": STEPS,
        "seed": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "weight_decay": 0.0,
    }
    return TrainingArguments(output_dir=str(folder), **given | more)


def _config(names: Sequence[str], folder: Path) -> Any:
    options = [o for name in names for o in typed(name, method_class(name).narrow)]
    return configure(*tiny(folder, f"method=[{','.join(names)}]", *options, *PLAIN))


def _fresh(model: Path, dropout: float = 0.1) -> Any:
    """Return a tiny model that is the same at each call."""
    torch.manual_seed(3)
    return AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=2, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )


def _rows(count: int = 24) -> list[dict[str, Any]]:
    """Return rows of one length, of two classes that can be told apart."""
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 40, (count, 8), generator=draw)
    return [
        {"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 2}
        for row in ids
    ]


def _both(
    names: Sequence[str], model: Path, folder: Path, **more: Any
) -> tuple[Loop, MethodTrainer]:
    """Return our loop before its first step, and a Trainer of the same model and batches."""
    config = _config(names, model)
    loop, _ = prepared(config)
    job = Job(config)
    fresh = load_pretrained(config, job.weights)
    batches = [{k: v.clone() for k, v in b.items()} for b in loop._batches(0, loop.steps)]
    trainer = InOrder(
        fresh.model,
        _arguments(folder, weight_decay=loop.budget.weight_decay, **more),
        methods={name: method_class(name).narrow for name in names},
        head=sorted(fresh.head),
        train_dataset=Batches(batches),
        data_collator=lambda rows: rows[0],
        processing_class=fresh.tokenizer,
        max_length=48,
    )
    return loop, trainer


@pytest.mark.parametrize("names", [*((name,) for name in OURS), *TOGETHER], ids="+".join)
def test_steps_are_our_loops(names: tuple[str, ...], tiny_folder: Folder, tmp_path: Path) -> None:
    loop, trainer = _both(names, tiny_folder("bert"), tmp_path)
    trainer.train()
    torch.manual_seed(derive(1, "dropout"))
    loop.run(loop.steps)
    ours, theirs = dict(loop.model.named_parameters()), dict(trainer.model.named_parameters())
    assert ours.keys() == theirs.keys()
    differ = {n for n, p in ours.items() if not torch.equal(p, theirs[n])}
    assert differ == set()
    kept = kept_tensors(loop.model, loop.methods)
    delta = trainer.delta()
    assert kept.keys() == delta.keys()
    assert all(torch.equal(kept[name], delta[name]) for name in kept)


def test_a_method_of_another_package_takes_its_steps_too(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    def weights(methods: Any) -> torch.Tensor:
        model = _fresh(tiny_folder("bert"))
        MethodTrainer(model, _arguments(tmp_path), methods=methods, train_dataset=_rows()).train()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with shake_installed():
        shaken, still = weights(["shake"]), weights({"shake": {"strength": 0.0}})
        with pytest.raises(UserError, match="strenght"):
            weights({"shake": {"strenght": 0.0}})
    assert not torch.equal(shaken, still)
    assert torch.equal(still, weights(["full"]))


def test_a_log_without_its_package_is_the_trainers_to_refuse(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    given = _arguments(tmp_path, report_to="wandb")
    with pytest.raises(RuntimeError, match="wandb to be installed"):
        MethodTrainer(_fresh(tiny_folder("bert")), given, methods=["full"], train_dataset=_rows())


@pytest.mark.parametrize("name", ["bitfit", "child_tuning_f", "mixout", "raft", "unipelt"])
def test_resumed_training_is_training_that_was_not_interrupted(
    name: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    def trainer(**more: Any) -> MethodTrainer:
        given = {"save_strategy": "steps", "save_steps": 5, "per_device_train_batch_size": 4}
        arguments = _arguments(tmp_path, **given | more)
        return MethodTrainer(
            _fresh(tiny_folder("bert")),
            arguments,
            methods={name: method_class(name).narrow},
            train_dataset=_rows(),
            max_length=48,
        )

    whole = trainer()
    whole.train()
    assert whole.state.epoch == 2
    resumed = trainer(save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert resumed.state.global_step == STEPS
    ours, theirs = whole.model.state_dict(), resumed.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    methods = [[m.state_dict() for m in t.methods] for t in (whole, resumed)]
    assert repr(methods[0]) == repr(methods[1])


def test_evaluation_logs_and_callbacks_are_the_trainers(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    steps: list[int] = []

    class Counts(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            steps.append(state.global_step)

    given = {"eval_strategy": "steps", "eval_steps": 6, "logging_steps": 3, "save_steps": 6}
    given |= {"save_strategy": "steps", "load_best_model_at_end": True}
    trainer = MethodTrainer(
        _fresh(tiny_folder("bert")),
        _arguments(tmp_path / "out", per_device_train_batch_size=4, **given),
        methods=["lora"],
        train_dataset=_rows(),
        eval_dataset=_rows(8),
        callbacks=[Counts()],
    )
    trainer.train()
    assert steps == list(range(1, STEPS + 1))
    logs = trainer.state.log_history
    assert [one["step"] for one in logs if "grad_norm" in one] == [3, 6, 9, 12]
    losses = [one["eval_loss"] for one in logs if "eval_loss" in one]
    assert trainer.evaluate()["eval_loss"] == min(losses)  # the best weights are there again
    trainer.save_delta(tmp_path / "delta")
    kept = load_file(tmp_path / "delta" / "delta.safetensors")
    trained = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert kept.keys() == trained
    assert any("lora_A" in name for name in kept)


def test_parts_of_a_batch_are_the_batch(tiny_folder: Folder, tmp_path: Path) -> None:
    ends = []
    for size, parts in ((8, 1), (4, 2)):
        given = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        trainer = InOrder(
            _fresh(tiny_folder("bert"), dropout=0.0),
            _arguments(tmp_path, **given | {"max_steps": 3}),
            methods=["wd_pre"],
            train_dataset=_rows(),
        )
        trainer.train()
        ends.append(trainer.delta())
    assert all(torch.allclose(ends[0][n], t, atol=1e-5) for n, t in ends[1].items())


@pytest.mark.parametrize(
    ("methods", "more", "why"),
    [
        (["bitfit", "lora"], {}, "bitfit and lora both choose which parameters train"),
        (["wd_pre", "lora"], {}, "wd_pre acts on the encoder's matrices that train"),
        (["bitft"], {}, "no method called 'bitft'; did you mean bitfit"),
        ([], {}, "no method is named"),
        ({"lora": {"ranks": 4}}, {}, "no key called 'method.lora.ranks'"),
        ({"lora": {"lr": 1e-3}}, {}, "method.lora.lr: the rate is args.learning_rate"),
        (["dp"], {}, "dp computes the gradients from batches that it draws itself"),
        (
            ["sam"],
            {},
            "sam takes several gradients of a batch, a Trainer's step one: use tunebench",
        ),
        (["swa"], {}, "swa has other weights evaluated and kept than are trained"),
        (
            ["label_smoothing"],
            {},
            "smooth them by args.label_smoothing_factor, or use tunebench.run",
        ),
        (["attributes"], {}, "attributes reads attributes, which a Trainer's batches do not hold"),
        (["simcse"], {}, "simcse makes vectors of sentences"),
        (["promptbert"], {}, "promptbert makes vectors of sentences"),
        (["embedding"], {}, "embedding makes vectors of sentences"),
        (["mlm_prompt"], {}, "mlm_prompt lays out texts, or loads a model, by itself"),
        (["unimc"], {}, "unimc lays out texts, or loads a model, by itself"),
        (["full"], {"args": None}, "args is missing"),
        (["full"], {"model_init": _fresh}, "give it model=, not model_init="),
        (["full"], {"model": torch.nn.Linear(2, 2)}, "Linear is no model of transformers"),
        (["full"], {"head": ["classifier"]}, "head: the model has no parameter classifier"),
        (["full"], {"optimizers": (1, None)}, "optimizers= would pass over the methods' groups"),
        (["prompt"], {"max_length": 60}, "more than the 64 positions of this model; use max_l"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    methods: Any, more: dict[str, Any], why: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = {"model": _fresh(tiny_folder("bert")), "args": _arguments(tmp_path)} | more
    with pytest.raises(UserError, match=why):
        MethodTrainer(methods=methods, train_dataset=_rows(), **given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"fp16": True, "use_cpu": True}, "args.fp16 scales the gradients"),
        ({"auto_find_batch_size": True}, "args.auto_find_batch_size begins steps anew"),
    ],
)
def test_arguments_that_do_not_meet_methods_are_refused(
    given: dict[str, Any], why: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    arguments = _arguments(tmp_path)
    for key, value in given.items():
        setattr(arguments, key, value)
    with pytest.raises(UserError, match=why):
        MethodTrainer(_fresh(tiny_folder("bert")), arguments, train_dataset=_rows())


def test_several_processes_are_refused(
    tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _arguments(tmp_path)
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda self: 2))
    with pytest.raises(UserError, match="in one process on one device, not on 2"):
        MethodTrainer(_fresh(tiny_folder("bert")), arguments, methods=["bitfit"])


def test_a_model_of_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 40, "n_positions": 16}
    model = GPT2ForSequenceClassification(GPT2Config(**sizes))
    with pytest.raises(UserError, match="not known where a gpt2 model has its layers"):
        MethodTrainer(model, _arguments(tmp_path), methods=["hype"], train_dataset=_rows())


def test_a_checkpoint_of_something_else_is_refused(tiny_folder: Folder, tmp_path: Path) -> None:
    def trainer(name: str, model: Any = None, **more: Any) -> MethodTrainer:
        given = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1} | more
        fresh = _fresh(tiny_folder("bert")) if model is None else model
        return MethodTrainer(
            fresh, _arguments(tmp_path, **given), methods=[name], train_dataset=_rows()
        )

    trainer("bitfit").train()
    saved = str(tmp_path / "checkpoint-1")
    with pytest.raises(UserError, match=r"is of other methods: BitFit\(.*, not Lora\("):
        trainer("lora").train(resume_from_checkpoint=saved)
    other = _fresh(tiny_folder("bert"))
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight.add_(1)
    with pytest.raises(UserError, match="is of another model"):
        trainer("bitfit", other).train(resume_from_checkpoint=saved)
    (tmp_path / "checkpoint-1" / "methods.safetensors").unlink()
    with pytest.raises(UserError, match="is no checkpoint of MethodTrainer"):
        trainer("bitfit").train(resume_from_checkpoint=saved)


def test_other_steps_than_the_methods_were_prepared_for_are_refused(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    trainer = MethodTrainer(
        _fresh(tiny_folder("bert")), _arguments(tmp_path, max_steps=-1, num_train_epochs=1),
        train_dataset=_rows(),
    )  # fmt: skip
    trainer.train_dataset = _rows(12)
    with pytest.raises(UserError, match="prepared for 24 steps, and this training has 12"):
        trainer.train()
