"""A delta holds what training changed, comes back to the bit, and nothing foreign gets in."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from results.errors import UserError
from results.record import Record, read_all
from results.sealed import sealed
from runners.exports.delta import load_delta
from runners.models.about import ABOUT
from tests import forked
from tests.anew import anew
from tests.conftest import Cli, narrow, tiny
from tests.tiny import save_tiny, tiny_batch, tiny_model

Folder = Callable[[str], Path]
PEFT = ("lora", "ia3", "prefix", "prompt")


def _saved(cli: Cli, folder: Path, out: Path, *arguments: str) -> tuple[Record, Path]:
    done = cli(*tiny(folder, *arguments, "task=rte", "save=delta", f"out={out}"))
    assert done.code == 0, done.err
    [record] = read_all(out)
    return record, out / f"{record.run}.delta"


def test_deltas_score_the_same_in_a_new_process(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    methods = ("bitfit", "adapter", "unipelt", "lora", "prefix")
    saved = [_saved(cli, tiny_folder("bert"), tmp_path / m, *narrow(m)) for m in methods]
    done = anew([[f"eval={delta}"] for _, delta in saved], tmp_path)
    for method, (record, delta), outcome in zip(methods, saved, done, strict=True):
        assert outcome.code == 0, outcome.err
        assert f"accuracy {100 * record.scores['validation']['accuracy']:.2f}" in outcome.out
        assert "predictions equal the record's" in outcome.out
        files = {p.name for p in delta.iterdir()}
        ours = {"delta.json", "delta.safetensors"}
        assert files == ours or (method in PEFT and "adapter_config.json" in files)


@pytest.mark.usefixtures("forked_runs")
def test_logits_of_a_delta_are_bitwise_equal_in_a_new_process(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("bert")
    _, delta = _saved(cli, folder, tmp_path / "out", *narrow("adapter"))
    batch = tiny_batch(folder)
    batch.pop("labels")
    with torch.no_grad():
        here = load_delta(delta).loaded.model(**batch).logits
    torch.save(dict(batch), tmp_path / "batch.pt")
    there = forked.call(tmp_path / "log", _save_logits, delta, tmp_path)
    assert there.wait() == 0, (tmp_path / "log").read_text()
    assert torch.equal(torch.load(tmp_path / "logits.pt"), here)


def _save_logits(delta: Path, folder: Path) -> None:
    torch.manual_seed(7)
    model = load_delta(delta).loaded.model
    with torch.no_grad():
        torch.save(model(**torch.load(folder / "batch.pt")).logits, folder / "logits.pt")


@pytest.mark.parametrize("architecture", ["bert", "electra", "distilbert"])
@pytest.mark.parametrize("arguments", [[m] for m in PEFT] + [["prefix", "projection=true"]])
def test_peft_itself_loads_the_delta_of_its_methods(
    arguments: list[str], architecture: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    import peft

    method, *options = arguments
    if (method, architecture) == ("prefix", "distilbert"):
        pytest.skip("refused: DistilBERT takes no past keys and values")
    folder = tiny_folder(architecture)
    given = [f"method={method}", *(f"method.{method}.{o}" for o in options)]
    record, delta = _saved(cli, folder, tmp_path / "out", *given)
    theirs = peft.PeftModel.from_pretrained(tiny_model(folder, num_labels=2), delta).eval()
    ours = load_delta(delta).loaded.model
    batch = tiny_batch(folder)
    with torch.no_grad():
        expected = theirs(**batch).logits
        assert torch.allclose(ours(**batch).logits, expected, atol=1e-6)
        assert not torch.allclose(tiny_model(folder)(**batch).logits, expected, atol=1e-4)
    stored = sum(t.nbytes for t in load_file(delta / "adapter_model.safetensors").values())
    assert stored == record.stored_bytes


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_pefts_auto_class_finds_the_base_by_itself(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """It is told the number of labels, which a delta of peft's has no place for."""
    import peft

    folder = tiny_folder("bert")
    done = cli(*tiny(folder, f"method={method}", "task=mnli", "save=delta", "lr=1e-2"))
    assert done.code == 0, done.err
    [delta] = (tmp_path / "runs").glob("*.delta")
    auto = peft.AutoPeftModelForSequenceClassification
    theirs = auto.from_pretrained(str(delta), num_labels=3).eval()
    ours, batch = load_delta(delta).loaded.model, tiny_batch(folder)
    with torch.no_grad():
        assert torch.allclose(ours(**batch).logits, theirs(**batch).logits, atol=1e-6)


