"""Which runs another may start from: none that learned the rows by which it is to be judged.

Nor one with a head of other questions, if that is to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.errors import UserError
from results.record import Record, read_all
from results.sealed import sealed
from runners.config.settings import Settings
from runners.data.load import describe_all
from runners.jobs.identity import HARNESS_VERSION
from runners.jobs.job import Job
from runners.models.about import ABOUT
from runners.models.predecessor import Predecessor, check_fits, of_stored
from runners.models.weights import Weights
from tests.conftest import Cli, configure, tiny
from tests.results.simulated import simulated

WEIGHTS = Weights(Path("tiny"), "tiny", None, "0", "0", ())


def _settings(*typed: str) -> Settings:
    return configure("data=embedded", *typed).settings


def _keeps(theirs: Settings, *typed: str) -> None:
    """Check a run that keeps the head of another one."""
    own = _settings(*typed, "start=RUN", "start.head=keep")
    check_fits("start=RUN", WEIGHTS.facts, theirs.task.model_dump(), own, WEIGHTS)


@pytest.mark.parametrize(
    "other", ["mix=[qnli,sst2]", "mix=[mrpc,rte]", "mix=[rte,mrpc,cola]", "mix=[rte,qqp]"]
)
def test_a_head_of_other_tasks_is_not_kept_by_a_mixture(other: str) -> None:
    mixed = _settings("mix=[rte,mrpc]")
    _keeps(mixed, "mix=[rte,mrpc]")
    _keeps(mixed, "mix=[rte,mrpc]", "mix.draw=even")
    with pytest.raises(UserError, match=r"rte \['entailment', 'not_entailment'\], mrpc"):
        _keeps(mixed, other)


def test_a_head_of_other_labels_is_not_kept_by_a_mixture() -> None:
    mixed = _settings("mix=[rte,mrpc]")
    rte = mixed.task.mixture.tasks["rte"]  # type: ignore[union-attr]
    turned = rte.model_copy(update={"labels": rte.labels[::-1]})
    tasks = {**mixed.task.mixture.tasks, "rte": turned}  # type: ignore[union-attr]
    mixture = mixed.task.mixture.model_copy(update={"tasks": tasks})  # type: ignore[union-attr]
    task = mixed.task.model_copy(update={"mixture": mixture})
    with pytest.raises(UserError, match=r"leave start\.head out"):
        _keeps(mixed.model_copy(update={"task": task}), "mix=[rte,mrpc]")


def test_a_head_of_other_scores_is_not_kept() -> None:
    scored = _settings("task=stsb")
    _keeps(scored, "task=stsb")
    with pytest.raises(UserError, match=r"its scores are from 0.0 to 5.0, those of task=stsb from"):
        _keeps(scored, "task=stsb", "task.range=[0,1]")


@pytest.mark.parametrize(
    ("theirs", "own"),
    [("task=rte", "task=qnli"), ("task=mlm mlm.on=[rte]", "task=mlm mlm.on=[cola]")],
)
def test_a_head_that_answers_alike_is_kept(theirs: str, own: str) -> None:
    _keeps(_settings(*theirs.split()), *own.split())


Pair = tuple[str, str]
# A run and one that starts from it, of which the second is judged by rows that the first learned.
SEEN: list[Pair] = [
    ("task=rte", "task=rte protocol=select"),
    ("mix=[rte,mrpc]", "task=rte protocol=select"),
    ("mix=[mrpc,rte] data.train_size=100", "task=rte protocol=select"),
    ("task=rte protocol=select data.seed=1", "task=rte protocol=select"),
    ("task=rte data.seed=seed seed=1 data.train_size=100",
     "task=rte data.seed=seed seed=2 data.train_size=100 protocol=select"),
    ("task=rte data.train_size=100 data.seed=1",
     "task=rte data.train_size=100 protocol=select protocol.rows=200"),
    ("task=rte data.shots=200 data.seed=1 protocol=select",
     "task=rte data.shots=200 protocol=select"),
    ("task=cft_fcd", "task=cft_decisions protocol=select"),
    ("task=cft_more data.train_size=400", "task=cft_fd protocol=select"),
    ("task=cft_facts", "task=cft_fcd protocol=select"),
    ("task=cft_fcd", "task=cft_comparisons protocol=select"),
]  # fmt: skip
UNSEEN: list[Pair] = [
    ("task=rte", "task=rte"),
    ("task=rte protocol=select", "task=rte protocol=select"),
    ("task=rte protocol=select", "task=rte"),
    ("task=rte data.train_size=100",
     "task=rte data.train_size=100 protocol=select protocol.rows=50"),
    ("task=mnli", "task=rte protocol=select"),
    ("mix=[mnli,mrpc]", "task=rte protocol=select"),
    ("task=mlm mlm.on=[rte]", "task=rte protocol=select"),
    ("task=cft_facts", "task=cft_decisions protocol=select"),
    ("task=rte data.shots=16", "task=rte data.shots=16 protocol=select"),
]  # fmt: skip


def _judged_by_seen(before: Job, own: Job) -> bool:
    """Say, by the rows themselves, whether a run is judged by labelled ones that another saw."""
    learned = {*before.data.train.texts} if before.data.train.labels else set()
    held_out = [own.data.selection] if own.data.selection else []
    held_out += [split for name, split in own.data.report.items() if name.endswith("validation")]
    return any({*split.texts} & learned for split in held_out)


def _refused(before: Job, own: Job) -> bool:
    """Say whether a start is refused: as a chain that waits, and from the record or the delta."""
    config = before.config.settings.model_dump() | {"method": {}}
    stored = Predecessor("RUN", "0", (), Path(), config, {}, rows=before.rows)
    ahead, later = before.stages, json.loads(json.dumps(stored.facts["chain"]))
    [answer] = {_refuses(own, ahead), _refuses(own, later)}
    return answer


def _refuses(own: Job, stages: list[dict[str, Any]]) -> bool:
    try:
        own.check_start("start=RUN", stages)
    except UserError:
        return True
    return False


def _job(typed: str, *more: str, **given: Any) -> Job:
    return Job(configure("data=embedded", *typed.split(), *more, **given))


@pytest.mark.parametrize(("before", "own"), SEEN)
def test_a_run_is_not_judged_by_rows_that_one_before_it_learned(before: str, own: str) -> None:
    first, second = _job(before), _job(own)
    assert _judged_by_seen(first, second)
    assert _refused(first, second)


@pytest.mark.parametrize(("before", "own"), UNSEEN)
def test_a_start_from_other_rows_stays(before: str, own: str) -> None:
    first, second = _job(before), _job(own)
    assert not _judged_by_seen(first, second)
    assert not _refused(first, second)


def test_rows_that_hashes_cannot_tell_apart_are_taken_for_seen() -> None:
    """A draw of 200 rows holds that of 100; what is selected by is drawn from the others."""
    first, second = (
        _job(f"task=rte protocol=select protocol.rows=50 data.train_size={size}")
        for size in (100, 200)
    )
    assert not _judged_by_seen(first, second)
    assert _refused(first, second)


def test_a_stage_of_before_rows_were_told_may_have_learned_any() -> None:
    own = _job("task=rte protocol=select")
    for old in ({"task": "rte"}, {"task": "mix(rte+mrpc)"}, {"task": "sst2", "labelled": ["rte"]}):
        with pytest.raises(UserError, match="learned from other rows of rte"):
            own.check_start("start=RUN", [old])
    own.check_start("start=RUN", [{"task": "mlm(rte)"}, {"task": "mnli", "labelled": ["mnli"]}])
    _job("task=rte").check_start("start=RUN", [{"task": "rte"}])


def test_rows_that_a_teacher_labelled_are_seen_too() -> None:
    """A run on the same labelled rows, which a teacher gave others of train, holds none out."""
    rows = ("task=rte data.train_size=100", "task=rte data.train_size=100 protocol=select"
            " protocol.rows=50")  # fmt: skip
    student, own = _job(f"{rows[0]} data.pseudo.teacher=stage"), _job(rows[1])
    assert student.rows["rte"]["added"] == "pseudo"
    config = student.config.settings.model_dump() | {"method": {}}

    def started(job: Job, taught: tuple[str, ...]) -> list[dict[str, Any]]:
        stored = Predecessor("RUN", "0", (), Path(), config, {}, taught=taught, rows=job.rows)
        chain: list[dict[str, Any]] = stored.facts["chain"]
        return chain

    with pytest.raises(UserError, match="learned from other rows of rte"):
        own.check_start("start=RUN", started(student, ("rte",)))
    own.check_start("start=RUN", started(_job(rows[0]), ()))
    other = started(_job("task=mnli"), ("qnli", "rte"))
    with pytest.raises(UserError, match="learned from other rows of rte"):
        own.check_start("start=RUN", other)


def test_mined_rows_are_not_the_tasks_own(tmp_path: Path) -> None:
    words = ("great", "bad")
    lines = [f"It was {word}. The film {n} {word[::-1]}." for n in range(30) for word in words]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    mined = f"data.mine.source=text data.text={tmp_path / 'lines.txt'}"
    first = _job(f"task=sst2 {mined}")
    assert len(first.data.train)
    assert not _refused(first, _job("task=sst2 protocol=select"))
    selecting = _job(f"task=sst2 {mined} protocol=select")
    assert _judged_by_seen(first, selecting)
    assert _refused(first, selecting)


def _own_task(folder: Path) -> Path:
    rows = [f"row {n} of the film,{('dull', 'warm')[n % 2]}" for n in range(80)]
    (folder / "mine.csv").write_text("\n".join(["text,label", *rows]))
    (folder / "own" / "task").mkdir(parents=True)
    (folder / "own" / "task" / "mine.yaml").write_text(
        "name: mine\ntext: [text]\nlabels: [dull, warm]\nmetrics: [accuracy]\n"
        f"local: {{train: {folder}/mine.csv, split: 0.2}}\n"
    )
    return folder / "own"


def test_what_is_cut_off_a_file_to_report_on_was_not_learned(tmp_path: Path) -> None:
    own = _own_task(tmp_path)

    def job(*typed: str) -> Job:
        return Job(configure("task=mine", "data=local", *typed, config_dir=own))

    plain = job()
    for unseen in ((), ("data.train_size=20",), ("protocol=select",), ("data.seed=seed", "seed=3")):
        assert not _judged_by_seen(job(*unseen), plain)
        assert not _refused(job(*unseen), plain)
    for seen in (
        ("data.seed=1",),
        ("data.seed=1", "data.train_size=20"),
        ("task.local.split=0.1",),
    ):
        assert _judged_by_seen(job(*seen), plain)
        assert _refused(job(*seen), plain)


CONTENT = "task=rte data.train_size=40"


@pytest.mark.parametrize(
    ("own", "other", "is_same"),
    [
        (CONTENT, f"{CONTENT} seed=2", True),
        (f"{CONTENT} data.seed=seed", f"{CONTENT} data.seed=seed seed=2", True),
        (CONTENT, f"{CONTENT} data.seed=1", False),
        (f"{CONTENT} protocol=select protocol.rows=20", CONTENT, False),
        ("mix=[rte,mrpc] data.train_size=40", "mix=[rte,mrpc] data.train_size=40 seed=3", True),
        ("mix=[rte,mrpc] data.train_size=40", "mix=[rte,mrpc] data.train_size=50", False),
        ("task=mlm mlm.on=[rte]", "task=mlm mlm.on=[rte] seed=2", True),
        ("task=mlm mlm.on=[rte]", "task=mlm mlm.on=[mrpc]", False),
    ],
)
def test_a_chain_tells_what_was_learned_from_whatever_the_seed(
    own: str, other: str, is_same: bool
) -> None:
    assert (_job(own).content == _job(other).content) == is_same


def _stored(**changed: Any) -> Record:
    job = _job(CONTENT)
    config = {**job.config.settings.model_dump(), "method": job.config.method_options()}
    record = replace(
        simulated("full", "rte"),
        config=config,
        data={"source": "embedded", "splits": describe_all(job.data)},
        environment={"harness": HARNESS_VERSION},
        trained_sha256="0" * 64,
    )
    return replace(record, **{k: {**getattr(record, k), **v} for k, v in changed.items()})


def test_a_chain_tells_versions_and_the_text_that_lay_elsewhere() -> None:
    def content(record: Record) -> str:
        [stage] = of_stored(record, Path("RUN.json")).facts["chain"]
        return str(stage["content"])

    plain = content(_stored())
    assert plain == _job(CONTENT).content
    assert plain == content(_stored(config={"seed": 9, "device": "cuda"}))
    newer = [{"name": "full", "version": 9}]
    train = {**_stored().data["splits"]["train"], "sha256": "1" * 64}
    others = [
        _stored(config={"method": newer}),
        _stored(environment={"harness": 9}),
        _stored(data={"splits": {**_stored().data["splits"], "train": train}}),
        _stored(
            data={
                "pseudo": {"teacher": {"chain": [{"task": "rte", "settings": "0", "content": "1"}]}}
            }
        ),
        _stored(
            data={
                "pseudo": {"teacher": {"chain": [{"task": "rte", "settings": "0", "content": "2"}]}}
            }
        ),
    ]
    contents = [plain, *map(content, others)]
    assert len({*contents}) == len(contents)
    report = {k: {**v, "sha256": "2" * 64} for k, v in _stored().data["splits"].items()}
    report["train"] = _stored().data["splits"]["train"]
    assert content(_stored(data={"splits": report})) == plain  # it left the same weights
    old = Predecessor("R", "0", (), Path(), _stored().config, {})
    assert "content" not in old.facts["chain"][0]


def test_a_start_is_refused_before_it_and_after(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """As a chain that is to be done, by the record, by the delta, and by a delta without hashes."""
    out, said = tmp_path / "runs", "learned from other rows of rte, perhaps from those that select"
    small = tiny(tiny_folder("bert"), "budget.steps=2")
    plan = (*small, "stages=[mix,rte]", "stages.0.mix.of=[rte,mrpc]", "plan=true")
    assert cli(*plan).code == 0
    longer = (*small, "stages=[mix,mnli,rte]", "stages.0.mix.of=[rte,mrpc]", "plan=true")
    for chain in ((*plan, "stages.1.protocol=select"), (*longer, "stages.2.protocol=select")):
        done = cli(*chain)
        assert (done.code, said in done.err) == (2, True), done.err
    assert cli(*small, "mix=[rte,mrpc]", "save=delta").code == 0
    [record] = read_all(out)
    delta = out / f"{record.run}.delta"
    about = json.loads((delta / ABOUT).read_text())
    assert about["rows"]["rte"] == {"of": "rte", "train": record.data["parts"]["rte"]["sha256"]}
    del about["rows"], about["content_sha256"]
    for named in (record.run, delta, delta):
        done = cli(*small, "task=rte", f"start={named}", "protocol=select")
        assert (done.code, said in done.err) == (2, True), done.err
        names = {Job(configure(*small, "task=rte", f"start={named}", f"out={out}")).name}
        (delta / ABOUT).write_text(sealed(about))
    assert names == {Job(configure(*small, "task=rte", f"start={record.run}", f"out={out}")).name}
    (out / f"{record.run}.json").unlink()
    done = cli(*small, "task=rte", f"start={delta}", "protocol=select")
    assert (done.code, said in done.err) == (2, True), done.err


def test_a_run_goes_on_from_its_own_rows_and_is_scored_on_what_was_cut_off(
    cli: Cli, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    out, own = tmp_path / "runs", _own_task(tmp_path)
    small = [a for a in tiny(tiny_folder("bert"), "budget.steps=2") if not a.startswith("data")]
    small += ["--config-dir", str(own), "task=mine", "data=local"]
    assert cli(*small, "protocol=select", "save=delta").code == 0
    [first] = read_all(out)
    assert cli(*small, "protocol=select", f"start={first.run}", "lr=1e-3").code == 0
    delta = out / f"{first.run}.delta"
    assert cli(f"eval={delta}", "device=cpu", "data.seed=0").code == 0
    done = cli(f"eval={delta}", "device=cpu", "data.seed=1")
    assert (done.code, "type data.seed=0" in done.err) == (2, True), done.err
    done = cli(*small, f"start={first.run}", "data.seed=1")
    assert (done.code, "which task.local.split cuts off" in done.err) == (2, True), done.err
