"""What every run of a test imports and composes, done once where processes are forked from.

No tensor is computed here: threads that a computation starts would not be in a forked process.
"""

from __future__ import annotations

import contextlib

from runners import warm
from runners.config.compose import compose
from tests.composing import remember_compositions

remember_compositions()
warm.prepare()
with contextlib.suppress(Exception):  # only time would be lost
    compose(("task=rte", "data=embedded", "budget=smoke"))
