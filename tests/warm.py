"""What every run would import and look up anew, done once where processes are forked from.

No tensor is computed here: threads that a computation starts would not be in a forked process.
"""

from __future__ import annotations

import contextlib
import warnings

import peft
import sklearn.metrics
import transformers.conversion_mapping as conversions
import transformers.models.bert.modeling_bert
from hydra.core.plugins import Plugins

import runners.command
import runners.config.check
import runners.runs.attempt
import runners.runs.run
import runners.runs.train
import runners.tasks.glue_metrics.values
from methods.registry import registered
from runners.config.compose import compose
from tests.composing import remember_compositions

__all__ = ["conversions", "peft", "runners", "sklearn", "transformers"]

warnings.simplefilter("ignore")
remember_compositions()
with contextlib.suppress(Exception):  # only time would be lost
    Plugins.instance()
    registered()
    compose(("task=rte", "data=embedded", "budget=smoke"))
    conversions.get_checkpoint_conversion_mapping("bert")
