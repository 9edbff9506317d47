"""A delta in peft's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from runners.config.check import RunConfig
from runners.config.places import portable
from runners.models.build import Tensors, kept_tensors
from runners.models.pretrained import Loaded
from runners.models.weights import Weights

ABOUT, OURS, PEFTS = "delta.json", "delta.safetensors", "adapter_model.safetensors"


def _write_peft(
    folder: Path,
    tensors: Tensors,
    model: Any,
    head: frozenset[str],
    config: RunConfig,
    weights: Weights,
) -> str | None:
    """Write peft's two files, or return None where the run is not one of peft's alone."""
    configs = [c for c in (m.peft_config() for m in config.methods) if c is not None]
    if len(configs) != 1:
        return None
    [peft] = configs
    names = {name: _peft_name(name, peft, head) for name in tensors}
    if None in names.values():
        return None  # another method of the run changed something besides
    outside = {n for n in head if not n.startswith(model.base_model_prefix + ".")}
    peft.modules_to_save = sorted(
        {n.split(".")[0] for n in outside} | {n.rsplit(".", 1)[0] for n in head - outside}
    )
    peft.base_model_name_or_path = portable(weights.name_or_path)
    peft.inference_mode = True
    save_file({str(names[n]): t for n, t in tensors.items()}, folder / PEFTS)
    peft.save_pretrained(str(folder))
    return PEFTS


_PROMPTS = (
    "prefix:prompt_embeddings",
    "prompt_encoder.made_by.embedding.weight",
    "prompt_encoder.embedding.weight",
)


def _peft_name(name: str, peft: Any, head: frozenset[str]) -> str | None:
    """Return peft's name of a tensor; None if it is neither the head's nor the adapter's."""
    learning = peft.is_prompt_learning
    root = "base_model." if learning else "base_model.model."
    if name in head:
        return root + name
    if learning:
        return "prompt_embeddings" if name in _PROMPTS else None
    return root + name.replace(".default", "") if ".default" in name else None


def _from_peft(tensors: Tensors, loaded: Loaded, config: RunConfig) -> Tensors:
    """Give the tensors of peft's file our names again; foreign ones keep theirs."""
    [peft] = [c for c in (m.peft_config() for m in config.methods) if c is not None]
    names = kept_tensors(loaded.model, config.methods)
    ours = {_peft_name(name, peft, loaded.head): name for name in names}
    return {ours.get(n, n): t for n, t in tensors.items()}
