"""A run's encoder put to use: vectors of a user's sentences, and folders for other programs.

    from runners.runs.embed import load_embedder
    embed = load_embedder("runs/sts.simcse….delta")
    embed(["A man is eating.", "Someone eats."])      # [2, width], float32

`python run.py embed=RUN text=FILE out=FILE.npy` does the same for the lines of a file.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from results.errors import UserError
from results.places import OWN
from results.plain_file import is_folder
from results.record import check_writable
from results.whole import whole
from runners.config.acts import Acts
from runners.config.check import RunConfig, model_path, representation_of
from runners.data.files import read_sentences
from runners.data.rows import listed
from runners.jobs.job import Job
from runners.machine.console import show
from runners.machine.device import (
    choose_device,
    make_deterministic,
    put_in_place,
    set_threads,
)
from runners.models.pretrained import Loaded
from runners.runs.stored import find_stored
from runners.tasks.kind import Evaluation
from runners.tasks.similarity import embed, raw_tokens, sentence_collator, sentence_room

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Embedder:
    """Makes vectors of sentences as a run's evaluation did."""

    job: Job
    loaded: Loaded
    accelerator: Accelerator

    def __call__(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Return one vector a text, [texts, width]; an empty one, or what is none, is a UserError.

        The texts are kept nowhere.
        """
        texts = listed(texts, "texts to make vectors of")
        for number, text in enumerate(texts, 1):
            where = f"text {number} of {len(texts)}"
            if not isinstance(text, str):
                raise UserError(f"{where} is {reprlib.repr(text)}, no text")
            if not text.split():
                raise UserError(f"{where} is empty: a sentence needs a word")
        if not texts:
            raise UserError("there are no texts to make vectors of")
        config, tokenizer = self.job.config, self.loaded.tokenizer
        representation = representation_of(config)
        whole = [representation.text(" ".join(text.split()), False) for text in texts]
        assert isinstance(tokenizer.pad_token_id, int)
        room = sentence_room(config)
        tokens = raw_tokens("text", whole, tokenizer, self.job.weights, room, keep=False)
        collate = sentence_collator([tokens], tokenizer.pad_token_id)
        put_in_place(self.accelerator)
        evaluation = Evaluation(self.accelerator, batch_size)
        return embed(self.loaded.model, representation, collate, evaluation)


def load_embedder(
    run: str | Path,
    *,
    out: str | Path = OWN,
    device: str = "auto",
    model_path: str | None = None,
) -> Embedder:
    """Rebuild the encoder of a run of task=sts.

    `run` is a folder that save=delta wrote, or a record (its file, or the run's name in `out`), of
    which the delta must lie beside it if the run trained. `model_path` names the pretrained weights
    where they lie elsewhere now. Everything else is a UserError.
    """
    from runners.machine.device import make_accelerator

    stored = find_stored(run, "embed", out=out, model_path=model_path)
    task = stored.config.settings.task
    if not task.facts.vectors:
        raise UserError(
            f"embed={run}: that run is of task={task.name}, which makes no vectors;"
            " name one of task=sts"
        )
    job, loaded = stored.load()
    accelerator = make_accelerator(choose_device(device), job.config)
    make_deterministic()
    loaded.model.to(accelerator.device).eval()
    return Embedder(job, loaded, accelerator)


def embed_file(acts: Acts, command: RunConfig, typed: Sequence[str]) -> int:
    """Write the vectors of a file's lines as a NumPy array, whole or not at all."""
    settings = command.settings
    if acts.text is None or not settings.out.endswith(".npy"):
        raise UserError("embed=RUN needs text=FILE, one sentence a line, and out=FILE.npy")
    assert acts.embed is not None
    path, out = Path(acts.text), Path(settings.out)
    lines = read_sentences(path, f"text={path}")
    empty = [i for i, line in enumerate(lines, 1) if not line.split()]
    if empty or not lines:
        where = f"line {empty[0]} is empty" if empty else "the file is empty"
        raise UserError(f"text={path}: {where}: each line must hold a sentence")
    if is_folder(out):
        raise UserError(f"out={out}: that is a folder; name a file")
    set_threads(settings.threads)
    path_now = model_path(command, typed)
    embedder = load_embedder(acts.embed, device=settings.device, model_path=path_now)
    check_writable(out.parent)
    vectors = embedder(lines)
    try:
        with whole(out) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None
    show(f"{out}: {len(vectors)} vectors of {vectors.shape[1]} numbers, float32")
    return 0
