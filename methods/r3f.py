"""R3F: predictions must not change when the words' embeddings are moved at random.

Aghajanyan et al., ICLR 2021 (arXiv 2008.03156); authors' code facebookresearch/fairseq,
examples/rxf.

The term is `weight` times the batch's mean of KL(P‖Q) + KL(Q‖P), where Q is a second pass whose
word embeddings are those of the first, detached, plus z ~ U(-eps, eps) or N(0, eps²). Gradients
reach both passes, but not the embedding table through the second. What another method adds to the
words, such as `neftune`'s noise, each pass has of its own; `hype` acts in the second alone. There
is no step of ascent, which `smart` has. Dropout is on in both passes, as in the code, and moves the
predictions far more than z does.

For regression the code adds nothing (`regression=published`); by default the squared difference
takes the divergence's place, as Yuan et al. 2023 have it. Below float32 z is lost in rounding, so a
small eps is refused there. weight=0 is plain fine-tuning, with one pass.

R4F is `spectral_norm=true`, as it is a flag of the same training in the authors' code: the head's
last linear layer computes with W / σ (Miyato et al., ICLR 2018, arXiv 1802.05957), σ an estimate of
W's largest singular value (one round of power iteration in each pass), so that the logits before
the first step differ from the plain head's. As in the code, a layer of the head before the last one
is not bounded. σ is near at the start here, after 15 rounds; in the code it then is that of two
random vectors. What is saved is W / σ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from methods.method import Batch, Folded, Forward, Method, Options, Setting
from methods.mixout import Mixout
from methods.neftune import Neftune
from results.errors import UserError

if TYPE_CHECKING:
    import torch

    from methods.surgery.spectral import SpectralNorm


@dataclass(kw_only=True)
class R3f(Method):
    """Add `weight` times the divergence between predictions of words and of words moved by z."""

    name: ClassVar[str] = "r3f"
    paper: ClassVar[str] = "Aghajanyan et al. 2021"
    trains: ClassVar[str] = "predictions smooth around the words, at random"
    owns: ClassVar[frozenset[str]] = frozenset({"loss"})
    of_whole_texts: ClassVar[str] = "compares answers to whole texts"
    no_strength: ClassVar[Options | None] = {"weight": 0}
    other_dropout: ClassVar[bool] = True
    added: ClassVar[Options] = {"spectral_norm": False}

    weight: Annotated[float, Ge(0)] = 1.0
    eps: Annotated[float, Ge(0)] = 1e-5
    distribution: Literal["uniform", "normal"] = "uniform"
    regression: Literal["squared", "published"] = "squared"
    spectral_norm: bool = False

    @property
    def unread(self) -> Mapping[str, str]:
        if self.weight == 0:
            return dict.fromkeys(("eps", "distribution", "regression"), "weight=0")
        return {"distribution": "eps=0"} if self.eps == 0 else {}

    def refuses(self, other: Method) -> str:
        if self.spectral_norm and isinstance(other, Mixout) and other.head == "mixed":
            return "mixout.head=mixed computes the head's matrix, and so does r3f.spectral_norm"
        if self.spectral_norm and other.model_head == "tokens":
            return f"r3f.spectral_norm bounds a classifier, and {other.name} has none"
        return ""

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 behind a method whose noise the second pass took over from the first before."""
        before = methods[: methods.index(self)]
        return self.version + int(self.weight > 0 and any(_is_noise(m) for m in before))

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places
        from methods.surgery.streams import Streams

        if setting.precision != "fp32" and 0 < self.eps < 1e-3:
            raise UserError(
                f"method=r3f: noise of eps={self.eps:g} is lost in {setting.precision}, whose"
                " rounding is coarser; use precision=fp32, or method.r3f.eps of 1e-3 or more"
            )
        self.streams = Streams(setting.generator)
        self.words: torch.Tensor | None = None  # the last pass's word embeddings (B, L, width)
        self.moved: torch.Tensor | None = None  # what stands for them in the second pass
        self.bound: SpectralNorm | None = None
        if self.spectral_norm:
            from methods.surgery import places, spectral

            layer = places.last_of_head(model, setting.head, "method.r3f.spectral_norm=true")
            self.bound = spectral.SpectralNorm(*layer, setting.generator, lambda: self.paused)
        if self.weight:
            # First, so that what others add to the words is each pass's own.
            words = places.embedding_of_words(model, "r3f")
            words.register_forward_hook(self._move, prepend=True)

    def _move(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> Any:
        if self.moved is None:
            self.words = output.detach()
        return self.moved

    def loss(self, model: torch.nn.Module, batch: Batch, forward: Forward) -> torch.Tensor:
        from methods.surgery.passes import clean_pass

        if self.weight == 0:
            return forward(batch).loss
        with clean_pass():
            clean = forward(batch)
        assert self.words is not None
        self.moved = self.words + self._noise(self.words)
        try:
            second = forward(batch)
        finally:
            self.moved = None
        return clean.loss + self.weight * self._apart(second.logits, clean.logits).mean()

    def _noise(self, words: torch.Tensor) -> torch.Tensor:
        if self.distribution == "normal":
            return self.streams.normal(words, self.eps)
        return self.streams.uniform(words, -self.eps, self.eps)

    def _apart(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return each example's divergence, (B,)."""
        from methods.surgery.divergences import both_kl, is_score, squared_difference

        if not is_score(first):
            return both_kl(first, second)
        if self.regression == "published":
            return first.new_zeros(len(first))
        return squared_difference(first, second)

    def state_dict(self) -> dict[str, Any]:
        own = self.streams.state_dict()
        return own if self.bound is None else {**own, "bound": self.bound.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.streams.load_state_dict(state)
        if self.bound is not None:
            self.bound.load_state_dict(state["bound"])

    def fold(self, model: torch.nn.Module) -> Folded:
        if self.bound is None:
            return Folded()
        weight = self.bound.weight().detach()
        return Folded(frozenset({self.bound.name}), {self.bound.name: weight})

    def unfold(self, model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        assert self.bound is not None
        self.bound.hold(tensors[self.bound.name])


def _is_noise(method: Method) -> bool:
    return isinstance(method, Neftune) and method.alpha > 0
