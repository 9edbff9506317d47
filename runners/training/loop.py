"""The one training loop; methods change it through their hooks."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.method import Batch, Method, Output
from methods.surgery.streams import generators_of
from runners.config.check import RunConfig
from runners.optimizers.build import build_optimizer, plain_groups
from runners.optimizers.rates import as_numbers, keep_rates
from runners.seeds import derive
from runners.speed.lever import Start
from runners.speed.levers import Levers
from runners.speed.out_of_memory import is_out_of_memory, is_too_large
from runners.speed.repeat import OUT_OF_MEMORY, Results, repeats_on
from runners.tasks.collate import Collate, on_device
from runners.tasks.kind import Diverged, Encoded, Evaluation, Kind
from runners.training.averages import Averages
from runners.training.edits import edit_weights
from runners.training.mixed_order import batches_of, order_of
from runners.training.repeating import hindrance, is_known
from runners.training.schedule import learning_rate_factor, total_steps
from runners.training.states import beside, copied

if TYPE_CHECKING:
    from accelerate import Accelerator


CHECK_LOSS_EVERY = 10  # steps between looks at the loss, each of which waits for the device


@dataclass
class Progress:
    """What the loop has spent so far: seconds without evaluation, real tokens and padded places."""

    train_seconds: float = 0.0
    real_tokens: int = 0
    padded_tokens: int = 0
    losses: list[float] = field(default_factory=list)


class Loop:
    """Trains a prepared model, step by step, from any saved state.

    `state_dict` holds all that the continuation depends on: trained tensors and buffers,
    optimizer, schedule, the methods' state, the step and the global random streams (dropout). The
    data order is a function of the seed and the step.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: RunConfig,
        kind: Kind,
        collate: Collate,
        accelerator: Accelerator,
    ) -> None:
        settings, self.budget = config.settings, config.settings.budget
        self.model, self.methods, self.kind = model, config.methods, kind
        self.collate, self.accelerator = collate, accelerator
        self.precision = config.precision
        self.order = order_of(settings, collate.lengths, collate.groups, batches_of(self.methods))
        self.steps = total_steps(self.budget, self.order)
        self.step = 0
        self.progress = Progress()
        groups = plain_groups(model, config.lr, self.budget.weight_decay)
        for method in self.methods:
            groups = method.parameter_groups(model, groups)
        self.optimizer = build_optimizer(groups, config.lr, settings.optimizer)
        self._twice = settings.optimizer.gradients_a_step > 1
        own_factor = getattr(self.optimizer, "own_rate_factor", None)
        self.factor = own_factor or learning_rate_factor(self.budget, self.steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.factor)
        self._on_gpu = repeats_on(str(accelerator.device))
        if self._on_gpu:
            keep_rates(self.optimizer, accelerator.device)
        keeps = getattr(self.optimizer, "numbers", None) is not None
        self._advance = getattr(self.optimizer, "advance", None) if keeps else None
        for method in self.methods:
            method.optimizer_built(self.optimizer)
        self.preparation_seconds = 0.0
        self.levers = Levers(settings.speed.switches, str(accelerator.device))
        self.repeats = self.levers.repeated(
            "training",
            lambda: generators_of(self.methods),
            hindrance(self.methods, kind, self.optimizer) or self.levers.hinders_capture,
            is_known(self.methods, model),
        )
        self._phase: list[str] | None = None  # of the step before, by method
        self._to_come: Counter[tuple[int, ...]] | None = None  # batches by the shape of input_ids
        self._on_device = on_device(collate, accelerator.device, self.levers)
        self.micro_batch: int | None = None  # rows a part, once a batch did not fit in memory
        self._unseen: list[torch.Tensor] = []  # losses not yet looked at
        # Rate and gradient norm of each step since somebody who wants to know them looked.
        self.trace: list[tuple[float, torch.Tensor | None]] | None = None
        self._loss_owner = next((m for m in self.methods if "loss" in m.owns), None)
        owner = self._gradient_owner = next((m for m in self.methods if "gradient" in m.owns), None)
        self._owner_clips = owner is not None and type(owner).gradients is not Method.gradients
        self.averages = Averages(model, self.methods, self.levers)
        owner = self._loss_owner
        self._divisible = kind.divisible and (owner is None or owner.divisible)
        torch.manual_seed(derive(settings.seed, "dropout"))

    def forward(self, batch: Batch) -> Output:
        """Return the task's own loss of a batch, a scalar, and its logits, in float32."""
        self.levers.before_pass()
        with self.accelerator.autocast():
            return self.kind.forward(self.model, batch)

    def prepare_methods(self, batches: int | None = None) -> None:
        """Let methods see an epoch's batches, or so many of them, before the first step.

        Gradients, dropout's stream and the count of tokens are afterwards as they were.
        """
        device = self.accelerator.device
        last = min(batches or self.order.steps_per_epoch, self.order.steps_per_epoch)
        self.model.train()
        start = time.perf_counter()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for method in self.methods:
                for other in self.methods:
                    other.paused = other is not method
                epoch = self._batches(0, last)
                method.before_training(self.model, epoch, self.forward)
        for method in self.methods:
            method.paused = False
        self.model.zero_grad(set_to_none=True)
        self.progress = Progress()
        self.preparation_seconds = time.perf_counter() - start

    def evaluation(self) -> Evaluation:
        """Return how the model is to be evaluated."""
        why = hindrance(self.methods, self.kind, None)
        known = is_known(self.methods, self.model)
        repeats = self.levers.repeated("evaluation", list, why, known)
        return Evaluation(self.accelerator, self.budget.eval_batch_size, repeats, self.levers)

    def start(self, encoded: Encoded) -> None:
        """Let the levers act on the prepared run; `encoded` holds all that the model will see."""
        token_ids = [ids for collate in encoded.values() for ids in collate.token_ids]
        pad, precision = self.collate.pad_id, self.precision
        known = is_known(self.methods, self.model)
        self.levers.before_first_step(
            Start(self.model, self.methods, self.optimizer, token_ids, pad, precision, known)
        )

    def finish(self) -> None:
        """Leave model and optimizer as they are without levers, with the weights to be kept."""
        self.levers.after_last_step()
        self.averages.keep()

    def _batches(self, first: int, last: int) -> Generator[Batch]:
        real: deque[int] = deque()  # tokens of the batches that are made and not yet used
        lengths = self.collate.lengths

        def counted() -> Generator[NDArray[np.int64]]:
            for indices in self.order.batches(first, last):
                real.append(int(lengths[indices].sum()))
                yield indices

        with contextlib.closing(self._laid_out(counted(), first)) as coming:
            for batch in coming:
                self.progress.real_tokens += real.popleft()
                self.progress.padded_tokens += batch["input_ids"].numel()
                yield self._moved(batch)

    def _laid_out(self, plan: Generator[NDArray[np.int64]], first: int) -> Generator[Batch]:
        """Make the batches of a plan, where the examples lie."""
        if self._on_device is not None:
            return self._on_device.batches(plan)
        return self.levers.batches(self.collate(i, step) for step, i in enumerate(plan, first))

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the examples of these indices, padded, on the device."""
        return self._moved(self.collate(indices))

    def _moved(self, batch: Batch) -> Batch:
        device = self.accelerator.device
        return {k: v.to(device, non_blocking=v.is_pinned()) for k, v in batch.items()}

    def run(self, until: int, after_step: Callable[[int], None] = lambda step: None) -> None:
        """Train up to step `until`; raise Diverged when the loss is not finite.

        `after_step` is called with the number of steps done; time spent in it is not counted.
        """
        self.model.train()
        start = time.perf_counter()
        with contextlib.closing(self._batches(self.step, until)) as batches:
            for batch in batches:
                self._unseen.append(self.take_step(batch))
                self.levers.after_step(self.progress.padded_tokens)
                if self.step % CHECK_LOSS_EVERY == 0 or self.step == until:
                    self.settle()
                self.progress.train_seconds += time.perf_counter() - start
                after_step(self.step)
                start = time.perf_counter()

    def take_step(self, batch: Batch) -> torch.Tensor:
        """Take one optimizer step on a batch; return its loss."""
        if self._advance is not None:
            self._advance()
        self._begin_phase()
        if self.repeats is None:
            loss, norm = self._act(batch)
        else:
            loss, norm = self.repeats(self._act, batch, self._left_of(batch))
        assert loss is not None
        if self.trace is not None:
            self.trace.append((self.rate, norm))
        self.schedule.step()
        self.averages.take(self.step)
        self.step += 1
        return loss

    def _begin_phase(self) -> None:
        """Tell the methods which step comes; in another phase, write steps down anew."""
        phase = [method.phase(self.step) for method in self.methods]
        if self.repeats is not None and self._phase not in (None, phase):
            self.repeats.forget()
        self._phase = phase

    @property
    def rate(self) -> float:
        """The rate of the next step, the highest where layers differ."""
        return float(max(self.schedule.base_lrs) * self.factor(self.step))

    def _left_of(self, batch: Batch) -> int:
        """Return how many batches of a batch's shape are still to be trained on, with this one."""
        if self._to_come is None:
            coming = self.order.batches(self.step, self.steps)
            self._to_come = Counter(self.collate.shape(indices) for indices in coming)
        shape = tuple(batch["input_ids"].shape)
        self._to_come[shape] -= 1
        return self._to_come[shape] + 1

    def _act(self, batch: Batch) -> Results:
        """Do all of a step that a device does; return loss and gradient norm (None: a method's).

        What of it is written down is repeated without Python.
        """
        try:
            return self._acted(batch)
        except RuntimeError:  # it may be done anew, without what this left
            self.optimizer.zero_grad(set_to_none=True)
            raise

    def _acted(self, batch: Batch) -> Results:
        again = self._gradient_again(batch) if self._twice else None
        loss = self._gradients(batch)
        for method in self.methods:
            method.after_backward(self.model, self.step)
        norm = None if self._owner_clips else self._clip()
        for method in self.methods:
            method.after_clipping(self.model, self.step)
        self.optimizer.step(again) if again else self.optimizer.step()
        edit_weights(self.methods, self.model, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """Compute a batch's gradients, as the method that owns them does; return its loss."""
        owner = self._gradient_owner
        if owner is None:
            return self._backward_that_fits(batch)
        if self._owner_clips:
            return self._owned_gradients(batch, owner)
        return owner.backward_passes(self.model, lambda: self._backward_that_fits(batch))

    def _backward_that_fits(self, batch: Batch) -> torch.Tensor:
        """Compute the gradients; of a batch that is too large, in halves from then on."""
        rows = batch["input_ids"].shape[0]
        while True:
            try:
                return self._backward(batch, self._owned_loss)
            except RuntimeError as error:
                smaller = is_too_large(error) and self._halves(rows)
                if not smaller and not (is_out_of_memory(error) and self._makes_room(rows)):
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            if self.accelerator.device.type == "cuda":
                torch.cuda.empty_cache()

    def _makes_room(self, rows: int) -> bool:
        """Do with less memory from now on, for a batch of so many rows; say whether that can be."""
        if self.repeats is not None:
            if self.repeats.recording:
                return False
            if self.repeats.give_up(OUT_OF_MEMORY):
                return True
        return self._halves(rows)

    def _halves(self, rows: int) -> bool:
        """Take batches in parts of half the size from now on; say whether that can be."""
        size = min(rows, self.micro_batch or rows)
        if size == 1 or not self._divisible:
            return False
        self.micro_batch = -(-size // 2)
        return True

    def _backward(self, batch: Batch, loss_of: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        """Add up the gradients of a batch's mean loss, part by part; return that loss."""
        rows = batch["input_ids"].shape[0]
        size = self.micro_batch or rows
        if size >= rows:
            loss = loss_of(batch)
            self.accelerator.backward(loss)
            return loss.detach()
        total = torch.zeros((), device=self.accelerator.device)
        for start in range(0, rows, size):
            part = {k: v[start : start + size] for k, v in batch.items()}
            loss = loss_of(part) * (part["input_ids"].shape[0] / rows)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _owned_loss(self, batch: Batch) -> torch.Tensor:
        if self._loss_owner is not None:
            return self._loss_owner.loss(self.model, batch, self.forward)
        return self.forward(batch).loss

    def _owned_gradients(self, batch: Batch, owner: Method) -> torch.Tensor:
        loss_of = self._losses if owner.per_example else self._owned_loss
        return owner.gradients(self.model, batch, loss_of).detach()

    def _losses(self, batch: Batch) -> torch.Tensor:
        self.levers.before_pass()
        with self.accelerator.autocast():
            losses = self.kind.losses(self.model, batch)
        assert losses is not None  # runners.config.privacy refuses such tasks
        return losses

    def _clip(self) -> torch.Tensor:
        """Clip the gradients; return the norm that they had, a scalar on the device."""
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm: torch.Tensor = self.accelerator.clip_grad_norm_(trained, self.budget.max_grad_norm)
        return norm

    def _gradient_again(self, batch: Batch) -> Callable[[], float]:
        """Return a function that computes the batch's gradient as now, at the weights it finds."""
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        cpu_stream = torch.get_rng_state()
        cuda_stream = torch.cuda.get_rng_state(device) if devices else None

        def compute() -> float:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.random.fork_rng(devices=devices):
                torch.set_rng_state(cpu_stream)
                if cuda_stream is not None:
                    torch.cuda.set_rng_state(cuda_stream, device)
                loss = self._backward(batch, lambda part: self.forward(part).loss)
            self._clip()
            return loss.item()

        return compute

    def settle(self) -> None:
        """Look at the losses since the last look; raise Diverged when one is not finite."""
        losses = torch.stack(self._unseen).tolist() if self._unseen else []
        self._unseen = []
        for i, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise Diverged("the training loss", self.step - len(losses) + i + 1)
        self.progress.losses += losses

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that the continuation depends on."""
        with self.levers.whole():
            return self._state_dict()

    def _state_dict(self) -> dict[str, Any]:
        trained = self.averages.weights()
        buffers = {n: b.detach().clone() for n, b in self.model.named_buffers()}
        device = self.accelerator.device
        cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
        state = {
            "step": self.step,
            "trained": trained,
            "buffers": buffers,
            "optimizer": as_numbers(self.optimizer.state_dict(), "param_groups"),
            "schedule": as_numbers(self.schedule.state_dict(), "_last_lr"),
            "methods": [method.state_dict() for method in self.methods],
            "cpu_stream": torch.get_rng_state(),
            "cuda_streams": cuda,
        }
        own: dict[str, Any] = copied(state)
        return own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        with self.levers.whole():
            self._load_state_dict(copied(state))

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        own = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        with torch.no_grad():
            for name, tensor in {**state["trained"], **state["buffers"]}.items():
                own[name].copy_(tensor)
        self.optimizer.load_state_dict(state["optimizer"])
        if self._on_gpu:
            keep_rates(self.optimizer, self.accelerator.device)
        if self.repeats is not None:
            self.repeats.forget()
        self._to_come = None
        self.schedule.load_state_dict(state["schedule"])
        for method, kept in zip(self.methods, state["methods"], strict=True):
            method.load_state_dict(beside(kept, own))
        self.step = state["step"]
        torch.set_rng_state(state["cpu_stream"])
        streams, device = state["cuda_streams"], self.accelerator.device
        if streams and device.type == "cuda":  # older checkpoints hold those of every GPU
            index = device.index or 0
            torch.cuda.set_rng_state(streams[index if index < len(streams) else 0], device)
