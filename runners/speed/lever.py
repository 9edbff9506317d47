"""What a lever is: one key of speed.*, which changes a run's time or memory and not its result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from methods.method import Batch, Method
    from runners.speed.repeat import Repeats


@dataclass(frozen=True)
class Start:
    """A prepared run before its first step.

    `token_ids` holds every array of token ids that the model will be given, in training and in
    evaluation, and `pad_id` is what fills batches up. `precision` is fp32 or bf16. `known` says
    that tests look at every part: its methods are of this project, and so is its model type.
    """

    model: Any
    methods: Sequence[Method]
    optimizer: torch.optim.Optimizer
    token_ids: Sequence[NDArray[np.int32]]
    pad_id: int
    precision: str
    known: bool


class Lever:
    """One key of speed.*; a hook does nothing until a lever overrides it.

    `on` is the key's value, `device` is cpu, mps or cuda:N. Only `device_chosen` and `facts` are
    called of a lever that is off. `hinders_capture` says why a training step cannot be captured as
    a CUDA graph where the lever is at work, empty where it can.
    """

    hinders_capture: ClassVar[str] = ""

    def __init__(self, on: bool, device: str) -> None:
        self.on, self.device = on, device

    def device_chosen(self, precision: str) -> None:
        """Set this process up for the device, before a model is loaded."""

    def model_loaded(self, model: Any) -> None:
        """Change the pretrained model, before any method."""

    def model_prepared(self, model: Any) -> None:
        """Change the model that the methods have prepared."""

    def before_first_step(self, start: Start) -> None:
        """Act when everything is ready and nothing has been trained."""

    def batches(self, coming: Generator[Batch]) -> Generator[Batch]:
        """Return the training batches, in the machine's memory, as given or made otherwise."""
        return coming

    def before_pass(self) -> None:
        """Act before the model is called for a loss; some methods call it several times a step."""

    def repeated(
        self,
        what: str,
        generators: Callable[[], Sequence[torch.Generator]],
        hindrance: str,
        trusted: bool,
    ) -> Repeats | None:
        """Return what repeats an act on the device, None where everything is done by itself.

        `what` is its name in the record; `generators` gives those that it draws from, besides
        torch's own. `hindrance` says why it cannot be repeated, empty where it can, and what is not
        `trusted` is looked at first.
        """
        return None

    def lies_on_device(self, size: int) -> bool:
        """Say whether a split of so many bytes is to lie on the device as a whole."""
        return False

    def after_step(self, places: int) -> None:
        """Act after a step; `places` counts the padded places trained on so far."""

    def whole(self) -> AbstractContextManager[None]:
        """Have model and optimizer as they are without this lever, while their state is copied."""
        return nullcontext()

    def after_last_step(self) -> None:
        """Leave model and optimizer as they are without this lever."""

    def facts(self, model: Any) -> dict[str, Any]:
        """Return what the record's environment says of it; `model` is None where nothing trains."""
        return {}
