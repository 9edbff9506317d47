"""Dropout off: the control for methods that switch it off, such as HyPe and Mixout.

Yuan et al., ACL 2023 (arXiv 2212.08853) train HyPe without dropout on hidden representations; this
is that setting without the noise, which the paper does not report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from methods.method import Method, Setting
from methods.surgery.inserted import dropout_of


@dataclass(kw_only=True)
class NoDropout(Method):
    """Set every dropout rate to zero, those of attention probabilities only with `attention`.

    Rates of what another method of the run inserts are zero too, in whatever order the two are
    named.
    """

    name: ClassVar[str] = "no_dropout"
    trains: ClassVar[str] = "dropout on hidden states off; `attention=true`"
    other_dropout: ClassVar[bool] = True

    attention: bool = False

    def prepare(self, model: Any, setting: Setting) -> None:
        from methods.surgery import places

        places.switch_off_dropout(model, "no_dropout", self.attention)

    def version_beside(self, methods: Sequence[Method]) -> int:
        """Return 2 beside a method whose dropout was left on before."""
        return self.version + int(left_on(self, methods))

    def all_prepared(self, model: Any) -> None:
        """Switch off what other methods have inserted, too."""
        from methods.surgery import places

        places.switch_off_dropout(model, "no_dropout", self.attention)
        places.switch_off_own_dropout(model)


def left_on(method: Method, methods: Sequence[Method]) -> bool:
    """Say whether dropout of another method was on beside one that switches it off, once.

    So it was where that one came later, or keeps its rate elsewhere than in torch's modules.
    """
    later = methods[methods.index(method) + 1 :]
    return any(dropout_of(m)[0] for m in later) or any(dropout_of(m)[1] for m in methods)
