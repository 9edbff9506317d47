"""Draws learned activation functions beside GELU and tanh."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

Curves = dict[str, tuple[Any, Any]]


def value(x: Any, numerator: Any, denominator: Any) -> Any:
    """Return R(x) of the given coefficients in float64, element-wise."""
    top = sum(a * x**i for i, a in enumerate(numerator))
    bottom = 1 + sum(np.abs(b * x ** (j + 1)) for j, b in enumerate(denominator))
    return top / bottom


def draw(curves: Curves) -> bytes:
    """Return an SVG with one panel a function on [-5, 5]; equal curves give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    x = np.linspace(-5, 5, 201)
    gelu = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])
    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    with matplotlib.rc_context({"svg.hashsalt": "tunebench", "svg.fonttype": "none"}):
        figure = Figure(figsize=(2.6 * columns, 2.3 * rows), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for panel in panels[len(curves) :]:
            panel.set_visible(False)
        for panel, (name, coefficients) in zip(panels, curves.items(), strict=False):
            start, label = (np.tanh(x), "tanh") if name == "pooler" else (gelu, "GELU")
            panel.plot(x, start, color="0.6", linewidth=1, linestyle="--", label=label)
            panel.plot(x, value(x, *coefficients), color="C0", linewidth=1.5, label="learned")
            panel.set_title(name, fontsize=9)
            panel.tick_params(labelsize=7)
            panel.legend(fontsize=7, frameon=False)
        stream = io.BytesIO()
        canvas.print_svg(stream, metadata={"Date": None})
    return stream.getvalue()
