"""A file of a format that is not read is refused by the format's name; text stays text."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from runners.config.task import Pairs, Task
from runners.data.corpus import read_training_text
from runners.data.files import read_sentences, read_text
from runners.data.local import read_file
from runners.data.pairs import read_pairs
from tests.conftest import Cli, configure

ROWS = [("a café opened", "1"), ("it was dull", "0")] * 20
TSV = "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS)
CSV = TSV.replace("\t", ",")
RECORDS = [{"sentence": text, "label": label} for text, label in ROWS]


def _workbook() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train.tsv", TSV)
    return stream.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), stream)
    return stream.getvalue()


FORMATS: dict[str, tuple[bytes, str]] = {
    "tsv.gz": (gzip.compress(TSV.encode()), "looks like gzip: unpack it with gunzip"),
    "csv.gz": (gzip.compress(CSV.encode()), "looks like gzip"),
    "tsv.bz2": (bz2.compress(TSV.encode()), "looks like bzip2"),
    "tsv.xz": (lzma.compress(TSV.encode()), "looks like xz"),
    "zip": (_zip(), "looks like a zip archive"),
    "xlsx": (_workbook(), "looks like an Excel workbook: save it as CSV UTF-8"),
    "parquet": (_parquet(), "looks like Parquet"),
    "jsonl": ("\n".join(map(json.dumps, RECORDS)).encode(), "looks like JSON lines"),
    "json": (json.dumps(RECORDS, indent=1).encode(), "looks like JSON"),
    "one line.json": (json.dumps(RECORDS).encode(), "looks like JSON"),
    "latin-1.tsv": (TSV.encode("latin-1"), "is not UTF-8 at byte 20: it looks like Latin-1"),
    "latin-1.csv": (CSV.encode("cp1252"), "looks like Latin-1 or Windows-1252: save it as UTF-8"),
    "binary.tsv": (bytes(range(256)) * 4, "looks like no text at all"),
    **{
        f"{code}.{suffix}": (text.encode(code), f"looks like {code[:6].upper()}: save it as UTF-8")
        for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
        for suffix, text in (("tsv", TSV), ("csv", CSV))
    },
}


def _refusal(act: Callable[[], object], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        act()
    said = str(caught.value)
    assert str(path) in said
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("name", FORMATS)
def test_a_table_of_another_format_is_refused_by_the_formats_name(
    name: str, tmp_path: Path
) -> None:
    content, said = FORMATS[name]
    path = tmp_path / f"train.{name}"
    path.write_bytes(content)
    task = configure("task=sst2").settings.task
    assert task.local is not None
    files = task.local
    message = _refusal(lambda: read_file(task, files, path, "train", False), path)
    assert said in message
    assert "what is read is UTF-8 text: tab-separated, or CSV" in message
    bare = files.model_copy(update={"header": False, "columns": {"sentence": 0, "label": 1}})
    assert said in _refusal(lambda: read_file(task, bare, path, "train", True), path)


@pytest.mark.parametrize("name", FORMATS)
def test_pairs_and_sentences_of_another_format_are_refused_too(name: str, tmp_path: Path) -> None:
    content, said = FORMATS[name]
    path = tmp_path / f"file.{name}"
    path.write_bytes(content)
    sets = Task(
        name="sets",
        kind="similarity",
        text=["a", "b"],
        range=[0.0, 5.0],
        metrics=["spearmanr"],
        pairs={"set": Pairs(file=path.name)},
    )
    assert said in _refusal(lambda: read_pairs(sets, "set", sets.pairs["set"], tmp_path), path)
    data = configure("task=sst2").settings.data.model_copy(update={"text": str(path)})
    for kind in ("sentences", "triplets"):
        message = _refusal(lambda k=kind: read_training_text(data, "local", k, set()), path)  # type: ignore[misc]
        assert said in message


def test_lines_that_end_as_on_old_macs_are_said_to(tmp_path: Path) -> None:
    """A file of them was one sentence, or a header without the columns that it names."""
    said = r"its lines end in carriage returns alone"
    task = configure("task=sst2").settings.task
    assert task.local is not None
    table, pairs = tmp_path / "old.tsv", tmp_path / "pairs.tsv"
    for path in (table, pairs):
        path.write_bytes(TSV.replace("\n", "\r").encode())
    with pytest.raises(UserError, match=said):
        read_file(task, task.local, table, "train", skip_malformed=False)
    with pytest.raises(UserError, match=said):
        read_sentences(table, "data.text=old.tsv")
    with pytest.raises(UserError, match=said):
        read_pairs(configure("task=sts", "method=embedding").settings.task, "P",
                   Pairs(file="pairs.tsv"), tmp_path)  # fmt: skip
    table.write_bytes(b"one line, which a carriage return ends\r")
    assert read_sentences(table, "x") == ["one line, which a carriage return ends"]


@pytest.mark.parametrize("name", ["jsonl", "tsv.gz", "utf-16.tsv"])
def test_texts_to_embed_of_another_format_are_refused(name: str, cli: Cli, tmp_path: Path) -> None:
    content, said = FORMATS[name]
    path = tmp_path / f"file.{name}"
    path.write_bytes(content)
    done = cli("embed=none", f"text={path}", f"out={tmp_path / 'a.npy'}")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "BZh91 is a word",
        "%PDF-1.4 is a version",
        "PAR1",
        "{not json}",
        '{"a": 1}',
        "[1]\tb",
        "a\0b and some more text that is plain",
        "漢字\n" * 50,
        "",
    ],
)
def test_text_that_only_begins_like_another_format_is_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    assert read_text(path, "here") == text


def test_a_sentence_in_braces_is_text_to_train_on(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('{"a": 1}\n[2]\n')
    data = configure("task=sst2").settings.data.model_copy(update={"text": str(path)})
    split, _ = read_training_text(data, "local", "sentences", set())
    assert split.texts == (('{"a": 1}',), ("[2]",))
