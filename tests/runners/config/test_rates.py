"""Each rate that a model has for a method is that method's, or is refused: none is let be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from methods.registry import registered
from results.errors import UserError
from runners.config.check import check
from runners.config.compose import Composer, compose, composing
from runners.root import CONFIGS
from tests.conftest import Cli
from tests.methods.shake import shake_installed


def _model(folder: Path, **rates: float) -> Path:
    """Write a model of one's own with these rates beside full fine-tuning's."""
    (folder / "model").mkdir(exist_ok=True)
    listed = ", ".join(f"{name}: {rate}" for name, rate in {"full": 2e-5, **rates}.items())
    (folder / "model" / "mine.yaml").write_text(
        f"defaults: [minilm, _self_]\nname: mine\nlr: {{{listed}}}\n"
    )
    return folder


def test_each_methods_rate_in_a_models_file_is_its_own_or_is_refused(tmp_path: Path) -> None:
    rates = {name: 1e-3 + 1e-5 * i for i, name in enumerate(registered()) if name != "full"}
    with pytest.raises(UserError) as refused:
        compose(["model=mine"], _model(tmp_path, **rates))
    said = str(refused.value)
    unread = set(re.findall(r"model\.lr\.(\w+) is read by nothing, as method=\1 takes", said))
    assert {"hype", "simcse", "attributes", "raft"} <= unread
    assert said.count(";") == len(unread) - 1  # a sentence each, and nothing else
    read = {name: rate for name, rate in rates.items() if name not in unread}
    assert {"lora", "bitfit", "linear", "peft", "topk"} <= {*read}
    _model(tmp_path, **read)
    every = compose(["model=mine", f"method=[{','.join(registered())}]"], tmp_path)["method"]
    assert {name: every[name]["lr"] for name in read} == read


@pytest.mark.parametrize("method", ["bitfit", "lora", "topk"])
def test_it_is_the_runs_rate(method: str, tmp_path: Path) -> None:
    folder = _model(tmp_path, **{method: 7e-3})
    config = check(compose(["model=mine", f"method={method}", "data=embedded"], folder))
    assert config.lr == 7e-3
    assert check(compose(["model=mine", "method=full", "data=embedded"], folder)).lr == 2e-5


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("+model.lr.nosuch=1e-3", "model.lr.nosuch is read by no method; known: adalora, "),
        ("+model.lr.bit_fit=1e-3", "model.lr.bit_fit is read by no method; did you mean bitfit?"),
        ("+model.lr.hype=5e-2", "model.lr.hype is read by nothing, as method=hype takes no rate"),
    ],
)
def test_a_rate_that_nothing_reads_is_refused(typed: str, said: str, cli: Cli) -> None:
    done = cli("task=sst2", "data=embedded", "method=full", typed)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    with composing(), pytest.raises(UserError, match=re.escape(said)):
        Composer()([typed])


def test_what_the_run_itself_or_a_method_of_ones_own_reads_is_let_be(
    cli: Cli, tmp_path: Path
) -> None:
    """A file that this run does not choose counts too: the model's file is for other runs."""
    rated = compose(["+model.lr.hype=5e-2", "lr='${model.lr.hype}'"])
    assert rated["lr"] == 5e-2
    folder = _model(tmp_path, small=5e-3)
    with pytest.raises(UserError, match=r"lr\.small is read by no method"):
        compose(["model=mine"], folder)
    text = "# @package method.bitfit\ndefaults: [bitfit]\n# lr: ${model.lr.other}\nlr: "
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "small.yaml").write_text(f"{text}${{oc.select:model.lr.small,1e-3}}\n")
    for method, rate in (("small", 5e-3), ("bitfit", 2e-3)):  # minilm's own
        composed = compose(["model=mine", f"method={method}"], folder)
        assert composed["method"]["bitfit"]["lr"] == rate
    typed = ["model=mine", "task=sst2", "data=embedded", "lr=-1"]
    for found in (["--config-dir", str(folder)], [f"hydra.searchpath=[file://{folder}]"]):
        assert cli(*found, *typed).err == "error: lr=-1 (must be > 0)\n"
    with pytest.raises(UserError, match=r"lr\.other is read by no method"):
        compose(["model=mine"], _model(tmp_path, other=5e-3))


def test_a_method_without_a_file_reads_no_rate_of_a_model() -> None:
    with shake_installed(), pytest.raises(UserError, match="method=shake takes no rate"):
        compose(["method=shake", "+model.lr.shake=1e-3"])


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml")))
def test_every_rate_of_a_shipped_model_is_read(name: str) -> None:
    assert compose([f"model={name}"])["model"]["lr"]["full"] > 0
