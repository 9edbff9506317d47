"""What does not fit between the runs of a chain is told before the first of them begins."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from results.errors import UserError
from results.record import read_all
from runners.jobs.job import Job
from runners.training.rehearsal import rehearse
from runners.training.start import build_model
from tests.conftest import Cli, configure, narrow, tiny

Folder = Callable[[str], Path]
NO_PLACE = r"stage 2 of 2, task=rte: stage 1: its method put .*lora_A.* this run has no place"


def _refused(act: Callable[[], object]) -> str:
    try:
        act()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "method", ["adapter", "lora", "prefix", "unipelt", "attention_pool", "mlm_prompt"]
)
@pytest.mark.parametrize("same", [True, False])
def test_a_rehearsal_refuses_what_the_chain_would(
    method: str, same: bool, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    small = tiny(tiny_folder("bert"), "budget.steps=1", f"out={tmp_path / 'runs'}")
    first = [*small, "task=rte", *narrow(method)]
    if method == "mlm_prompt":  # reads the head that a stage of masking leaves
        first = [*small, "task=mlm", "mlm.on=[rte]"]
    second = [*small, "task=mrpc", *(narrow(method) if same else ())]
    assert cli(*first, "save=delta").code == 0
    [record] = read_all(tmp_path / "runs")
    real = Job(configure(*second, f"start={record.run}"))
    told = _refused(lambda: build_model(real, 1))
    jobs = [Job(configure(*typed)) for typed in (first, second)]
    foretold = _refused(lambda: rehearse(jobs))
    where = "stage 2 of 2, task=mrpc: "
    assert foretold == (told and where + told.replace(f"start={record.run}", "stage 1"))
    inserted = method in ("adapter", "lora", "prefix", "unipelt")
    assert bool(told) == (inserted and (not same or method == "unipelt"))  # its MLP is not kept


def test_a_chain_or_board_that_does_not_fit_begins_nothing(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    small = tiny(tiny_folder("bert"), "budget.steps=1")
    lora = f"stages.0.method={narrow('lora')[0].removeprefix('method=')}"
    chain = cli(*small, "stages=[mnli,rte]", lora)
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "own.yaml").write_text(
        "name: own\nmethods: [full, {method: full, stages: [{task: mnli, set: [method=lora]}]}]\n"
        "tasks: [rte]\nseeds: [1]\n"
    )
    board = cli("--config-dir", str(tmp_path), "board=own", *small)
    for done in (chain, board):
        assert (done.code, done.out) == (2, "")
        [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert re.match(f"error: {NO_PLACE}", line)
    assert not [*(tmp_path / "runs").glob("*.json")]


def test_a_stage_that_cannot_teach_is_not_begun(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = tiny(tiny_folder("bert"), "task=rte", "data.train_size=20", "budget.dropout=0")
    done = cli(*given, "data.pseudo.teacher=stage")
    assert done.code == 2
    assert "the teacher has no dropout, so that all passes agree" in done.err
    assert not (tmp_path / "runs").exists()
