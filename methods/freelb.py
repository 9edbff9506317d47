"""FreeLB: gradients add up along steps of ascent on the words' embeddings.

Zhu et al., ICLR 2020 (arXiv 1909.11764); authors' code zhuchen03/FreeLB eb23701.

A step takes `passes` passes of a batch, K of them. In pass t each example's word embeddings are
moved by δ_t (tokens, width), and the weights get the mean of the K gradients. Between passes, with
g the gradient of δ and norms over all tokens and channels of an example,

    δ_{t+1} = Π(δ_t + step · g / ‖g‖),    Π: back to ‖δ‖ ≤ radius; radius=0 leaves that out

from δ_0 = U(-start, start) / √(L · width) on the L tokens of the example that are no padding, or
from 0. Dropout is the same in all passes (`same_dropout`). The last pass moves nothing, as in the
code for transformers; that for fairseq has one pass more under the same K. Values of the paper are
a task's own, all for other models: ALBERT-xxlarge's on RTE are the default here (K = 3, step
0.1, start 0, radius 0). passes=1 with start=0 is plain fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from methods.method import Batch, Forward, Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class FreeLb(Method):
    """Train on words that each pass of a batch moves further, with the mean gradient."""

    name: ClassVar[str] = "freelb"
    paper: ClassVar[str] = "Zhu et al. 2020"
    trains: ClassVar[str] = "on words moved adversarially, by the mean of all passes' gradients"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    hinders_capture: ClassVar[str] = "it sets dropout's stream back between its passes"
    no_strength: ClassVar[Options | None] = {"passes": 1}
    of_whole_texts: ClassVar[str] = "moves all tokens of a text by one gradient"

    passes: Annotated[int, Ge(1)] = 3
    step: Annotated[float, Gt(0)] = 0.1
    start: Annotated[float, Ge(0)] = 0.0
    radius: Annotated[float, Ge(0)] = 0.0
    same_dropout: bool = True

    @property
    def unread(self) -> Mapping[str, str]:
        idle = ("step", "radius", "same_dropout") if self.passes == 1 else ()
        return dict.fromkeys(idle, "passes=1")

    @property
    def divisible(self) -> bool:
        return self.passes == 1  # else its passes leave gradients by themselves

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        self.streams = Streams(setting.generator)
        self.places_first = model.config.model_type == "xlnet"  # it looks up (L, B) words
        self.delta: torch.Tensor | None = None  # (B, L, width)
        self.mask: torch.Tensor | None = None  # (B, L), while a pass begins
        places.embedding_of_words(model, "freelb").register_forward_hook(self._move)

    def _move(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        if self.mask is not None:
            words = output.transpose(0, 1) if self.places_first else output
            self.delta = self._first(words.detach(), self.mask).requires_grad_(True)
            self.mask = None
        if self.delta is None:
            return None
        return output + (self.delta.transpose(0, 1) if self.places_first else self.delta)

    def _first(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return δ_0 in the shape of the words' embeddings (B, L, width), zero on padding."""
        import torch

        if self.start == 0:
            return torch.zeros_like(words)
        tokens = mask.reshape(words.shape[:2])[..., None].to(words.dtype)
        size = (tokens.sum(1, keepdim=True) * words.shape[-1]).sqrt()
        return self.streams.uniform(words, -self.start, self.start) * tokens / size

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        """Leave the gradients of all passes but the last; return the mean of their losses."""
        if self.passes == 1 and self.start == 0:
            return forward(batch).loss
        from methods.surgery.streams import global_streams, set_global_streams

        self.mask = batch["attention_mask"]
        device = self.mask.device
        before = global_streams(device)
        total: torch.Tensor | float = 0.0
        try:
            for number in range(self.passes):
                if number and self.same_dropout:
                    set_global_streams(before, device)
                loss = forward(batch).loss / self.passes
                if number == self.passes - 1:
                    return loss + total
                loss.backward()
                total = total + loss.detach()
                assert self.delta is not None
                assert self.delta.grad is not None
                self.delta = self.moved(self.delta.detach(), self.delta.grad).requires_grad_(True)
        finally:
            self.delta = self.mask = None
        raise AssertionError("there is a last pass")

    def moved(self, delta: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return δ (B, L, width) after a step of ascent; where there is no gradient it stays."""
        size = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None]
        delta = delta + self.step * gradient / size
        if self.radius == 0:
            return delta
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None]
        bound: torch.Tensor = delta * (self.radius / length).clamp(max=1)
        return bound

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
