"""Whatever a file holds, only the documented errors come out.

TUNEBENCH_FUZZ says how many examples each test tries; `make soak` tries ten times as many, others
each time. What is changed at random was written just before by the code of today.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from results.errors import UserError
from results.pages.data import lines, to_csv
from results.pages.html import page
from results.pages.latex import latex
from results.pages.report.page import report_page
from results.pages.search import search_sheets
from results.pages.text import one_run, sheets
from results.pages.text import write as written
from results.pages.verdicts import to_text
from results.papers.claims import claims
from results.papers.published import papers
from results.printable import printable
from results.record import Record, read, write
from results.run_list import ListedRun, RunList, read_list, write_list
from results.sealed import sealed
from results.stats.compare import judge
from results.stats.power import power
from results.tables.collect import tables
from runners.boards.plan import Board
from runners.config.check import RunConfig, check
from runners.config.task import LocalFiles, Pairs, Task
from runners.data.local import read_file
from runners.data.pairs import read_pairs
from runners.exports.delta import _check_files, _read_tensors, configuration_of
from runners.exports.peft import check_peft
from runners.jobs.job import Job
from runners.models.about import read_about
from runners.models.build import apply_methods, load_pretrained
from runners.models.pretrained import _architecture, _frame
from runners.models.weights import Weights, find_weights
from runners.runs.lease import Claim, is_claimed
from runners.runs.run import run
from tests.conftest import ROOT, composed, configure, tiny

DEFAULT = 500
EXAMPLES = int(os.environ.get("TUNEBENCH_FUZZ", DEFAULT))
MANY = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == DEFAULT,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(MANY, max_examples=max(1, EXAMPLES // 10))  # where one takes a tenth of a second
ODD = [
    *(10**400, -(10**30), 2**63, 1e308, -1e308, float("nan"), float("inf"), 10**9),
    *("\ud800", "../../etc/passwd", "/etc/passwd", "\x1b[2J", "a\0b", "=1+1", "x" * 300),
    *([[]], {"": {}}, {"{}": []}, [None], [1.5, "a"], {"name": None}, True, None, "{}", "", 0, -1),
]
VALUES = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8)
FORMS = st.sampled_from(["page", "data", "words"])
# Each change is of a place, by number, and takes what is there away where it is `...`.
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), VALUES | st.just(...)), min_size=1, max_size=3)


def _places(node: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside nested dicts and lists."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    places = []
    for key, value in inner:
        places.append((*here, key))
        if isinstance(value, dict | list):
            places += _places(value, (*here, key))
    return places


def _changed(content: Any, changes: list[Any]) -> Any:
    """Return content with values replaced or removed; as many places of each depth are tried."""
    content = copy.deepcopy(content)
    for number, value in changes:
        places = _places(content)
        shallow = [place for place in places if len(place) <= 1 + number % 4]
        if not shallow:
            continue
        *above, last = shallow[number // 4 % len(shallow)]
        node = content
        for key in above:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = copy.deepcopy(value)
    return content


def _json(content: Any) -> str:
    return json.dumps(content, default=str)


def attempt(act: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a function returns, or the line of its UserError; other errors get through."""
    try:
        return act(), ""
    except UserError as error:
        said = str(error)
        assert said == printable(said)
        return None, said


@dataclass
class Written:
    """What the code of today wrote: a run's record with its delta, and a board's list."""

    record: Path
    delta: Path
    config: RunConfig
    weights: Weights
    list: Path

    def content(self) -> dict[str, Any]:
        """Return what the record holds, but for its hash."""
        content: dict[str, Any] = json.loads(self.record.read_text())
        del content["content_sha256"]
        return content


