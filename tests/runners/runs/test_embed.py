"""Vectors of a user's sentences, and folders that sentence-transformers reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sentence_transformers

from results.errors import UserError
from results.record import read_all
from runners.jobs.job import Job
from runners.models.weights import find_weights
from runners.runs.embed import load_embedder
from runners.tasks.similarity import cosines
from tests.conftest import Cli, configure, in_soak, tiny

Folder = Callable[[str], Path]
SENTENCES = ["the plot is dull", "anna praised bruno in paris", "dogs are asleep , cats are not"]


def _sentences(count: int) -> list[str]:
    words = "a man woman dog plays the guitar in red house near old river and sings to two".split()
    rng = np.random.default_rng(3)
    return [" ".join(rng.choice(words, size=int(n))) + "." for n in rng.integers(2, 60, size=count)]


@pytest.fixture
def embedded(cli: Cli, tmp_path: Path) -> Path:
    """Return the record of the packaged encoder as it is."""
    done = cli(
        *("method=embedding", "task=sts", "data=embedded", "data.eval_size=20"),
        *("device=cpu", "budget.max_length=256", "save=sentence-transformers"),
    )
    assert done.code == 0, done.err
    return next((tmp_path / "runs").glob("*.json"))


def test_packaged_encoder_equals_sentence_transformers(embedded: Path) -> None:
    """On 200 sentences, to 1e-5; and so does the folder that is saved for that library."""
    texts = _sentences(200)
    ours = load_embedder(embedded, device="cpu")(texts)
    folder = find_weights(configure("task=rte").settings.model).folder
    theirs: Any = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    expected = theirs.encode(texts)  # unit vectors
    norms = np.linalg.norm(ours, axis=1, keepdims=True)
    assert np.abs(ours / norms - expected).max() < 1e-5
    saved = sentence_transformers.SentenceTransformer(
        str(embedded.with_suffix(".sentence-transformers")), device="cpu"
    )
    assert np.abs(saved.encode(texts) - ours).max() < 1e-5


def test_trained_encoder_is_exported_with_equal_vectors(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "method=[bitfit,simcse]", "task=sts", "lr=1e-3")
    assert cli(*given, "save=sentence-transformers").code == 0
    done = cli(*given, "save=delta")
    assert done.code == 0
    assert "was run without save=delta" in done.err
    [record] = (tmp_path / "runs").glob("*.json")
    ours = load_embedder(record, device="cpu")(SENTENCES)
    saved = sentence_transformers.SentenceTransformer(
        str(record.with_suffix(".sentence-transformers")), device="cpu"
    )
    assert np.abs(saved.encode(SENTENCES) - ours).max() < 1e-5
    plain = sentence_transformers.SentenceTransformer(str(tiny_folder("bert")), device="cpu")
    assert np.abs(plain.encode(SENTENCES) - ours).max() > 1e-4


@pytest.mark.parametrize(
    "architecture", ["xlnet", *(pytest.param(a, marks=in_soak) for a in ("t5", "mpnet"))]
)
def test_means_of_other_encoders_are_exported_with_equal_vectors(
    architecture: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """With XLNet's segments, which that library takes from the tokenizer; of T5 the encoder."""
    given = tiny(tiny_folder(architecture), "method=embedding", "task=sts")
    done = cli(*given, "method.embedding.pooling=mean", "save=sentence-transformers")
    assert done.code == 0, done.err
    [record] = (tmp_path / "runs").glob("*.json")
    ours = load_embedder(record, device="cpu")(SENTENCES)
    saved = sentence_transformers.SentenceTransformer(
        str(record.with_suffix(".sentence-transformers")), device="cpu"
    )
    assert np.abs(saved.encode(SENTENCES) - ours).max() < 1e-5


