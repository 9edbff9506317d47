"""What every run of a test imports, composes and reads, once where processes are forked from.

No tensor is computed here: threads that a computation starts would not be in a forked process.
"""

from __future__ import annotations

import contextlib

from runners import warm
from runners.config.check import check
from runners.config.compose import compose
from runners.data.embedded.splits import read_embedded
from tests.composing import remember_compositions

remember_compositions()
warm.prepare()
with contextlib.suppress(Exception):  # only time would be lost
    for task in ("rte", "cola", "sst2", "mnli"):
        composed = compose((f"task={task}", "data=embedded", "budget=smoke"))
        read_embedded(check(composed).settings.task)