def test_delta_holds_only_what_changed(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    record, delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", "method=bitfit")
    tensors = load_file(delta / "delta.safetensors")
    assert all(n.endswith(".bias") or n.startswith("classifier.") for n in tensors)
    assert sum(t.nbytes for t in tensors.values()) == record.stored_bytes
    assert sum(t.numel() for t in tensors.values()) == record.parameters["trainable"]


def test_mask_of_child_tuning_is_saved_and_held(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("bert")
    options = ("method=child_tuning_d", "method.child_tuning_d.freeze=true")
    record, delta = _saved(cli, folder, tmp_path / "out", *options)
    masks = load_file(delta / "child_tuning_d.safetensors")
    facts = record.method_reports["child_tuning_d"]
    assert sum(int(m.sum()) for m in masks.values()) == facts["kept_entries"]
    assert sum(m.numel() for m in masks.values()) == facts["masked_entries"]
    start = load_file(folder / "model.safetensors")
    trained = load_file(delta / "delta.safetensors")
    for name, mask in masks.items():
        before, after = start[name.removeprefix("bert.")], trained[name]
        assert torch.equal(before[~mask], after[~mask])
        assert not mask.any() or not torch.equal(before[mask], after[mask])
    assert 0 < facts["kept_entries"] < facts["masked_entries"]


def test_mlp_that_made_a_prefix_is_not_stored(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    record, delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", *narrow("unipelt"))
    tensors = load_file(delta / "delta.safetensors")
    assert tensors["unipelt:prefixes"].shape == (4, 2, 10, 16)
    assert not any(n.startswith("prefixes.") for n in tensors)
    assert record.parameters["training_only"] == 10 * 32 + (32 + 1) * 16 + (16 + 1) * 4 * 32


@pytest.fixture
def delta(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> Path:
    return _saved(cli, tiny_folder("bert"), tmp_path / "made", "method=bitfit")[1]


def _refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        load_delta(folder)
    return str(refused.value)


def test_a_finished_run_without_its_delta_is_run_again_for_it(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    arguments = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={tmp_path / 'out'}")
    assert cli(*arguments).code == 0
    assert "stored result" in cli(*arguments).out
    again = cli(*arguments, "save=delta")
    assert "runs again for that" in again.err
    [record] = read_all(tmp_path / "out")
    assert (tmp_path / "out" / f"{record.run}.delta" / "delta.safetensors").is_file()
    assert "stored result" in cli(*arguments, "save=delta").out


def test_a_delta_of_other_weights_than_its_record_is_not_used(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """As where a run was done again on another machine, with force=true and without save=delta."""
    out = tmp_path / "out"
    arguments = tiny(tiny_folder("bert"), "method=bitfit", "task=rte", f"out={out}")
    assert cli(*arguments, "save=delta").code == 0
    [record] = read_all(out)
    place = out / f"{record.run}.delta" / ABOUT
    place.write_text(sealed({**json.loads(place.read_text()), "trained_sha256": "0" * 64}))
    (text := tmp_path / "t.csv").write_text("sentence1,sentence2\na,b\n")
    predict = [f"text={text}", f"out={tmp_path / 'o.csv'}"]
    done = cli(f"predict={out / record.run}.json", *predict)
    assert (done.code, "holds other weights than the record tells of" in done.err) == (2, True)
    assert cli(f"predict={out / record.run}.delta", *predict).code == 0  # named itself
    assert "runs again for that" in cli(*arguments, "save=delta").err
    assert cli(f"predict={out / record.run}.json", *predict).code == 0
    assert "stored result" in cli(*arguments, "save=delta").out


def test_damaged_tensors_are_refused(delta: Path) -> None:
    path = delta / "delta.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "damaged" in _refusal(delta)


def test_missing_tensors_and_foreign_folders_are_refused(delta: Path, tmp_path: Path) -> None:
    (delta / "delta.safetensors").unlink()
    assert "delta.safetensors is missing" in _refusal(delta)
    assert "no delta.json there" in _refusal(tmp_path / "nowhere")
    (delta / "delta.json").write_text("{")
    assert "not readable JSON" in _refusal(delta)
    (delta / "delta.json").write_text('{"format": "other"}')
    assert "does not say 'tunebench delta 1'" in _refusal(delta)
    (delta / "delta.json").write_text('{"format": "tunebench delta 1"}')
    assert "incomplete" in _refusal(delta)


def _rewrite(delta: Path, tensors: dict[str, torch.Tensor]) -> None:
    import hashlib

    path = delta / "delta.safetensors"
    save_file(tensors, path)
    about = json.loads((delta / "delta.json").read_text())
    about = {k: v for k, v in about.items() if k not in ("files", "content_sha256")}  # as of old
    about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (delta / "delta.json").write_text(json.dumps(about))


def test_tensors_of_another_model_are_refused(delta: Path) -> None:
    tensors = load_file(delta / "delta.safetensors")
    _rewrite(delta, {**tensors, "bert.foreign": torch.zeros(2)})
    assert "bert.foreign (2,) has no place" in _refusal(delta)
    _rewrite(delta, {**tensors, "classifier.bias": torch.zeros(3)})
    assert "classifier.bias (3,) has no place" in _refusal(delta)
    _rewrite(delta, {n: t for n, t in tensors.items() if n != "classifier.bias"})
    assert "1 trained tensors are missing, such as classifier.bias" in _refusal(delta)


def test_types_and_numbers_that_no_run_leaves_are_refused(delta: Path) -> None:
    tensors = load_file(delta / "delta.safetensors")
    _rewrite(delta, tensors)
    load_delta(delta)  # one without hashes of every file is read as before
    bias = tensors["classifier.bias"]
    _rewrite(delta, {**tensors, "classifier.bias": bias.to(torch.int64)})
    assert "classifier.bias holds torch.int64" in _refusal(delta)
    for value in (torch.nan, torch.inf):
        _rewrite(delta, {**tensors, "classifier.bias": torch.full_like(bias, value)})
        assert "classifier.bias holds nan or infinity" in _refusal(delta)


def test_every_file_of_a_delta_is_hashed(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    """The options that peft reads, and the labels and options that a delta is rebuilt by."""
    _, delta = _saved(cli, tiny_folder("bert"), tmp_path / "made", "method=lora")
    for name in ("adapter_config.json", "adapter_model.safetensors", "delta.json"):
        path = delta / name
        before = path.read_bytes()
        if path.suffix == ".json":
            after = before.replace(b'"r"', b'"q"').replace(b"entailment", b"entailmemt", 1)
        else:
            after = before[:-1] + bytes([before[-1] ^ 1])
        path.write_bytes(after)
        assert path.read_bytes() != before
        assert f"{name} is damaged or was changed" in _refusal(delta)
        path.write_bytes(before)
    load_delta(delta)
    (delta / "adapter_config.json").unlink()
    assert "adapter_config.json is missing" in _refusal(delta)


def test_what_is_written_behind_a_deltas_hash_is_not_believed(delta: Path) -> None:
    path = delta / "delta.json"
    text = path.read_text().rstrip().removesuffix("}").rstrip()
    path.write_text(f'{text},\n  "run": "rte.full.other.s1.0123456789ab"\n}}\n')
    assert "the key 'run' stands twice" in _refusal(delta)
    path.write_text(f'{text},\n  "of_the_future": 1\n}}\n')
    assert "delta.json is damaged or was changed" in _refusal(delta)
    path.write_text(f"{text}\n}}\n")
    load_delta(delta)


def test_a_pickle_is_never_opened(delta: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "opened",)  # type: ignore[return-value]

    import hashlib

    path = delta / "delta.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    about = json.loads((delta / "delta.json").read_text())
    about = {k: v for k, v in about.items() if k not in ("files", "content_sha256")}  # as of old
    about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (delta / "delta.json").write_text(json.dumps(about))
    assert "cannot be read" in _refusal(delta)
    assert not (tmp_path / "opened").exists()


def test_other_pretrained_weights_are_refused(
    delta: Path, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    other = save_tiny("bert", tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["pooler.dense.bias"] = tensors["pooler.dense.bias"] + 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    done = cli(f"eval={delta}", f"model.name_or_path={other}")
    assert done.code == 2
    assert "it was made with pretrained weights of sha256" in done.err
    moved = tmp_path / "moved"
    shutil.copytree(tiny_folder("bert"), moved)
    done = cli(f"eval={delta}", f"model.name_or_path={moved}")
    assert done.code == 0, done.err
    assert "predictions equal the record's" in done.out


def test_one_key_of_data_changes_that_key_alone(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    record, delta = _saved(cli, tiny_folder("bert"), tmp_path / "out", "data.seed=3")
    found = cli(f"eval={delta}", "data.eval_size=20", "device=cpu")
    assert found.code == 0, found.err
    assert record.data["source"] == "embedded"
    assert "data embedded" in found.out
    assert "predictions differ" in found.out  # there are fewer
    assert "data auto" not in found.out


def test_lines_that_were_trained_on_are_not_held_out_by_another_seed(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    given = ["task=mlm", "task.mlm.on=[cola]", "method=bitfit", "save=delta", "data.seed=3"]
    assert cli(*tiny(tiny_folder("bert"), *given)).code == 0
    [delta] = (tmp_path / "runs").glob("*.delta")
    done = cli(f"eval={delta}", "data.seed=4")
    assert (done.code, done.out) == (2, "")
    assert "task=mlm reports a part that data.seed cuts off its rows" in done.err
    assert "type data.seed=3" in done.err
    assert "predictions equal the record's" in cli(f"eval={delta}", "data.seed=3").out


def test_eval_names_a_wrong_folder_in_one_line(cli: Cli, tmp_path: Path) -> None:
    done = cli(f"eval={tmp_path}")
    assert done.code == 2
    assert done.err.strip() == (
        f"error: eval={tmp_path}: no delta.json there; name a folder that save=delta wrote"
    )


def test_delta_that_cannot_be_written_keeps_the_record(
    cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runners.exports.delta.save_file", full)
    out = tmp_path / "out"
    done = cli(*tiny(tiny_folder("bert"), "task=rte", "save=delta", f"out={out}"))
    assert done.code == 0
    assert "No space left on device" in done.err
    assert [p.suffix for p in out.iterdir()] == [".json"]
