"""A run's encoder put to use: vectors of a user's sentences, and folders for other programs.

    from runners.vectors import load_embedder
    embed = load_embedder("results/runs/sts.simcse….delta")
    embed(["A man is eating.", "Someone eats."])      # [2, width], float32

`python run.py embed=RUN text=FILE out=FILE.npy` does the same for the lines of a file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from results import record as records
from results.errors import UserError
from runners.build import apply_methods, load_pretrained
from runners.config import RunConfig, from_record
from runners.delta import ABOUT, load_delta, typed_model_path
from runners.environment import choose_device, make_deterministic, set_threads
from runners.files import lines_of, read_text
from runners.models import Loaded
from runners.sentences import SentenceCollator, embed, raw_tokens, representation_of, sentence_room
from runners.weights import Weights, find_weights

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Embedder:
    """Makes vectors of sentences as a run's evaluation did."""

    config: RunConfig
    weights: Weights
    loaded: Loaded
    accelerator: Accelerator

    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Return one vector a text, [texts, width]; an empty text is a UserError."""
        empty = [i for i, text in enumerate(texts, 1) if not text.split()]
        if empty:
            raise UserError(f"text {empty[0]} of {len(texts)} is empty: a sentence needs a word")
        if not texts:
            raise UserError("there are no texts to make vectors of")
        representation = representation_of(self.config)
        whole = [representation.text(" ".join(text.split()), False) for text in texts]
        tokenizer = self.loaded.tokenizer
        assert isinstance(tokenizer.pad_token_id, int)
        room = sentence_room(self.config)
        tokens = raw_tokens("text", whole, tokenizer, self.weights, room)
        collate = SentenceCollator([tokens], tokenizer.pad_token_id)
        return embed(self.loaded.model, representation, collate, batch_size, self.accelerator)


def load_embedder(
    run: str | Path,
    *,
    out: str | Path = "results/runs",
    device: str = "auto",
    model_path: str | None = None,
) -> Embedder:
    """Rebuild the encoder of a run of task=sts.

    `run` is a folder that save=delta wrote, or a record (its file, or the run's name in `out`), of
    which the delta must lie beside it if the run trained. `model_path` names the pretrained weights
    where they lie elsewhere now. Everything else is a UserError.
    """
    from runners.training import make_accelerator

    found = _delta_or_record(str(run), Path(out))
    if found.is_dir():
        delta = load_delta(found, model_path=model_path)
        config, weights, loaded = delta.config, delta.weights, delta.loaded
    else:
        composed = dict(records.read(found).config)
        if model_path is not None:
            composed["model"] = {**composed["model"], "name_or_path": model_path, "package": None}
        config = from_record(composed)
        weights = find_weights(config.settings.model)
        loaded = apply_methods(config, load_pretrained(config, weights), weights, 0)
    if config.settings.task.kind != "similarity":
        raise UserError(
            f"embed={run}: that run is of task={config.settings.task.name}, which makes no vectors;"
            " name one of task=sts"
        )
    accelerator = make_accelerator(choose_device(device), config)
    make_deterministic()
    loaded.model.to(accelerator.device).eval()
    return Embedder(config, weights, loaded, accelerator)


def _delta_or_record(named: str, out: Path) -> Path:
    """Return the folder of a delta, or the record of a run that trained nothing."""
    from runners.verify import find_record

    if (Path(named) / ABOUT).is_file():
        return Path(named)
    record = find_record(named.removesuffix(".delta"), out, "embed")
    delta = record.with_suffix(".delta")
    if delta.is_dir():
        return delta
    stored = records.read(record)
    if stored.steps:
        raise UserError(
            f"embed={named}: that run trained, and {delta} is not there; run it again with"
            " save=delta"
        )
    return record


def embed_file(asked: RunConfig, arguments: Sequence[str]) -> int:
    """Write the vectors of a file's lines as a NumPy array, whole or not at all."""
    settings = asked.settings
    if settings.text is None or not settings.out.endswith(".npy"):
        raise UserError("embed=RUN needs text=FILE, one sentence a line, and out=FILE.npy")
    assert settings.embed is not None
    path, out = Path(settings.text).expanduser(), Path(settings.out).expanduser()
    lines = lines_of(read_text(path, f"text={path}"))
    empty = [i for i, line in enumerate(lines, 1) if not line.split()]
    if empty or not lines:
        where = f"line {empty[0]} is empty" if empty else "the file is empty"
        raise UserError(f"text={path}: {where}: each line must hold a sentence")
    set_threads(settings.threads)
    path_now = typed_model_path(arguments)
    embedder = load_embedder(settings.embed, device=settings.device, model_path=path_now)
    vectors = embedder(lines)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None
    print(f"{out}: {len(vectors)} vectors of {vectors.shape[1]} numbers, float32")
    return 0


def check_exportable(config: RunConfig, model: Any) -> None:
    """Refuse save=sentence-transformers where that library would not make the same vectors."""
    representation = representation_of(config)
    asked = f"save=sentence-transformers: method={representation.name}"
    if representation.exported_pooling() is None:
        raise UserError(
            f"{asked} makes vectors in a way that library has no module for (a template, a head, or"
            " word embeddings alone); it exports the first token's state and the mean; use"
            " save=delta"
        )
    encoder = model.base_model
    with torch.device("meta"):
        plain = type(encoder)(encoder.config)
    known = {name for name in plain.state_dict() if not name.startswith("pooler")}
    outside = {n.split(".")[0] for n, _ in model.named_parameters()} - {model.base_model_prefix}
    if set(encoder.state_dict()) != known or outside - {"projection"}:
        others = [m.name for m in config.methods if m is not representation]
        raise UserError(
            f"{asked} with {', '.join(others)}: it adds modules of its own to the encoder, which"
            " that library does not load; use save=delta"
        )


def export(folder: Path, model: Any, loaded: Loaded, config: RunConfig) -> None:
    """Write a folder that sentence_transformers.SentenceTransformer loads, whole or not at all."""
    representation = representation_of(config)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.base_model.save_pretrained(temporary)
        loaded.tokenizer.save_pretrained(temporary)
        pooling = representation.exported_pooling()
        parts = {
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": f"{_MODELS}.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_MODELS}.Pooling"},
            ],
            "sentence_bert_config.json": {
                "max_seq_length": config.settings.budget.max_length,
                "do_lower_case": False,
            },
            "1_Pooling/config.json": {
                "word_embedding_dimension": int(model.config.hidden_size),
                "pooling_mode_cls_token": pooling == "cls",
                "pooling_mode_mean_tokens": pooling == "mean",
            },
        }
        (temporary / "1_Pooling").mkdir()
        for name, content in parts.items():
            (temporary / name).write_text(json.dumps(content, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_MODELS = "sentence_transformers.models"
