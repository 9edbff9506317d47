"""Dropout off: the control for methods that switch it off, such as HyPe and Mixout.

Yuan et al., ACL 2023 (arXiv 2212.08853) train HyPe without dropout on hidden representations; this
is that setting without the noise, which the paper does not report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from methods.method import Method, Setting


@dataclass(kw_only=True)
class NoDropout(Method):
    """Set every dropout rate to zero, those of attention probabilities only with `attention`."""

    name: ClassVar[str] = "no_dropout"
    trains: ClassVar[str] = "dropout on hidden states off; `attention=true`"
    other_dropout: ClassVar[bool] = True

    attention: bool = False

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places

        places.switch_off_dropout(model, "no_dropout", self.attention)
