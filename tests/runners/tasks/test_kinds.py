"""Each kind stands in one row of the schema and one file, and nothing else decides by its name."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from runners.config.kinds import KINDS
from runners.tasks.kind import Kind
from runners.tasks.kinds import KIND_CLASSES
from tests.conftest import ROOT

KIND_FILES = {f"runners/tasks/{name}.py" for name in KINDS}
NAMED_IN = KIND_FILES | {"runners/config/kinds.py", "runners/tasks/kinds.py"}
ALLOWED = {
    "runners/training/method_trainer.py": {"regression"},  # transformers' problem_type
    # of a task that names no kind, or one by the name it had once
    "runners/config/task.py": {"classification", "multitask"},
    "results/pages/report/answers.py": set(KINDS) - {"multitask"},  # what a record's answers are
    "results/tables/columns.py": {"multitask"},  # which had another name once
    "results/tables/leaves.py": {"classification"},  # of a record that names no kind
    "runners/models/pretrained.py": {"regression"},  # a word of transformers' config
}


def test_every_kind_has_a_row_and_a_class_in_a_file_of_its_name() -> None:
    assert KIND_CLASSES.keys() == KINDS.keys()
    for name, cls in KIND_CLASSES.items():
        assert Path(inspect.getfile(cls)) == ROOT / "runners" / "tasks" / f"{name}.py"


def test_every_kind_has_the_whole_protocol() -> None:
    public = {name for name in vars(Kind) if not name.startswith("_")} | set(Kind.__annotations__)
    for cls in KIND_CLASSES.values():
        assert {name for name in public if not hasattr(cls, name)} == set()


def test_no_other_file_decides_by_the_name_of_a_kind() -> None:
    wrong = []
    for folder in ("runners", "results"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name in NAMED_IN:
                continue
            allowed = ALLOWED.get(name, set())
            constants = {
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            wrong += [(name, kind) for kind in sorted(constants & KINDS.keys() - allowed)]
    assert wrong == []
