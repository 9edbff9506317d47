"""NEFTune: uniform noise on the words' embeddings, in training only.

Jain et al., ICLR 2024 (arXiv 2310.05914); authors' code neelsjain/NEFTune. Each pass adds to the
word embeddings of a text, (L, width), before positions and normalisation,

    alpha / √(L · width) · ε,    ε ~ U(-1, 1)

The paper tries alpha of 5, 10 and 15, on decoders that learn to follow instructions.

L is the number of a text's own tokens, special ones included, and padding has no noise. In the
README of the authors and in transformers' `neftune_noise_alpha` L is the length that the batch is
padded to, so that a text's noise depends on its neighbours and on the device; there is no option
for that. ε is drawn for texts as long as any may be and cut, so that more padding leaves it as it
is. With `freelb`, `r3f` and others of several passes each pass has noise of its own, in whatever
order the two are named; with `sift` a batch's passes share that of the first, whose embeddings it
moves. alpha=0 is plain fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from methods.method import Method, Options, Setting

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Neftune(Method):
    """Add uniform noise, the smaller the longer a text is, to its words' embeddings."""

    name: ClassVar[str] = "neftune"
    paper: ClassVar[str] = "Jain et al. 2024"
    trains: ClassVar[str] = "uniform noise on the words; `alpha=`"
    no_strength: ClassVar[Options | None] = {"alpha": 0}

    alpha: Annotated[float, Ge(0)] = 5.0

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        self.streams, self.longest = Streams(setting.generator), setting.max_length
        self.left = getattr(setting.tokenizer, "padding_side", "right") == "left"
        self.mask: torch.Tensor | None = None  # of the pass under way, (B, L)
        self.places_first = model.config.model_type == "xlnet"  # it looks up (L, B) words
        if self.alpha:
            # First, as others may lengthen the mask.
            model.register_forward_pre_hook(self._see_mask, prepend=True, with_kwargs=True)
            places.embedding_of_words(model, "neftune").register_forward_hook(self._add)

    def _see_mask(self, module: torch.nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        self.mask = named.get("attention_mask")

    def _add(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        if not module.training or self.paused:
            return None
        if self.places_first:
            output = output.transpose(0, 1)
        rows, length, width = output.shape
        whole = output.new_empty(rows, max(self.longest, length), width)
        noise = self.streams.uniform(whole, -1.0, 1.0)
        noise = noise[:, -length:] if self.left else noise[:, :length]
        mask = output.new_ones(rows, length) if self.mask is None else self.mask
        real = mask[:, -length:].to(output.dtype)  # a prefix has a part of it, and no word
        size = self.alpha / (real.sum(1).clamp(min=1) * width).sqrt()
        moved = output + noise * (real * size[:, None])[..., None]
        return moved.transpose(0, 1) if self.places_first else moved

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
