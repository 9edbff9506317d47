"""The table of methods, made from the registry: python -m runners.catalogue --into FILE."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from methods.method import Method, Setting
from methods.registry import composition_problems, registered
from results.errors import UserError
from results.pages.text import place
from runners.models.build import count_parameters
from runners.models.pretrained import head_names

BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"
# The shapes of public base models; names of transformers' configuration classes and their values.
SHAPES: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "BERT": ("BertConfig", {}),
        "RoBERTa": ("RobertaConfig", {"vocab_size": 50265, "type_vocab_size": 1}),
        "ELECTRA": (
            "ElectraConfig",
            {"embedding_size": 768, "hidden_size": 768}
            | {"intermediate_size": 3072, "num_attention_heads": 12},
        ),
        "DeBERTa-v2": (
            "DebertaV2Config",
            {
                "vocab_size": 128_100,
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "intermediate_size": 3072,
                "relative_attention": True,
                "position_buckets": 256,
                "norm_rel_ebd": "layer_norm",
                "share_att_key": True,
                "pos_att_type": ["p2c", "c2p"],
                "position_biased_input": False,
                "type_vocab_size": 0,
            },
        ),
        "ALBERT": (
            "AlbertConfig",
            {"hidden_size": 768, "num_attention_heads": 12} | {"intermediate_size": 3072},
        ),
        "DistilBERT": ("DistilBertConfig", {}),
        "ModernBERT": ("ModernBertConfig", {}),
        "MPNet": ("MPNetConfig", {"max_position_embeddings": 514}),
        "XLNet": ("XLNetConfig", {"d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}),
        "T5": ("T5Config", {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}),
    }
)


def shape(name: str, **changes: Any) -> Any:
    """Return the configuration of a shape, for two classes."""
    import transformers

    kind, values = SHAPES[name]
    return getattr(transformers, kind)(**{**values, **changes}, num_labels=2)


def on_meta(config: Any) -> Any:
    """Return a model for classification on the meta device: names and sizes, no weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


def setting_of(model: Any, max_length: int = 128) -> Setting:
    """Return a setting in which what lies outside the encoder is the head."""
    import torch

    return Setting(
        head=head_names(model, set()),
        generator=torch.Generator().manual_seed(0),
        num_labels=2,
        regression=False,
        total_steps=1,
        max_length=max_length,
    )


def counted(config: Any, method: Method) -> dict[str, int]:
    """Return the parameter counts of a method on a shape."""
    model = on_meta(config)
    setting = setting_of(model)
    method.prepare(model, setting)
    return count_parameters(model, setting.head, (method,))


def table() -> str:
    """Return the methods as Markdown tables: what trains, how it trains, and sentence vectors."""
    vectors = {n: c for n, c in registered().items() if c.represents}
    labelled = {n: c for n, c in registered().items() if n not in vectors}
    choosing = {n: c for n, c in labelled.items() if "parameters" in c.owns}
    heads = {n: c for n, c in labelled.items() if c.model_head is not None}
    changing = {n: c for n, c in labelled.items() if n not in choosing and n not in heads}
    lines = [
        "One of these says what trains (without one, everything does), and combines with those of"
        " the second table:",
        "",
        "| `method=` | paper | what trains, besides the head | parameters on bert-base |"
        " architectures |",
        "|---|---|---|---:|---|",
    ]
    for name, cls in choosing.items():
        counts, where = _counts(cls)
        number = f"{counts['trainable_without_head']:,}"
        if counts["training_only"]:
            number += f" (and {counts['training_only']:,} while training)"
        lines.append(f"| `{name}` | {cls.paper} | {cls.trains} | {number} | {where} |")
    lines += [
        "",
        "Any number of these change the training:",
        "",
        "| `method=` | paper | what changes | architectures | not with |",
        "|---|---|---|---|---|",
    ]
    for name, cls in changing.items():
        where = _counts(cls)[1]
        lines.append(
            f"| `{name}` | {cls.paper} | {cls.trains} | {where} | {_never(cls, labelled)} |"
        )
    lines += [
        "",
        "These take the place of a head that is drawn; one of them in a run:",
        "",
        "| `method=` | paper | how answers are read | not with |",
        "|---|---|---|---|",
    ]
    for name, cls in heads.items():
        lines.append(f"| `{name}` | {cls.paper} | {cls.trains} | {_never(cls, labelled)} |")
    lines += [
        "",
        "These make vectors of sentences, for `task=sts`; one of them in a run:",
        "",
        "| `method=` | paper | what trains | not with |",
        "|---|---|---|---|",
    ]
    for name, cls in vectors.items():
        never = "any other" if "training" in cls.owns else _never(cls, labelled)
        lines.append(f"| `{name}` | {cls.paper} | {cls.trains} | {never} |")
    return "\n".join(lines) + "\n"


def _never(cls: type[Method], others: Mapping[str, type[Method]]) -> str:
    """Name the methods that one cannot be combined with."""
    return ", ".join(f"`{n}`" for n, c in others.items() if not _meet(cls, c)) or "–"


def _meet(first: type[Method], second: type[Method]) -> bool:
    return first is second or not composition_problems([first(), second()])


def _counts(cls: type[Method]) -> tuple[dict[str, int], str]:
    """Return a method's counts on bert-base, and on which architectures it works."""
    counts: dict[str, dict[str, int]] = {}
    for architecture in SHAPES:
        try:
            counts[architecture] = counted(shape(architecture, **_fewer(cls, architecture)), cls())
        except UserError:
            continue
    missing = [a for a in SHAPES if a not in counts]
    return counts["BERT"], "all" if not missing else f"not {', '.join(missing)}"


def _fewer(cls: type[Method], architecture: str) -> dict[str, int]:
    """Return two layers for one of many methods of a kind, which only is to fit or be refused."""
    if not cls.like or architecture == "BERT":
        return {}
    return {"n_layers" if architecture == "DistilBERT" else "num_hidden_layers": 2}


def main(arguments: list[str] | None = None) -> int:
    """Print or place the table; return 0, or 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m runners.catalogue", description=__doc__)
    parser.add_argument("--into", type=Path, metavar="FILE", help="replace what stands in FILE")
    options = parser.parse_args(arguments)
    if options.into is None:
        print(table(), end="")
        return 0
    try:
        place(table(), options.into, BEGIN, END)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
