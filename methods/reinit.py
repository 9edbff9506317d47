"""Re-initialisation: the top layers and the pooler start afresh.

Zhang et al., ICLR 2021 (arXiv 2006.05987), code asappresearch/revisit-bert-finetuning 0aa4f4e:
matrices from N(0, initializer_range²), biases 0, normalisation gains 1. Where there is no
pretrained pooler only layers are drawn. layers=0 leaves the pooler alone too. What another method
inserts there keeps its own start, in whatever order the two are named. The rest trains as in full
fine-tuning, or as another method of the run says. ALBERT's layers are one, and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from methods.method import Method, Options, Setting
from methods.surgery.inserted import tuner_of
from results.errors import UserError

_LINEAR = frozenset(
    {"adapter", "unipelt", "lora", "lora_plus", "dora", "rslora", "pissa", "olora", "lily"}
)


def _inserts_linear(method: Method) -> bool:
    """Say whether a method puts linear layers into the encoder's."""
    if method.name == "attributes":
        return "adapter" in (getattr(method, "base", ""), getattr(method, "inject", ""))
    return tuner_of(method) in _LINEAR


@dataclass(kw_only=True)
class Reinit(Method):
    """Draw the top `layers` of the encoder and its pooler anew before training."""

    name: ClassVar[str] = "reinit"
    paper: ClassVar[str] = "Zhang et al. 2021"
    trains: ClassVar[str] = "the top layer and the pooler start afresh; `layers=`"
    changes_start: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    no_strength: ClassVar[Options | None] = {"layers": 0}

    layers: Annotated[int, Ge(0)] = 1

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 behind a method whose linear layers were drawn anew too before."""
        before = methods[: methods.index(self)]
        return self.version + int(self.layers > 0 and any(_inserts_linear(m) for m in before))

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places, tuners

        if model.config.model_type == "albert":
            raise UserError("method=reinit: albert's layers share their weights; use another model")
        layers = places.layers(model, "reinit")
        if self.layers > len(layers):
            raise UserError(
                f"method.reinit.layers={self.layers}: this encoder has {len(layers)} layers"
            )
        if self.layers == 0:
            return
        chosen = [layer.module for layer in layers[len(layers) - self.layers :]]
        fresh = any(".pooler." in f".{name}" for name in setting.head)
        pooler = getattr(model.base_model, "pooler", None)
        if pooler is not None and not fresh:
            chosen.append(pooler)
        with tuners.own_stream(setting):
            for part in chosen:
                places.draw_anew(model, part, setting.pretrained)
