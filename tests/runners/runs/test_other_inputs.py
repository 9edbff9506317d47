"""What a run left is not used with another tokenizer or configuration than it was made with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.record import Record, read_all
from results.sealed import sealed
from runners.exports.delta import load_delta
from runners.models.about import ABOUT
from tests.conftest import Cli, tiny
from tests.tiny import save_tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny("bert", tmp_path / "model")


def _done(cli: Cli, out: Path, *given: str) -> Record:
    done = cli(*given, f"out={out}")
    assert done.code == 0, done.err
    [record] = read_all(out)
    return record


def _swap_words(folder: Path) -> None:
    """Give words of a tokenizer each other's numbers, as another version of it might."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    names = [word for word in words if not word.startswith("[")]
    for one, other in zip(names[::2], names[1::2], strict=False):
        words[one], words[other] = words[other], words[one]
    path.write_text(json.dumps(content))


def _texts(folder: Path) -> tuple[str, str]:
    """Return tables of rows and of lines to be answered."""
    (rows := folder / "rows.csv").write_text("sentence1,sentence2\na dog,a cat\n")
    (lines := folder / "lines.txt").write_text("a dog\n")
    return f"text={rows}", f"text={lines}"


def test_another_tokenizer_is_refused_by_all_that_read_a_delta(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    out, plain = tmp_path / "runs", tiny(folder, "method=bitfit", "task=rte")
    run = _done(cli, out, *plain, "save=delta").run
    given = tiny(folder, "method=[bitfit,simcse]", "task=sts", "save=delta")
    vectors = _done(cli, tmp_path / "sts", *given).run
    rows, lines = _texts(tmp_path)
    _swap_words(folder)
    delta, other = out / f"{run}.delta", "it was made with another configuration or tokenizer"
    acts = [
        [f"predict={delta}", rows, f"out={tmp_path / 'o.csv'}"],
        [f"predict={out / run}.json", rows, f"out={tmp_path / 'o.csv'}"],
        [f"eval={delta}"],
        [f"export={delta}", f"out={tmp_path / 'exported'}"],
        [f"embed={tmp_path / 'sts' / vectors}.delta", lines, f"out={tmp_path / 'o.npy'}"],
    ]
    for act in acts:
        done = cli(*act)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert other in done.err
        assert "by model.name_or_path=" in done.err
    for start in (delta, run):
        done = cli(*plain, f"start={start}", f"out={out}")
        assert (done.code, "trained with another configuration" in done.err) == (2, True), done.err
    whole = save_tiny("bert", tmp_path / "as_it_was")
    assert cli(f"eval={delta}", f"model.name_or_path={whole}").code == 0


def test_an_older_delta_takes_its_tokenizer_from_the_record_beside_it(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    out, plain = tmp_path / "runs", tiny(folder, "method=bitfit", "task=rte")
    run = _done(cli, out, *plain, "save=delta").run
    delta = out / f"{run}.delta"
    about = json.loads((delta / ABOUT).read_text())
    del about["weights"]["files_sha256"], about["content_sha256"]
    (delta / ABOUT).write_text(sealed(about))
    load_delta(delta)
    _swap_words(folder)
    done = cli(f"eval={delta}")
    assert (done.code, "another configuration or tokenizer" in done.err) == (2, True), done.err
    done = cli(*plain, f"start={delta}", f"out={out}")
    assert (done.code, "another configuration or tokenizer" in done.err) == (2, True), done.err
    (out / f"{run}.json").unlink()
    load_delta(delta)  # neither says which it was


def test_a_whole_model_is_refused_with_another_tokenizer(
    cli: Cli, folder: Path, tmp_path: Path
) -> None:
    """The folder holds one of its own, which only transformers reads."""
    out, (rows, _) = tmp_path / "runs", _texts(tmp_path)
    run = _done(cli, out, *tiny(folder, "method=bitfit", "task=rte"), "save=model").run
    asked = [f"predict={out / run}.model", rows, f"out={tmp_path / 'o.csv'}"]
    assert cli(*asked).code == 0
    _swap_words(folder)
    for named in (f"predict={out / run}.model", f"predict={out / run}.json"):
        done = cli(named, *asked[1:])
        assert (done.code, "another configuration or tokenizer" in done.err) == (2, True), done.err
