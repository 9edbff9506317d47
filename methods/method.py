"""The hooks through which a method changes plain fine-tuning; each does nothing until overridden.

A method is one dataclass whose fields are its options. Its module must not import torch at the top:
a run that is already finished is recognised before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Gt

from methods.facts import Arranged as Arranged
from methods.facts import Folded as Folded
from methods.facts import Setting as Setting
from methods.facts import TaskFacts as TaskFacts

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]
Options = Mapping[str, Any]
ParameterGroup = dict[str, Any]
LearningRate = Annotated[float, Gt(0)] | None
TrainingText = Literal["labelled", "nothing", "sentences", "pairs", "triplets"]
Batches = Literal["by length", "random", "poisson"]


@dataclass(frozen=True)
class Output:
    """What the task's forward pass gave in float32: its loss, a scalar, and logits (B, labels).

    A score is one output, (B, 1).
    """

    loss: torch.Tensor
    logits: torch.Tensor


Forward = Callable[[Batch], Output]
Criterion = Callable[..., "torch.Tensor"]
Marked = TypeVar("Marked", bound=Callable[..., Any])


def by_token(thing: Marked) -> Marked:
    """Mark a hook, or a class of modules, that treats each token by itself.

    Where a head reads the first token, the last layer is computed for that one alone, unless
    something unmarked was put into it (`speed.first_token`).
    """
    thing.by_token = True  # type: ignore[attr-defined]
    return thing


@dataclass(kw_only=True)
class Method:
    """Plain fine-tuning; subclasses override the hooks they need and say what they own.

    What the run reads of a class:

    - `owns`: what two methods cannot both decide. "parameters" (which ones train), "loss" (calls
      the task's loss itself), "criterion" (what stands for the cross-entropy in that loss),
      "gradient" (computes the gradients: by `gradients`, and clips them, or by `backward_passes`),
      "average" (which weights are evaluated and kept), "head", "places" (which tokens stand
      where), "training" (there is none);
    - `represents`: it makes vectors of sentences. It derives from Representation, and its
      `training_text` says what it trains on;
    - `extends_head`: what it adds is part of the head for all others; it prepares the model first;
    - `version`: part of a run's name. Raise it when a change of the method can change a score;
    - `changes_start`: the logits before the first step are by design not the pretrained model's;
    - `needs`: "pretrained", the weights as loaded; "attributes": it is refused on a task that names
      none, and a batch holds "attributes", int64 (B, attributes, values), which it must take from
      what the model is given. Known values have numbers from 1, in the order of
      `Setting.attributes`; 0 stands for unknown ones and for a cell without any, -1 fills up;
    - `paused`: while it is, it must not perturb forward passes: another one measures the model;
    - `paper`, `trains` (what trains besides the head, or else what changes): the table of methods;
    - `added`: options that a released method was given later, each with the value at which it does
      what it did before. At that value a run's name and record leave the option out, so that older
      records stand for the same run;
    - `of_whole_texts`: what it does to the answer to a whole text, where that is nothing for a head
      that predicts single tokens: such a task then refuses it;
    - `of_classes`: what it does with one task's classes, each of which counts alike, where it can
      do nothing else;
    - `leaves`: as the end of a sentence, what it leaves in a trained model that the plain
      architecture has no place for. `save=model` then refuses it. What peft's layers merge into a
      matrix is not that;
    - `per_example`: it owns "gradient", and its `gradients` is given the losses of a batch's
      examples, (B,), in place of their mean;
    - `hinders_capture`: why a step of it cannot be captured as a CUDA graph and replayed, empty
      where it can. `runners.contract.guard` finds that out on a CPU, and the contract holds it.
      What it does in Python alone, such as counting, is missed by a replay;
    - `watches_evaluation`: it keeps in Python what passes through the model in evaluation, which
      then is not captured;
    - `model_head`: what is loaded in place of a head drawn for the task. "tokens", the checkpoint's
      own that predicts masked tokens, of which `Setting.head` then holds what the files lack; or
      "none", the bare encoder, and what it adds is the head;
    - `reads`: sections of a task that it reads, "prompt", "descriptions" or "choices": a run of
      methods that read none leaves them out.

    What tells the contract (`runners.contract`) how to test it, and is in no run's name or record:

    - `no_strength`: options at which it is plain fine-tuning to the bit, None where there are none;
    - `narrow`: options that fit an encoder of two layers and width 32, and two steps;
    - `with_others`: options at which it meets a method that it refuses at its defaults;
    - `other_dropout`: it draws dropout at other places than plain fine-tuning, with which it is
      then compared without dropout;
    - `plain_order`: options at which its batches are plain fine-tuning's;
    - `may_stay`: parts of names of trained parameters that may stay, such as those it masks;
    - `like`: a method of the same kind, where two differ in values and in a library's code. That
      one stands for both where every method is tested in many ways; `make soak` tests either.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = "–"
    trains: ClassVar[str] = "–"
    version: ClassVar[int] = 1
    owns: ClassVar[frozenset[str]] = frozenset()
    changes_start: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    represents: ClassVar[bool] = False
    extends_head: ClassVar[bool] = False
    added: ClassVar[Options] = {}
    of_whole_texts: ClassVar[str] = ""
    of_classes: ClassVar[str] = ""
    leaves: ClassVar[str] = ""
    hinders_capture: ClassVar[str] = ""
    per_example: ClassVar[bool] = False
    watches_evaluation: ClassVar[bool] = False
    model_head: ClassVar[Literal["none", "tokens"] | None] = None
    reads: ClassVar[frozenset[str]] = frozenset()
    no_strength: ClassVar[Options | None] = None
    narrow: ClassVar[Options] = {}
    with_others: ClassVar[Options] = {}
    other_dropout: ClassVar[bool] = False
    plain_order: ClassVar[Options] = {}
    may_stay: ClassVar[tuple[str, ...]] = ()
    like: ClassVar[str] = ""

    lr: LearningRate = None
    paused: bool = field(default=False, init=False, repr=False)

    @property
    def training_text(self) -> TrainingText:
        """What the method trains on."""
        return "labelled"

    @property
    def moves(self) -> frozenset[str]:
        """What of the encoder trains under the method that owns "parameters", with its options.

        "layers": something inside its layers, inserted modules included; "matrices": its
        pretrained ones.
        """
        return frozenset({"layers", "matrices"})

    @property
    def acts_on(self) -> frozenset[str]:
        """What must train for the method to do anything with its options, "layers" or "matrices".

        Beside a method whose `moves` lack it, it is refused.
        """
        return frozenset()

    @property
    def unread(self) -> Mapping[str, str]:
        """Return the options that nothing reads beside the others, and beside which.

        Typed with another value than their default, they are refused: two names for one run.
        """
        return {}

    @property
    def hindrance(self) -> str:
        """Why no step can be captured with the options that it has; else `hinders_capture`."""
        return self.hinders_capture

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return the version in a run of `methods`: what alters some raises theirs alone."""
        return self.version

    def problems(self) -> list[str]:
        """Say what is wrong with the options that their types do not show, a sentence each.

        Called before anything is loaded, with what was typed, not with what a stored run holds.
        """
        return []

    def say_alike(self) -> None:
        """Put options that say the same in several ways into one, as they are part of a run's name.

        Called with what was typed, not with what a stored run holds: that keeps its name.
        """

    def includes(self, other: Method) -> bool:
        """Say whether another method changes nothing beside this one, with the options of both."""
        return False

    def refuses(self, other: Method) -> str:
        """Say why another method cannot be in a run with this one; empty where it can."""
        return ""

    @property
    def batches(self) -> Batches:
        """How rows come into batches, for the method that owns "gradient".

        "by length": each once an epoch, rows of like length together; "random": each once;
        "poisson": each in each batch, by one probability.
        """
        return "by length"

    def task_known(self, task: TaskFacts) -> list[str]:
        """Take note of the task, before anything is loaded; return what is wrong, a sentence each.

        A run of a record has no more problems: what it says is taken as it is.
        """
        return []

    def of_task(self, name: str) -> Method:
        """Return what lays out the texts of a task, of a run's own or of one that it mixes."""
        return self

    @property
    def arrangement(self) -> str:
        """What tells how `arrange` lays texts out; empty where they stand as the tokenizer says."""
        return ""

    def arrange(
        self,
        columns: Sequence[Sequence[str]],
        tokenizer: Any,
        max_length: int,
        cut: Callable[[int, int], Sequence[int]],
    ) -> Arranged:
        """Return the tokens of examples, given by their columns; called with an `arrangement` only.

        `cut` says which of a single text's tokens stay, of how many where there is room for some.
        """
        raise NotImplementedError

    def data_known(self, rows: int, batch_size: int, steps: int, epoch: int = 0) -> list[str]:
        """Learn how many rows there are to train on, and in a batch; the steps, all and an epoch's.

        Called before the model is loaded, where a run will be trained; what it returns is shown.
        """
        return []

    def model_known(self, architecture: str) -> None:
        """Take note of the model's type, as its files say, before the run is named."""

    @property
    def writes_text(self) -> bool:
        """Whether `text_read` returns other texts, of which the begin must not be cut off."""
        return False

    def text_read(
        self, texts: tuple[str, ...], attributes: Mapping[str, Sequence[str]]
    ) -> tuple[str, ...]:
        """Return the texts of an example as the tokenizer is to read them.

        `attributes` are its values, where the task has attributes. It may be called before
        `prepare`.
        """
        return texts

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        """Insert, freeze or perturb modules of the model, which is on the CPU with its head on."""

    def all_prepared(self, model: torch.nn.Module) -> None:
        """Change what `prepare` of any method left."""

    def parameter_groups(
        self, model: torch.nn.Module, groups: list[ParameterGroup]
    ) -> list[ParameterGroup]:
        """Return the optimizer's groups (params, lr, weight_decay), changed or as given."""
        return groups

    def before_training(
        self, model: torch.nn.Module, batches: Iterable[Batch], forward: Forward
    ) -> None:
        """See training batches before the first step; gradients are cleared afterwards."""

    def optimizer_built(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep the optimizer, whose groups hold the current learning rates."""

    def phase(self, step: int) -> str:
        """Begin a step; return the name of the part of the training that it is in.

        Called before each step, also one that a device repeats without Python. Steps of two phases
        may ask for other operations; of what was written down in one nothing is repeated in the
        next. `step` counts from 0.
        """
        return ""

    @property
    def mixes_examples(self) -> bool:
        """Whether an example's answer depends on those beside it in a batch, in evaluation too."""
        return False

    @property
    def divisible(self) -> bool:
        """Whether its loss of a batch is the mean of its examples' losses, as parts must be."""
        return True

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        """Return the loss of a batch as a scalar; called only for the method that owns "loss".

        Where a batch does not fit in memory, losses of its parts are averaged by their sizes; a
        method whose loss is no mean over examples says so by `divisible`. A pass that others are
        not to perturb, though they do the one it is compared with, is marked by
        `methods.surgery.passes.clean_pass`; one that asks `is_clean_pass` leaves it alone.
        """
        return forward(batch).loss

    @property
    def criterion(self) -> Criterion | None:
        """Return what stands for torch's cross_entropy in the task's loss in training, None: it.

        For the method that owns "criterion"; looked up at each loss. It is called with logits
        (B, classes), labels (B,), the weights of the classes or None, and `reduction`, as torch's.
        """
        return None

    def gradients(
        self, model: torch.nn.Module, batch: Batch, loss: Callable[[Batch], torch.Tensor]
    ) -> torch.Tensor:
        """Leave the step's gradients in `.grad` and return the loss, a scalar.

        Called only for the method that owns "gradient", in place of one backward pass and of
        clipping. `loss` gives the run's loss of a batch or of some of its examples; to a method
        that is `per_example`, their losses, (B,). A batch drawn as "poisson" may be empty.
        """
        raise NotImplementedError

    def backward_passes(
        self, model: torch.nn.Module, once: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Leave the step's gradients in `.grad` and return the loss; clipping is still to come.

        For the method that owns "gradient" and has no `gradients`. `once` adds up the gradients of
        the batch's loss at the weights that it finds, in parts where memory asks for that, and
        returns this loss, a scalar. It may be called several times.
        """
        return once()

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        """Read or edit the complete gradients, before clipping. `step` counts from 0."""

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        """Edit the clipped gradients, before the optimizer's moments see them."""

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Edit the weights after the optimizer's step."""

    def hold_weights(self, model: torch.nn.Module, step: int) -> None:
        """Put back weights that must not move, once every method's `after_step` has edited them."""

    def see_weights(self, model: torch.nn.Module, step: int) -> None:
        """See the weights that a step left, once all methods have edited and held them.

        What no gradient trains, such as a head that is fitted, may be made from them.
        """

    def average_weights(self, model: torch.nn.Module, step: int) -> None:
        """Take in the weights that a step left, after every method's `see_weights`.

        For the method that owns "average". Called in Python where steps are replayed, too.
        """

    def averaged_weights(self) -> Mapping[str, torch.Tensor]:
        """Return what is evaluated and kept in place of trained parameters, by their names.

        For the method that owns "average". The loop puts these tensors into the model for an
        evaluation, and the weights, which training goes on from, back to the bit.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, random streams included."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""

    def fold(self, model: torch.nn.Module) -> Folded:
        """Say which trained parameters need not be kept, such as an MLP that makes a prefix."""
        return Folded()

    def unfold(self, model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        """Take back the tensors that `fold` kept, into a freshly prepared model."""

    def peft_config(self) -> Any:
        """Return peft's configuration of what `prepare` did; None where peft has no such method."""
        return None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what was found beside the model, such as a mask; save=delta keeps it."""
        return {}

    def drawings(self) -> dict[str, bytes]:
        """Return pictures of what was learned, by file name; written beside the record."""
        return {}

    def report(self) -> dict[str, Any]:
        """Return JSON-ready facts for the record."""
        return {}
