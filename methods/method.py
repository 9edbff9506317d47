"""The hooks through which a method changes plain fine-tuning; each does nothing until overridden.

A method is one dataclass whose fields are its options. Its module must not import torch at the top:
a run that is already finished is recognised before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Gt

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
Marked = TypeVar("Marked", bound=Callable[..., Any])


def by_token(thing: Marked) -> Marked:
    """Mark a hook, or a class of modules, that treats each token by itself.

    Where a head reads the first token, the last layer is computed for that one alone, unless
    something unmarked was put into it (`speed.first_token`).
    """
    thing.by_token = True  # type: ignore[attr-defined]
    return thing


@dataclass(frozen=True)
class Setting:
    """What a method may know when it prepares the model.

    `head` names the parameters that are drawn from the run's seed: those that the checkpoint did
    not hold (the classifier, and a pooler where there was none), and those of modules that it holds
    but that no training reached, `model.untrained`, such as minilm's pooler. `generator` is this
    method's own random stream, a CPU generator: draws from it leave data order and dropout as they
    are. `pretrained` holds a copy of every parameter as it was loaded, before any method; it is
    filled for methods that need it only. `methods` names all methods of the run in their order.
    `tokenizer` is the model's, and `files` are those that its weights were loaded from. A `stored`
    run is a record's or a delta's, which is taken as it is where the same would be refused if it
    was typed today.
    """

    head: frozenset[str]
    generator: torch.Generator
    num_labels: int
    regression: bool
    total_steps: int
    max_length: int
    precision: str = "fp32"
    pretrained: Mapping[str, torch.Tensor] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    tokenizer: Any = None
    files: tuple[Path, ...] = ()
    stored: bool = False


@dataclass(frozen=True)
class Folded:
    """What is kept of trained parameters that serve training only.

    `replaced` names the parameters, `kept` holds the tensors that stand for them afterwards. One
    that is kept under the name of a parameter takes its place in a whole model too.
    """

    replaced: frozenset[str] = frozenset()
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(kw_only=True)
class Method:
    """Plain fine-tuning; subclasses override the hooks they need and say what they own.

    `owns` lists what two methods cannot both decide: "parameters" (which ones train), "loss"
    (calls the task's loss itself), "gradient" (computes the gradients, and clips them), "head",
    "places" (which tokens stand where), "training" (there is none). A method that `represents`
    makes vectors of sentences: it derives from Representation, and its `training_text` says what it
    trains on. What one that `extends_head` adds is part of the head for all others: it prepares the
    model before them. `version` is part of a run's name: raise it when a change of the method can
    change a score. `changes_start` is true when the logits before the first step differ from the
    pretrained model's by design. `needs` may name "pretrained", the weights as loaded. While
    `paused`, a method must not perturb forward passes: another one is measuring the model. `paper`
    and `trains` (what trains besides the head, or else what changes) are for the table of methods.
    `added` holds options that a released method was given later, each with the value at which it
    does what it did before: at that value a run's name and record leave the option out, so that
    older records stand for the same run. `of_whole_texts` says what it does to the answer to a
    whole text, where that is nothing for a head that predicts single tokens: such a task then
    refuses it. `of_classes` says what it does with one task's classes, each of which counts alike,
    where it can do nothing else. `leaves` says, as the end of a sentence, what it leaves in a
    trained model that the plain architecture has no place for: `save=model` then refuses it. What
    peft's layers merge into a matrix is not that.
    A method that is `per_example` owns "gradient", and its `gradients` is given the losses of a
    batch's examples, (B,), in place of their mean.
    `hinders_capture` says why a step of it cannot be captured as a CUDA graph and replayed, empty
    where it can: `runners.contract.guard` finds that out on a CPU, and the contract holds it. What
    it does in Python alone, such as counting, is missed by a replay; a method that
    `watches_evaluation` keeps there what passes through the model in evaluation, which then is not
    captured.

    The other class variables tell the contract (`runners.contract`) how to test a method; they are
    no options, and no run's name or record holds them. `no_strength` holds options at which it is
    plain fine-tuning to the bit, None where there are none. `narrow` holds options that fit an
    encoder of two layers and width 32. `with_others` holds options at which it meets a method that
    it refuses at its defaults. `other_dropout` is true where it draws dropout at other places than
    plain fine-tuning, with which it then is compared without dropout. `plain_order` holds options
    at which its batches are plain fine-tuning's. `may_stay` holds parts of names of trained
    parameters that may stay as they are, such as those it masks.
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
    no_strength: ClassVar[Options | None] = None
    narrow: ClassVar[Options] = {}
    with_others: ClassVar[Options] = {}
    other_dropout: ClassVar[bool] = False
    plain_order: ClassVar[Options] = {}
    may_stay: ClassVar[tuple[str, ...]] = ()

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

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return the version in a run of `methods`, in their order.

        For a change that altered the scores of some compositions only: the others keep their names.
        """
        return self.version

    def includes(self, other: Method) -> bool:
        """Say whether another method changes nothing beside this one, with the options of both."""
        return False

    def refuses(self, other: Method) -> str:
        """Say why another method cannot be in a run with this one; empty where it can."""
        return ""

    @property
    def batches(self) -> Batches:
        """How rows come into batches, for the method that owns "gradient".

        "by length": each once an epoch, rows of like length together; "random": each once, without
        regard to length; "poisson": each in each batch with the same probability, by itself.
        """
        return "by length"

    def data_known(self, rows: int, batch_size: int, steps: int) -> list[str]:
        """Learn how many rows are trained on, of how many a batch is, and the number of steps.

        Called before the model is loaded, where a run is to be trained. The sentences returned are
        shown to the user.
        """
        return []

    def prepare(self, model: torch.nn.Module, setting: Setting) -> None:
        """Insert, freeze or perturb modules of the model, which is on the CPU with its head on."""

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
    def divisible(self) -> bool:
        """Whether its loss of a batch is the mean of its examples' losses, as parts must be."""
        return True

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        """Return the loss of a batch as a scalar; called only for the method that owns "loss".

        Where a batch does not fit in memory, losses of its parts are averaged by their sizes; a
        method whose loss is no mean over examples says so by `divisible`.
        """
        return forward(batch).loss

    def gradients(
        self, model: torch.nn.Module, batch: Batch, loss: Callable[[Batch], torch.Tensor]
    ) -> torch.Tensor:
        """Leave the step's gradients in `.grad` and return the loss, a scalar.

        Called only for the method that owns "gradient", in place of one backward pass and of
        clipping. `loss` gives the run's loss of a batch or of some of its examples; to a method
        that is `per_example`, their losses, (B,). A batch drawn as "poisson" may be empty.
        """
        raise NotImplementedError

    def after_backward(self, model: torch.nn.Module, step: int) -> None:
        """Read or edit the complete gradients, before clipping. `step` counts from 0."""

    def after_clipping(self, model: torch.nn.Module, step: int) -> None:
        """Edit the clipped gradients, before the optimizer's moments see them."""

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Edit the weights after the optimizer's step."""

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
        """Return JSON-ready facts for the record, such as the share of masked entries."""
        return {}
