"""(IA)³: learned vectors rescale keys, values and the input of the second feed-forward matrix.

Liu et al., NeurIPS 2022 (arXiv 2205.05638), through peft. peft's default targets for BERT also
catch the attention's output matrix, one vector a layer more than the paper; here the paper's three
are named exactly. In T5's decoder, as in the paper, keys and values of the attention to the encoder
are rescaled too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from methods.method import LearningRate, Method, Setting


@dataclass(kw_only=True)
class Ia3(Method):
    """Rescale keys, values and feed-forward activations, by ones at first; train scales and head.

    An architecture with one matrix for queries, keys and values is refused.
    """

    name: ClassVar[str] = "ia3"
    paper: ClassVar[str] = "Liu et al. 2022"
    trains: ClassVar[str] = "scales of keys, values and feed-forward"
    owns: ClassVar[frozenset[str]] = frozenset({"parameters"})

    lr: LearningRate = 3e-3

    @property
    def moves(self) -> frozenset[str]:
        return frozenset({"layers"})

    def prepare(self, model: Any, setting: Setting) -> None:
        from peft import IA3Config, TaskType

        from methods.surgery import places, tuners

        places.layers(model, "ia3", ["key", "value"])
        layouts = places.stacks(model, "ia3")
        forward = {layout.layers: layout.matrices("contraction") for layout in layouts}
        names = {
            layout.layers: layout.matrices("key", "value", "contraction") for layout in layouts
        }
        self.config = IA3Config(
            task_type=TaskType.SEQ_CLS,
            target_modules=tuners.inside_layers(names),
            feedforward_modules=tuners.inside_layers(forward),
        )
        tuners.inject(model, self.config, setting)

    def peft_config(self) -> Any:
        return self.config
