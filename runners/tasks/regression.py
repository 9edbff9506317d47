"""kind: regression. An example has a score."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from runners.tasks.labelled import Labelled


class Regression(Labelled):
    """One output, which is the answer; the loss is the squared error."""

    label_type: ClassVar[type[np.generic]] = np.float32

    def stored(self, predicted: NDArray[np.float64]) -> list[float]:
        return [float(f"{p:.9g}") for p in predicted]
