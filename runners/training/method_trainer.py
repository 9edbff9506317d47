"""A Trainer of transformers that trains with methods: their hooks stand where our loop has them.

What a method does at a step is the same to the bit as in `runners.training.loop`. Rates, batches,
evaluation, logging, callbacks and checkpoints are the Trainer's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import Trainer, TrainerCallback, TrainingArguments

from methods.method import Batch, Method, Output, Setting
from results.errors import UserError
from runners.models.build import kept_tensors
from runners.optimizers.build import plain_groups
from runners.seeds import derive
from runners.training.checkpoint import Tensors, flatten, unflatten
from runners.training.edits import edit_weights
from runners.training.trainer_arguments import (
    Options,
    built,
    check_labels,
    head_of,
    longest_text,
    refuse,
    steps_of,
)

STATE = "methods.safetensors"  # in each checkpoint of the Trainer


class MethodTrainer(Trainer):
    """Trains a model with methods: `methods=["hype", "bitfit"]`, or `{"lora": {"rank": 4}}`.

    The learning rate is that of `args`, whatever the methods' own. `head` names the parameters that
    are freshly drawn; by default all outside of the pretrained encoder. `max_length` is that of the
    longest text in tokens, for methods that add some; by default all that the model can read.
    Everything else is passed on to transformers' Trainer. What cannot be is a UserError. The model
    is changed in place.
    """

    loss_is_scaled_for_ga = False  # losses are means of batches
    model: Any  # never None, as the Trainer's may be
    optimizer: Any

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        *,
        methods: Sequence[str] | Options = ("full",),
        head: Sequence[str] | None = None,
        max_length: int | None = None,
        **more: Any,
    ) -> None:
        self.methods = built(methods)
        refuse(model, self.methods, args, more)
        assert args is not None
        self._total_steps = steps_of(args, more.get("train_dataset"))
        self._began = self._edited = False
        self._loss_owner = next((m for m in self.methods if "loss" in m.owns), None)
        setting = self._setting(model, args, more)
        setting["max_length"] = max_length or longest_text(model, more.get("processing_class"))
        _prepare(model, self.methods, args, head_of(model, head), setting)
        more["callbacks"] = [_Hooks(self), *(more.get("callbacks") or [])]
        super().__init__(model=model, args=args, **more)

    def _setting(
        self, model: Any, args: TrainingArguments, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what methods may know, but for what is each one's own."""
        labels = int(getattr(model.config, "num_labels", 1))
        problem = getattr(model.config, "problem_type", None)
        wanted = any("pretrained" in method.needs for method in self.methods)
        start = {n: p.detach().clone() for n, p in model.named_parameters()} if wanted else {}
        return {
            "num_labels": labels,
            "regression": problem == "regression" or (problem is None and labels == 1),
            "total_steps": self._total_steps,
            "precision": "bf16" if args.bf16 else "fp32",
            "pretrained": start,
            "methods": tuple(method.name for method in self.methods),
            "tokenizer": more.get("processing_class"),
        }

    def create_optimizer(self, model: Any = None) -> Any:
        """Build the optimizer of `args` on the methods' groups."""
        if self.optimizer is None:
            groups = plain_groups(self.model, self.args.learning_rate, self.args.weight_decay)
            for method in self.methods:
                groups = method.parameter_groups(self.model, groups)
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            if not {"params", "model", "optimizer_dict"}.isdisjoint(options):
                raise UserError(f"optim={self.args.optim} chooses parameters, as methods do")
            self.optimizer = cls(groups, **options)
            for method in self.methods:
                method.optimizer_built(self.optimizer)
        return self.optimizer

    def _prepare_for_training(self, max_steps: int, dataloader: Any, resumed: str | None) -> Any:
        if max_steps != self._total_steps:
            raise UserError(
                f"the methods were prepared for {self._total_steps} steps, and this training has"
                f" {max_steps}: give args.max_steps"
            )
        prepare: Any = super()._prepare_for_training
        prepared = prepare(max_steps, dataloader, resumed)
        self._began = resumed is not None
        if resumed is None:
            self._look_at(prepared[1])
        return prepared

    def _look_at(self, dataloader: Any) -> None:
        """Let methods see an epoch's batches before the first step; streams stay as they were."""
        looking = [m for m in self.methods if type(m).before_training is not Method.before_training]
        device = self.args.device
        self.model.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derive(self.args.seed, "dropout"))
            for method in looking:
                for other in self.methods:
                    other.paused = other is not method
                method.before_training(self.model, self._epoch(dataloader), self._forward)
        for method in self.methods:
            method.paused = False
        self.model.zero_grad(set_to_none=True)

    def _epoch(self, dataloader: Any) -> Iterator[Batch]:
        """Yield an epoch's batches on the device; a loader that begins draws from no stream."""
        before = torch.get_rng_state()
        for i, batch in enumerate(dataloader):
            if i == 0:
                torch.set_rng_state(before)
            yield self._prepare_inputs(batch)

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Put a batch on the device; its labels must suit the methods."""
        prepare: Any = super()._prepare_inputs
        batch = prepare(inputs)
        check_labels(self.model.config, self.methods, batch.get("labels"))
        return batch

    def _forward(self, batch: Batch) -> Output:
        with self.compute_loss_context_manager():
            loss, outputs = super().compute_loss(self.model, dict(batch), return_outputs=True)
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[1]
        return Output(loss.float(), logits.float())

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return a batch's loss; in training that of the method that owns it, where one does."""
        if return_outputs or not self.model.training:
            return super().compute_loss(model, inputs, return_outputs=return_outputs)
        if self._loss_owner is not None:
            return self._loss_owner.loss(self.model, inputs, self._forward)
        return self._forward(inputs).loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip as our loop does, in the optimizer's order, once methods have seen the gradients."""
        self._after_backward()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        return self.accelerator.clip_grad_norm_(trained, self.args.max_grad_norm)

    def _after_backward(self) -> None:
        """Show the methods the complete gradients, once a step."""
        if not self._edited:
            for method in self.methods:
                method.after_backward(self.model, self.state.global_step)
        self._edited = True

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the model; what inserted modules share is written for each, as no file shares it."""
        content = self.model.state_dict() if state_dict is None else state_dict
        seen = set[int]()
        for name, tensor in content.items():
            content[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
        super()._save(output_dir, content)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        tensors: Tensors = {}
        image = json.dumps(flatten(self._state(), tensors))
        facts = {
            "methods": json.dumps(self._identity()),
            "frozen": self._frozen,
            "state": image,
        }
        save_file(tensors, Path(output_dir) / STATE, metadata=facts)

    def _state(self) -> dict[str, Any]:
        """Return a copy of the trained tensors, the buffers and the methods' states."""
        named = self.model.named_parameters()
        trained = {n: p.detach().clone() for n, p in named if p.requires_grad}
        buffers = {n: b.detach().clone() for n, b in self.model.named_buffers()}
        states = [method.state_dict() for method in self.methods]
        return {"trained": trained, "buffers": buffers, "methods": states}

    @cached_property
    def _frozen(self) -> str:
        """The hash of what does not train, which no checkpoint of methods holds."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            if not parameter.requires_grad:
                content = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(f"{name}\0{tuple(parameter.shape)}\0".encode())
                digest.update(content.numpy().data)
        return digest.hexdigest()

    def _identity(self) -> list[Any]:
        """Return the names, versions and options of the methods."""
        versions = [method.version_beside(self.methods) for method in self.methods]
        return [[m.name, v, repr(m)] for m, v in zip(self.methods, versions, strict=True)]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take the weights back from the methods' file, after it was seen to be of these methods.

        What a method inserts has names that a plain model's file may not keep.
        """
        state = self._read(Path(resume_from_checkpoint))
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        saved = {**state["trained"], **state["buffers"]}
        if differ := sorted(n for n, t in saved.items() if own[n].shape != t.shape):
            raise UserError(f"{resume_from_checkpoint} is of another model: {differ[0]} differs")
        with torch.no_grad():
            for name, tensor in saved.items():
                own[name].copy_(tensor)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            states = self._read(Path(checkpoint))["methods"]
            for method, state in zip(self.methods, states, strict=True):
                method.load_state_dict(state)

    def _read(self, checkpoint: Path) -> dict[str, Any]:
        """Return what a checkpoint holds of methods; another's is a UserError."""
        try:
            with safe_open(checkpoint / STATE, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            theirs = json.loads(facts["methods"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                f"{checkpoint} is no checkpoint of MethodTrainer: {STATE} cannot be read ({error})"
            ) from None
        if theirs != self._identity():
            said = [", ".join(one[2] for one in both) for both in (theirs, self._identity())]
            raise UserError(f"{checkpoint} is of other methods: {said[0]}, not {said[1]}")
        state: dict[str, Any] = unflatten(json.loads(facts["state"]), tensors)
        if state["trained"].keys() != self._trained() or facts["frozen"] != self._frozen:
            raise UserError(f"{checkpoint} is of another model, or of one that had been trained")
        return state

    def _trained(self) -> set[str]:
        return {name for name, p in self.model.named_parameters() if p.requires_grad}

    def delta(self) -> Tensors:
        """Return the trained tensors by name; what serves training only is replaced by its fold."""
        return {n: t.clone() for n, t in kept_tensors(self.model, tuple(self.methods)).items()}

    def save_delta(self, folder: str | Path) -> None:
        """Write the delta, `delta.safetensors`, with the names and options of the methods."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        facts = {"methods": json.dumps(self._identity())}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.delta().items()}
        save_file(tensors, place / "delta.safetensors", metadata=facts)


class _Hooks(TrainerCallback):
    """The hooks that stand where the Trainer calls callbacks."""

    def __init__(self, trainer: MethodTrainer) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Begin a step, and dropout's stream at the first; a resumed run goes on with that."""
        if not self.trainer._began:
            torch.manual_seed(derive(args.seed, "dropout"))
        self.trainer._began, self.trainer._edited = True, False
        for method in self.trainer.methods:
            method.phase(state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Let methods edit the clipped gradients."""
        self.trainer._after_backward()  # where nothing is clipped
        for method in self.trainer.methods:
            method.after_clipping(self.trainer.model, state.global_step)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Let methods edit the weights."""
        edit_weights(self.trainer.methods, self.trainer.model, state.global_step)


def _prepare(
    model: Any,
    methods: Sequence[Method],
    args: TrainingArguments,
    head: frozenset[str],
    setting: Mapping[str, Any],
) -> None:
    """Let the methods prepare the model, on the CPU, each with its own random stream."""
    model.to("cpu")
    for method in sorted(methods, key=lambda m: not m.extends_head):
        seed = derive(args.seed, f"method {method.name}")
        before = {name for name, _ in model.named_parameters()}
        stream = torch.Generator().manual_seed(seed)
        try:
            method.prepare(model, Setting(head=head, generator=stream, **setting))
        except UserError as error:  # in the words of a run's configuration
            raise UserError(str(error).replace("budget.max_length", "max_length")) from None
        if method.extends_head:
            head |= {name for name, _ in model.named_parameters()} - before
    for method in methods:
        method.all_prepared(model)
