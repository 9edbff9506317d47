"""Every board in configs/board can be planned."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runners.boards.plan import Board
from tests.conftest import ROOT

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