@pytest.mark.real_data
def test_packaged_encoder_has_its_published_scores(
    cli: Cli, real_sts: Path, tmp_path: Path
) -> None:
    """all-MiniLM-L6-v2 in the MTEB leaderboard; the other five sets are in results/runs."""
    done = cli(
        *("method=embedding", "model.pooling=mean", "task=sts", "data=local", "device=cpu"),
        *(f"data.dir={real_sts}", "budget.max_length=256", "~task.pairs.STS12"),
        *("~task.pairs.STS13", "~task.pairs.STS14", "~task.pairs.STS15", "~task.pairs.SICK-R"),
    )
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    found = {name: 100 * values["spearmanr"] for name, values in record.scores.items()}
    assert found == pytest.approx({"STS16": 78.99, "STS-B": 82.03}, abs=0.05)
    for name, values in record.predictions.items():
        again = scipy.stats.spearmanr(values["predictions"], values["references"])[0]
        assert 100 * again == pytest.approx(found[name], abs=5e-3)  # kept to nine digits
    assert 0 < record.method_reports["embedding"]["anisotropy"] < 0.1


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("method=promptbert", "has no module for"),
        ("method=[lora,simcse]", "with lora: it adds modules of its own"),
        ("method=[prefix,simcse]", "with prefix: it adds modules of its own"),
    ],
)
def test_what_that_library_cannot_do_is_refused(
    method: str, sentence: str, cli: Cli, tiny_folder: Folder
) -> None:
    save = "save=sentence-transformers"
    done = cli(*tiny(tiny_folder("bert"), method, "task=sts", save, "budget.max_length=54"))
    assert done.code == 2
    assert sentence in done.err


def test_lines_of_a_file_become_an_array(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    """The vectors are those that the run itself compared: the record's cosines come out again."""
    given = tiny(tiny_folder("bert"), "method=promptbert", "task=sts", "lr=1e-3", "save=delta")
    given = [*given, "budget.max_length=64"]
    assert cli(*given).code == 0
    [record] = read_all(tmp_path / "runs")
    pairs = Job(configure(*given), trains=False).data.report["STS-B"].texts
    text, out = tmp_path / "text.txt", tmp_path / "vectors.npy"
    text.write_text("\n".join(sentence for pair in pairs for sentence in pair) + "\n")
    delta = tmp_path / "runs" / f"{record.run}.delta"
    done = cli(f"embed={delta}", f"text={text}", f"out={out}", "device=cpu")
    assert done.code == 0, done.err
    vectors = np.load(out, allow_pickle=False)
    assert vectors.shape == (2 * len(pairs), 32)
    assert vectors.dtype == np.float32
    expected = record.predictions["STS-B"]["predictions"]
    assert np.allclose(cosines(vectors[::2], vectors[1::2]), expected, atol=1e-6)


def test_any_list_of_texts_is_embedded_and_kept_nowhere(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*tiny(tiny_folder("bert"), "method=embedding", "task=sts")).code == 0
    [record] = (tmp_path / "runs").glob("*.json")
    monkeypatch.setenv("TUNEBENCH_CACHE", str(tmp_path / "cache"))
    embed = load_embedder(record, device="cpu")
    vectors = embed(SENTENCES)
    for texts in (tuple(SENTENCES), np.array(SENTENCES), pd.Series(SENTENCES)):
        assert np.array_equal(embed(texts), vectors)  # type: ignore[arg-type]
    assert not (tmp_path / "cache").exists()
    for wrong, said in (
        ("dogs", "a str was given"),
        (["dogs", None], "text 2 of 2 is None, no text"),
        (["dogs", " "], "text 2 of 2 is empty"),
        ([], "there are no texts"),
    ):
        with pytest.raises(UserError, match=said):
            embed(wrong)  # type: ignore[arg-type]
    text = tmp_path / "text.txt"
    text.write_text("dogs\n")
    (tmp_path / "folder.npy").mkdir()
    done = cli(f"embed={record}", f"text={text}", f"out={tmp_path / 'folder.npy'}")
    assert (done.code, "that is a folder; name a file" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("content", "arguments", "sentence"),
    [
        ("one\n\ntwo\n", [], "line 2 is empty"),
        ("", [], "the file is empty"),
        (None, [], "text.txt is missing"),
        ("one\n", ["out=vectors.txt"], "needs text=FILE, one sentence a line, and out=FILE.npy"),
        ("one\n", ["embed=nothing"], "no such record"),
    ],
)
def test_mistakes_are_named(
    content: str | None, arguments: list[str], sentence: str, cli: Cli, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_text(content)
    given = ["embed=x", f"text={text}", f"out={tmp_path / 'v.npy'}", *arguments]
    done = cli(*given)
    assert done.code == 2
    assert sentence in done.err


def test_a_run_that_cannot_be_embedded(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    assert cli(*tiny(tiny_folder("bert"), "method=simcse", "task=sts")).code == 0
    assert cli(*tiny(tiny_folder("bert"), "method=full", "task=rte", "save=delta")).code == 0
    runs = tmp_path / "runs"
    [trained] = runs.glob("sts*.json")
    with pytest.raises(UserError, match="run it again with save=delta"):
        load_embedder(trained)
    [other] = runs.glob("rte*.delta")
    with pytest.raises(UserError, match="task=rte, which makes no vectors"):
        load_embedder(other)
