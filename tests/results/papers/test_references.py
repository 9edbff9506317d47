"""What to cite is there for every method and task, and says no more than the sources do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from methods.registry import registered
from results.errors import UserError
from results.papers.references import bibtex, references, uncited
from results.tables.collect import tables
from tests.conftest import ROOT
from tests.results.simulated import grid


def test_every_shipped_method_and_glue_task_has_its_papers() -> None:
    known = references()
    own = {
        name for name, method in registered().items() if method.__module__.startswith("methods.")
    }
    assert set(known.methods) == own
    glue = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"}
    assert glue <= set(known.tasks)
    used = {key for by in (known.methods, known.tasks) for keys in by.values() for key in keys}
    assert used == set(known.entries)


@pytest.mark.parametrize("name", sorted(references().methods))
def test_a_methods_papers_are_those_its_docstring_names(name: str) -> None:
    """First author, year where it says one, venue and arXiv number."""
    path = ROOT / "methods" / f"{name}.py"
    text = path.read_text(encoding="utf-8") if path.is_file() else str(registered()[name].__doc__)
    known = references()
    for key in known.methods[name]:
        paper = known.entries[key]
        author = paper.author.split(" and ")[0].strip("{}")
        assert author in text, key
        if name not in ("topk", "head_layers"):  # which do not repeat them
            numbered = f"arXiv {paper.arxiv}" in text or not paper.arxiv
            assert numbered or "code 0aa4f4e" in text, key
            assert (paper.venue or str(paper.year)) in text, key


def test_bibtex_has_a_tables_papers_once_and_only_those() -> None:
    records = grid({"full": 0, "child_tuning_f": 0, "child_tuning_d": 0, "mine": 0}, ["mrpc"], 2)
    compared = tables(records)
    text = bibtex([*compared, *compared])
    assert re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE) == [
        "devlin2019", "dolan2005", "wang2018", "xu2021",
    ]  # fmt: skip
    assert text.count("{") == text.count("}")
    assert uncited(compared) == ["mine"]
    for record in records:
        record.data = {**record.data, "source": "embedded"}
    assert "dolan2005" not in bibtex(tables(records))


def test_a_key_without_entry_is_named(tmp_path: Path) -> None:
    path = tmp_path / "references.yaml"
    path.write_text("entries: {}\nmethods: {a: [b2020]}\ntasks: {}\n")
    with pytest.raises(UserError, match=r"references\.yaml: no entry b2020"):
        references(path)


def test_citation_names_the_project_as_it_is() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["title"].startswith(f"{project['name']}: ")
    assert cited["title"].lower().endswith(project["description"].lower())
    assert cited["authors"] == [{"name": "The tunebench developers"}]
    assert cited["type"] == "software"