@pytest.fixture(scope="module")
def today(
    tiny_folder: Callable[[str], Path], _cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    out = tmp_path_factory.mktemp("today")
    arguments = [*tiny(tiny_folder("bert"), "method=lora", "task=mrpc", "save=delta"), f"out={out}"]
    config = configure(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEBENCH_CACHE", str(_cache))
        assert run(config, arguments) == 0
        job = Job(config)
        apply_methods(config, load_pretrained(config, job.weights), job.weights, 1)
    [record] = out.glob("*.json")
    listed = RunList("try", ("lora",), (ListedRun(0, "mrpc", 1, job.name),))
    return Written(
        record, record.with_suffix(".delta"), config, job.weights, write_list(listed, out / "b")
    )


def _read_and_tabulate(path: Path, form: str) -> None:
    record, said = attempt(lambda: read(path))
    if record is None:
        assert path.name in said
        return
    assert isinstance(record, Record)
    of_one, _ = attempt(lambda: tables([record]))
    if form == "page":
        shown = sheets(of_one, papers(), examples=True)
        texts = [latex(shown), page("t", shown, "")]
        texts += [written(sheet, kind) for sheet in shown for kind in ("text", "md")]
        texts += [report_page(record, path, path.parent)]
    elif form == "data":
        texts = [to_csv(list(lines(of_one, [judge(table) for table in of_one])))]
        texts += [one_run(record)]
    else:
        texts = [power([record]), *(written(sheet, "md") for sheet in search_sheets([record]))]
        texts += [to_text(claims([record]))]
    for text in texts:
        assert text == printable(text, kept="\n")
        text.encode("utf-8")
    assert read(write(record, path.parent / "again")).run == record.run


@MANY
@given(changes=CHANGES, form=FORMS)
def test_a_record_with_anything_anywhere(
    changes: list[Any], form: str, today: Written, tmp_path: Path
) -> None:
    """A record that every form can show, or a UserError that names the file."""
    path = tmp_path / today.record.name
    path.write_text(_json(_changed(today.content(), changes)))
    _read_and_tabulate(path, form)


@MANY
@given(cut=st.integers(0, 20_000), junk=st.binary(max_size=40), back=st.integers(0, 60), form=FORMS)
def test_a_record_cut_and_overwritten(
    cut: int, junk: bytes, back: int, form: str, today: Written, tmp_path: Path
) -> None:
    whole = json.dumps(today.content(), indent=1).encode()
    path = tmp_path / today.record.name
    path.write_bytes(whole[:cut] + junk + whole[cut + back :])
    _read_and_tabulate(path, form)


@MANY
@given(bit=st.integers(0, 10**9))
def test_a_record_hit_by_a_bit_is_never_believed(bit: int, today: Written, tmp_path: Path) -> None:
    """It is refused, or all that a reader takes from it is as it was."""
    raw = bytearray(today.record.read_bytes())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    path = tmp_path / today.record.name
    path.write_bytes(raw)
    record, said = attempt(lambda: read(path))
    if record is None:
        assert path.name in said
    else:
        before = dataclasses.asdict(read(today.record)) | {"content_sha256": None}
        assert dataclasses.asdict(record) | {"content_sha256": None} == before


@MANY
@given(changes=CHANGES)
def test_a_list_of_runs_with_anything_in_it(
    changes: list[Any], today: Written, tmp_path: Path
) -> None:
    path = tmp_path / today.list.parent.name / "runs.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(_json(_changed(json.loads(today.list.read_text()), changes)))
    listed, said = attempt(lambda: read_list(path))
    if listed is None:
        assert "runs.json" in said
    else:
        assert listed.rows is not None
        assert len(listed.by_run) <= 1


@MANY
@given(changes=CHANGES, resealed=st.booleans())
def test_a_delta_with_anything_in_its_description(
    changes: list[Any], resealed: bool, today: Written, tmp_path: Path
) -> None:
    """Its files and its configuration are taken, or it is refused by the folder's name."""
    about = json.loads((today.delta / "delta.json").read_text())
    if resealed:
        del about["content_sha256"]
    changed = _changed(about, changes)
    text = _json(changed)
    if resealed:
        try:
            text = sealed(json.loads(text))
        except ValueError:
            assume(False)
    folder = tmp_path / "run.delta"
    folder.mkdir(exist_ok=True)
    (folder / "delta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for name in (path.name for path in today.delta.iterdir() if path.name != "delta.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to(today.delta / name)

    def load() -> RunConfig:
        content = read_about(folder, "eval")
        _check_files(folder, content, f"eval={folder}")
        return configuration_of(f"eval={folder}", "delta.json", content["config"], None)

    config, said = attempt(load)
    assert (config is None and f"eval={folder}: " in said) or isinstance(config, RunConfig)


@MANY
@given(changes=CHANGES)
def test_options_of_peft_with_anything_in_them(
    changes: list[Any], today: Written, tmp_path: Path
) -> None:
    options = json.loads((today.delta / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(_json(_changed(options, changes)))
    _, said = attempt(lambda: check_peft(tmp_path, today.config, f"eval={tmp_path}"))
    assert not said or "adapter_config.json" in said


@MANY
@given(cut=st.integers(0, 3000), junk=st.binary(max_size=40), back=st.integers(0, 60))
def test_tensors_cut_and_overwritten(
    cut: int, junk: bytes, back: int, today: Written, tmp_path: Path
) -> None:
    whole = (today.delta / "adapter_model.safetensors").read_bytes()
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(whole[:cut] + junk + whole[cut + back :])
    tensors, said = attempt(lambda: _read_tensors(path, f"eval={tmp_path}"))
    assert (tensors is None and path.name in said) or isinstance(tensors, dict)


def _index(weights: Weights) -> dict[str, Any]:
    [file] = weights.files
    return {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(load_file(file), file.name)}


def _copy_of(weights: Weights, folder: Path, without: str) -> Path:
    """Return a folder with a model's files, by links, but for one."""
    folder.mkdir(exist_ok=True)
    for path in weights.folder.iterdir():
        if path.name != without and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder


def _find(folder: Path, config: RunConfig) -> Weights:
    model = config.settings.model.model_copy(update={"name_or_path": str(folder)})
    return find_weights(model)


@MANY
@given(changes=CHANGES)
def test_an_index_of_weights_with_anything_in_it(
    changes: list[Any], today: Written, tmp_path: Path
) -> None:
    """Only safetensors of the folder itself are taken."""
    [file] = today.weights.files
    folder = _copy_of(today.weights, tmp_path / "model", "model.safetensors")
    if not (folder / "shard.safetensors").exists():
        (folder / "shard.safetensors").symlink_to(file)
    index = _index(today.weights)
    index["weight_map"] = dict.fromkeys(index["weight_map"], "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(_json(_changed(index, changes)))
    weights, said = attempt(lambda: _find(folder, today.config))
    if weights is None:
        assert str(folder) in said
    else:
        assert [path.name for path in weights.files] == ["shard.safetensors"]


@FEW
@given(changes=CHANGES, name=st.sampled_from(["config.json", "tokenizer_config.json"]))
def test_a_models_configuration_with_anything_in_it(
    changes: list[Any], name: str, today: Written, tmp_path: Path
) -> None:
    folder = _copy_of(today.weights, tmp_path / name.partition(".")[0], name)
    content = json.loads((today.weights.folder / name).read_text())
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(_json(_changed(content, changes)))

    def build() -> Any:
        weights = _find(folder, today.config)
        return _frame(weights, _architecture(weights), "texts")

    frame, said = attempt(build)
    assert frame is not None or str(folder) in said


@MANY
@given(changes=CHANGES, junk=st.none() | st.binary(max_size=20), cut=st.integers(0, 300))
def test_a_claim_with_anything_in_it(
    changes: list[Any], junk: bytes | None, cut: int, tmp_path: Path
) -> None:
    """It is another's, or a dead one's, and the run is claimed by one at most."""
    claim = Claim(tmp_path, "run")
    assert claim.take() is None
    facts = json.loads(claim.path.read_text())
    raw = _json(_changed(facts, changes)).encode()
    claim.path.write_bytes(raw if junk is None else raw[:cut] + junk + raw[cut:])
    second = Claim(tmp_path, "run")
    owner = second.take()
    assert owner is None or isinstance(owner, dict)
    assert is_claimed(tmp_path, "run") or owner is None
    printable(f"{(owner or {}).get('pid')} on {(owner or {}).get('host')}")
    second.release()
    claim.release()
    for path in (tmp_path / ".claims").glob("*"):
        path.unlink()


@MANY
@given(changes=CHANGES)
def test_a_configuration_with_anything_in_it(changes: list[Any], today: Written) -> None:
    """All that YAML files of one's own can say: it is a run's, or every problem is told at once."""
    given = dict(composed(tuple(tiny(today.weights.folder, "method=lora", "task=mrpc"))))
    config, said = attempt(lambda: check(_changed(given, changes)))
    assert isinstance(config, RunConfig) or said


SHIPPED = sorted(
    path for group in ("task", "method") for path in (ROOT / "configs" / group).glob("*.yaml")
)


@MANY
@given(path=st.sampled_from(SHIPPED), changes=CHANGES)
def test_a_shipped_yaml_with_anything_in_it(path: Path, changes: list[Any]) -> None:
    content = _changed(yaml.safe_load(path.read_text()), changes)
    given = dict(composed(("method=full", "task=rte")))
    key = "task" if path.parent.name == "task" else "method"
    given[key] = content if key == "task" else {path.stem: content}
    config, said = attempt(lambda: check(given))
    assert isinstance(config, RunConfig) or said


@MANY
@given(changes=CHANGES, name=st.sampled_from(["smoke", "low1k", "vectors3k"]))
def test_a_shipped_board_with_anything_in_it(changes: list[Any], name: str) -> None:
    from pydantic import ValidationError

    content = yaml.safe_load((ROOT / "configs" / "board" / f"{name}.yaml").read_text())
    try:
        board = Board.model_validate(_changed(content, changes))
    except (ValidationError, UserError):
        return
    assert board.methods


TASKS = [
    Task(
        name="pairs",
        text=["a", "b"],
        labels=["no", "yes"],
        positive_label="yes",
        metrics=["accuracy", "f1"],
    ),
    Task(name="scores", kind="regression", text=["a"], range=[0.0, 5.0], metrics=["pearson"]),
]
WORDS = st.sampled_from(
    ["a", "b", "label", "yes", "no", "1.5", "9", "", "é\u2028", '"', "nan", " "]
)
LINES = st.lists(st.lists(WORDS | st.text(max_size=5), min_size=1, max_size=4), max_size=5)


@MANY
@given(
    lines=LINES,
    named=st.booleans(),
    junk=st.binary(max_size=6),
    task=st.sampled_from(TASKS),
    suffix=st.sampled_from([".tsv", ".csv"]),
    header=st.booleans(),
    skip=st.booleans(),
)
def test_a_table_of_text_with_anything_in_it(
    lines: list[list[str]],
    named: bool,
    junk: bytes,
    task: Task,
    suffix: str,
    header: bool,
    skip: bool,
    tmp_path: Path,
) -> None:
    """Rows and bytes at random: a split whose rows fit together, or a UserError with the file."""
    path = tmp_path / f"train{suffix}"
    first = [["a", "b", "label"]] if named else []
    between = "\t" if suffix == ".tsv" else ","
    text = "\n".join(between.join(fields) for fields in first + lines)
    path.write_bytes(text.encode("utf-8", "surrogatepass") + junk)
    columns = {} if header else {"a": 0, "b": 1, "label": 2}
    files = LocalFiles(
        train=path.name, report={"validation": path.name}, header=header, columns=columns
    )
    split, said = attempt(lambda: read_file(task, files, path, "train", skip))
    if split is None:
        assert path.name in said
        return
    assert split.labels is not None
    assert len(split.texts) == len(split.labels) >= 1
    assert {len(row) for row in split.texts} == {len(task.text)}
    if task.labels:
        assert set(split.labels) <= {0, 1}
    else:
        assert all(0 <= score <= 5 for score in split.labels)


SETS = Task(
    name="sets",
    kind="similarity",
    text=["a", "b"],
    range=[0.0, 5.0],
    metrics=["spearmanr"],
    pairs={"set": Pairs(file="set.tsv")},
)
PIECES = st.sampled_from(["one dog", "two", "3.5", "9", "", " ", "\u2028", "é", "nan", "-0", "1e9"])
PAIRS = st.lists(st.lists(PIECES | st.text(max_size=4), max_size=4), max_size=5)


@MANY
@given(
    lines=PAIRS,
    golds=st.lists(PIECES, max_size=5),
    junk=st.binary(max_size=5),
    columns=st.permutations([0, 1, 2]),
    header=st.booleans(),
    folder=st.booleans(),
)
def test_scored_pairs_with_anything_in_them(
    lines: list[list[str]],
    golds: list[str],
    junk: bytes,
    columns: list[int],
    header: bool,
    folder: bool,
    tmp_path: Path,
) -> None:
    """A set whose scores lie in the range and whose sentences have words, or its file's name."""
    text = "\n".join("\t".join(fields) for fields in lines).encode("utf-8", "surrogatepass") + junk
    if folder:
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / "STS.input.news.txt").write_bytes(text)
        (tmp_path / "set" / "STS.gs.news.txt").write_text("\n".join(golds), encoding="utf-8")
        files = Pairs(folder="set", hub=None, split="test")
    else:
        (tmp_path / "set.tsv").write_bytes(text)
        files = Pairs(file="set.tsv", columns=columns, header=header, hub=None, split="test")
    split, said = attempt(lambda: read_pairs(SETS, "set", files, tmp_path))
    if split is None:
        assert "set" in said
        return
    assert split.labels is not None
    assert len(split.texts) == len(split.labels) >= 2
    assert all(0 <= score <= 5 for score in split.labels)
    assert all(words.strip() for pair in split.texts for words in pair)
