"""Which tensors of a checkpoint are a task head's, told by their names, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from results.errors import UserError

_ONE, _TWO = ("classifier",), ("classifier.dense", "classifier.out_proj")
_DEBERTA = ("pooler.dense", "classifier")
_MODERNBERT = ("head.dense", "head.norm", "classifier")
_SUMMARY = ("sequence_summary.summary",)

# By architecture: how transformers calls the encoder in a model that classifies sequences, and the
# modules outside it that hold weights.
HEADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "albert": ("albert", _ONE),
    "bert": ("bert", _ONE),
    "big_bird": ("bert", _TWO),
    "camembert": ("roberta", _TWO),
    "canine": ("canine", _ONE),
    "convbert": ("convbert", _TWO),
    "data2vec-text": ("data2vec_text", _TWO),
    "deberta": ("deberta", _DEBERTA),
    "deberta-v2": ("deberta", _DEBERTA),
    "distilbert": ("distilbert", ("pre_classifier", "classifier")),
    "electra": ("electra", _TWO),
    "ernie": ("ernie", _ONE),
    "eurobert": ("model", ("dense", "classifier")),
    "flaubert": ("transformer", _SUMMARY),
    "fnet": ("fnet", _ONE),
    "funnel": ("funnel", ("classifier.linear_hidden", "classifier.linear_out")),
    "ibert": ("ibert", _TWO),
    "layoutlm": ("layoutlm", _ONE),
    "longformer": ("longformer", _TWO),
    "luke": ("luke", _ONE),
    "megatron-bert": ("bert", _ONE),
    "mobilebert": ("mobilebert", _ONE),
    "modernbert": ("model", _MODERNBERT),
    "modernbert-decoder": ("model", _MODERNBERT),
    "mpnet": ("mpnet", _TWO),
    "mra": ("mra", _TWO),
    "nomic_bert": ("nomic_bert", _ONE),
    "nystromformer": ("nystromformer", _TWO),
    "reformer": ("reformer", _TWO),
    "rembert": ("rembert", _ONE),
    "roberta": ("roberta", _TWO),
    "roberta-prelayernorm": ("roberta_prelayernorm", _TWO),
    "roc_bert": ("roc_bert", _ONE),
    "roformer": ("roformer", _TWO),
    "squeezebert": ("transformer", _ONE),
    "t5": ("transformer", ("classification_head.dense", "classification_head.out_proj")),
    "xlm": ("transformer", _SUMMARY),
    "xlm-roberta": ("roberta", _TWO),
    "xlm-roberta-xl": ("roberta", _TWO),
    "xlnet": ("transformer", (*_SUMMARY, "logits_proj")),
    "xmod": ("roberta", _TWO),
    "yoso": ("yoso", _TWO),
}


_LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library bounds it


def head_tensors(model_type: object, names: Iterable[str]) -> list[str]:
    """Return those names of a file's tensors that transformers puts outside the encoder.

    Of an architecture that is not known here there are none; loading then refuses a head.
    """
    prefix, modules = HEADS.get(str(model_type), ("", ()))
    held = {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    return sorted(name for name in names if name.removeprefix(f"{prefix}.") in held)


def tensor_names(path: Path, shown: str) -> list[str]:
    """Return the names in a safetensors file's header; a file that has none is a UserError."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 2 <= length <= _LONGEST_HEADER else None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise UserError(
            f"{shown}: {path} is no safetensors file; the file may be damaged: copy it again"
        )
    return sorted(set(header) - {"__metadata__"})
