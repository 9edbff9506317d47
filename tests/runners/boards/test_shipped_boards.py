"""Every board in configs/board can be planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runners.boards.plan import Board
from tests.conftest import REAL_GLUE, ROOT, Cli

FILES = sorted((ROOT / "configs" / "board").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_board_is_one(path: Path) -> None:
    assert Board.model_validate(OmegaConf.to_container(OmegaConf.load(path))).name == path.stem


def test_the_shipped_boards_are_there() -> None:
    assert len(FILES) >= 15


def test_a_row_may_freeze_what_it_starts_from_and_not_name_it() -> None:
    def board(setting: str) -> Board:
        row = {"method": "lora", "set": [setting], "stages": [{"task": "mnli"}]}
        return Board.model_validate({"name": "b", "methods": [row], "tasks": ["rte"], "seeds": [1]})

    assert board("start.freeze=true").rows[0].set == ["start.freeze=true"]
    for wrong in ("start=RUN", "start.run=RUN"):
        with pytest.raises(ValueError, match="sets nothing of a run"):
            board(wrong)


@pytest.mark.skipif(not REAL_GLUE.is_dir(), reason="needs GLUE's files; see GLUE_DIR")
def test_a_shipped_search_serves_a_board_whose_runs_go_elsewhere(cli: Cli, tmp_path: Path) -> None:
    chosen = ("board=low1k", "board.seeds=[1]", "board.tasks=[cola]", f"data.dir={REAL_GLUE}")
    listed = cli(*chosen, f"out={tmp_path}", "plan=true", "estimate=false")
    assert listed.code == 0, listed.err
    assert "board low1k: 18 runs, 18 missing" in listed.err
    assert "wait for a learning rate" not in listed.err
