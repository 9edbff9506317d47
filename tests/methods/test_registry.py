"""Methods are found by name, wherever they come from, and refuse each other by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from methods import registry
from methods.method import Method
from methods.registry import composition_problems, method_class, registered
from methods.surgery.presets import PRESETS
from results.errors import UserError
from tests.conftest import ROOT, Cli
from tests.methods.shake import Shake, shake_installed

YAML = {path.stem: path for path in (ROOT / "configs" / "method").glob("*.yaml")}


def test_registered_methods_and_yaml_files_are_the_same() -> None:
    assert set(YAML) == set(registered())


@pytest.mark.parametrize("name", sorted(YAML))
def test_method_is_a_single_file_of_its_name_or_a_row_of_pefts(name: str) -> None:
    rows = {preset.name for preset in PRESETS}
    assert method_class(name).__module__ == f"methods.{'peft' if name in rows else name}"


def test_a_method_that_another_stands_for_is_like_one_that_stands_for_itself() -> None:
    like = {name: cls.like for name, cls in registered().items() if cls.like}
    assert {registered()[name].like for name in like.values()} == {""}
    assert set(like) <= {"peft"} | {preset.name for preset in PRESETS}


def test_method_modules_do_not_import_torch() -> None:
    code = (
        "import sys; from methods.registry import registered; registered();"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_unknown_method_names_the_nearest(cli: Cli) -> None:
    with pytest.raises(UserError, match=r"no method called 'bitft'; did you mean bitfit\?"):
        method_class("bitft")


def test_two_methods_that_choose_the_parameters_are_refused_by_name() -> None:
    problems = composition_problems([method_class("full")(), method_class("bitfit")()])
    assert problems == [
        "method=[full,bitfit]: full and bitfit both choose which parameters train; keep one of them"
    ]
    assert composition_problems([method_class("bitfit")(), Shake()]) == []


@pytest.fixture
def _installed() -> Iterator[None]:
    with shake_installed():
        yield


@pytest.mark.usefixtures("_installed")
def test_installed_package_brings_a_method_without_yaml(
    cli: Cli, tiny_folder: Callable[[str], Path]
) -> None:
    from tests.conftest import tiny

    assert registered()["shake"] is Shake
    done = cli(*tiny(tiny_folder("bert"), "method=[shake,bitfit]", "method.shake.strength=0.5"))
    assert done.code == 0, done.err
    assert "shake+bitfit" in done.out


def test_two_owners_of_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Copy(Method):
        name = "bitfit"

    class Point:
        value = "other_package:BitFit"

        def load(self) -> type[Method]:
            return Copy

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()])
    registered.cache_clear()
    with pytest.raises(
        UserError, match=r"'bitfit' is defined twice: in methods\.bitfit and .*other_package"
    ):
        registered()
    registered.cache_clear()


def test_rows_of_the_table_of_methods_stand_alone() -> None:
    """They are sorted by name, so that none may lean on the one above."""
    said = [cls.trains for cls in registered().values() if cls.trains != "–"]
    assert len(said) == len(set(said))
    assert not [text for text in said if "the same" in text]
