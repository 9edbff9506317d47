"""Masked tokens: loss, perplexity and masks against independent computations."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from results.record import Record, read, read_all
from runners.contract.tiny import TEXTS, wordpiece
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.speed.prefetch import ahead
from runners.tasks.words import similar_words, whole_words, word_units
from runners.training.prepare import Prepared, prepare
from tests.conftest import EACH_KIND, SOAK, Cli, configure, narrow, tiny
from tests.runners.training.test_checkpoint import outcome, whole_and_cut
from tests.tiny import ARCHITECTURES, save_tiny

Folder = Callable[[str], Path]
MASKS = ("token", "whole_word", "macbert")


def _small(folder: Path, *more: str) -> list[str]:
    return tiny(folder, "task=mlm", "mlm.on=[cola,rte]", *more)


MASKING = sorted({*ARCHITECTURES} - {"xlnet", "t5"})  # what has a head that predicts tokens


@pytest.mark.parametrize("architecture", ["xlnet", "t5"])
def test_a_model_without_a_head_over_tokens_is_refused(
    architecture: str, cli: Cli, tiny_folder: Folder
) -> None:
    done = cli(*_small(tiny_folder(architecture)))
    assert done.code == 2
    assert f"of a {architecture} model none is known that predicts masked tokens; use" in done.err
    assert len([line for line in done.err.splitlines() if "error:" in line]) == 1
    assert "Traceback" not in done.err


def _ready(folder: Path, *more: str) -> Prepared:
    config = configure(*_small(folder, *more))
    return prepare(Job(config), make_accelerator("cpu", config))


def _inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in batch.items() if k not in ("masked", "labels")}


@pytest.mark.parametrize("architecture", MASKING)
def test_loss_and_gradients_are_transformers_own(architecture: str, tiny_folder: Folder) -> None:
    """There the head is computed for every token, and the loss by the model itself."""
    ready = _ready(tiny_folder(architecture), "budget.dropout=0")
    model: Any = ready.loop.model
    batch = ready.loop.collate(np.arange(6), 3)
    assert "ForMaskedLM" in type(model).__name__
    ours = ready.loop.forward(batch)
    ours.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs = model(**_inputs(batch), labels=batch["labels"])
    theirs.loss.backward()
    assert torch.allclose(ours.loss, theirs.loss, rtol=1e-5)
    assert torch.allclose(ours.logits, theirs.logits[batch["masked"]], atol=1e-5)
    assert int(batch["masked"].sum()) == int((batch["labels"] != -100).sum()) > 6
    assert len(gradients) > 15
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(gradients[name], parameter.grad, atol=1e-5), name


def _with_mlm_head(folder: Path, source: Path) -> Any:
    """Save a model with a masked-language-model head of its own beside a tokenizer; return it."""
    config = transformers.AutoConfig.from_pretrained(source)
    torch.manual_seed(5)
    model: Any = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
def test_a_checkpoints_own_head_is_used(
    architecture: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    theirs = _with_mlm_head(tmp_path / "mlm", tiny_folder(architecture))
    one, other = (_ready(tmp_path / "mlm", f"seed={seed}") for seed in (1, 2))
    assert one.loaded.facts["mlm_head"] == "pretrained"
    own = dict(theirs.named_parameters())
    for ready in (one, other):
        ours = dict(ready.loop.model.named_parameters())
        assert ours.keys() == own.keys()
        assert [n for n, p in ours.items() if not torch.equal(p, own[n])] == []
    # A head for whole texts is drawn, as ever.
    plain = prepare(
        Job(config := configure(*tiny(tmp_path / "mlm", "task=rte"))),
        make_accelerator("cpu", config),
    )
    assert dict(plain.loaded.facts) == {}


@pytest.mark.parametrize("architecture", MASKING)
def test_a_checkpoint_without_head_has_a_fresh_one_tied_to_its_words(
    architecture: str, tiny_folder: Folder
) -> None:
    one, same, other = (_ready(tiny_folder(architecture), f"seed={s}") for s in (1, 1, 2))
    assert one.loaded.facts["mlm_head"] == "fresh, tied to the word embedding"
    model: Any = one.loop.model
    words = model.get_input_embeddings().weight
    if architecture != "deberta-v2":  # its head is given the embedding itself
        assert model.get_output_embeddings().weight is words
    a, b, c = (dict(r.loop.model.named_parameters()) for r in (one, same, other))
    drawn = {n for n, p in a.items() if not torch.equal(p, c[n])}
    assert drawn
    assert drawn <= one.loaded.head
    assert all(torch.equal(p, b[n]) for n, p in a.items())


def test_a_head_that_is_used_is_not_said_to_be_unused(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """ModernBERT's heads over tokens and over texts share the names of their first modules."""
    _with_mlm_head(tmp_path / "mlm", tiny_folder("modernbert"))
    masked = _ended(cli, tmp_path / "runs", *_small(tmp_path / "mlm"))
    assert masked.weights["mlm_head"] == "pretrained"
    assert "unused_head" not in masked.weights
    whole = _ended(cli, tmp_path / "runs", *tiny(tmp_path / "mlm", "task=rte"))
    assert "head.dense.weight" in whole.weights["unused_head"]
    classifier = save_tiny("bert", tmp_path / "bert", pretrained_head=True)
    other = _ended(cli, tmp_path / "runs", *_small(classifier))
    assert other.weights["unused_head"] == ["classifier.bias", "classifier.weight"]
    assert other.weights["mlm_head"] == "fresh, tied to the word embedding"


def test_masks_are_drawn_anew_at_each_step_and_depend_on_nothing_else(tiny_folder: Folder) -> None:
    loop = _ready(tiny_folder("bert")).loop
    lines = np.arange(8)
    first, again, later = (loop.collate(lines, step)["labels"] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    alone = loop.collate(lines[:1], 1)["labels"][0]
    assert torch.equal(alone[alone != -100], later[0][later[0] != -100])
    batches = [loop.collate(i, s) for s, i in enumerate(loop.order.batches(0, 4))]
    with contextlib.closing(ahead(iter(list(loop._batches(0, 4))))) as coming:
        for ours, theirs in zip(batches, coming, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    other = _ready(tiny_folder("bert"), "seed=7").loop
    assert not torch.equal(first, other.collate(lines, 0)["labels"])


def test_masks_of_lines_held_out_are_equal_for_every_seed_and_way(tiny_folder: Folder) -> None:
    def held(*more: str) -> list[tuple[list[int], list[bool]]]:
        collate: Any = _ready(tiny_folder("bert"), *more).encoded["held_out"]
        masked = [collate.masked(i, step) for i in range(len(collate.units)) for step in (0, 5)]
        assert all(
            np.array_equal(a, b)
            for one, two in zip(masked[::2], masked[1::2], strict=True)
            for a, b in zip(one, two, strict=True)
        )
        return [(ids.tolist(), chosen.tolist()) for ids, chosen in masked[::2]]

    plain = held("seed=1")
    assert plain == held("seed=2", "method=lora")
    assert plain == held("mlm.mask=macbert", "mlm.probability=0.5", "mlm.shuffle=true")


def _byte_level(folder: Path) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    special = ["<pad>", "<s>", "</s>", "<mask>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer, pad_token="<pad>", cls_token="<s>", sep_token="</s>",
        mask_token="<mask>", unk_token="<unk>",
    )  # fmt: skip


def _sentencepiece(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(save_tiny("deberta-v2", folder))


STRANGE = [*TEXTS, "unbelievable qwerty", "annas housekeeping zebra , xylophones"]


@pytest.mark.parametrize(
    ("tokenizer_of", "starts"),
    [
        (lambda folder: wordpiece(), lambda token: not token.startswith("##")),
        (_byte_level, lambda token: token.startswith("Ġ")),
        (_sentencepiece, lambda token: token.startswith("▁")),
    ],
    ids=["wordpiece", "byte_level", "sentencepiece"],
)
@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
def test_words_are_told_apart_as_the_pieces_spelling_says(
    tokenizer_of: Callable[[Path], Any],
    starts: Callable[[str], bool],
    truncate: Any,
    tmp_path: Path,
) -> None:
    """Texts of letters and blanks: a piece whose spelling begins no word goes on with the last."""
    tokenizer = tokenizer_of(tmp_path / "model")
    texts = [text.replace(",", "and") for text in STRANGE]
    units = word_units(texts, tokenizer, 64, truncate, "whole_word")
    pieces = 0
    for text, unit in zip(texts, units, strict=True):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        special = set(tokenizer.all_special_tokens) - {tokenizer.unk_token}
        own = [(t, u) for t, u in zip(tokens, unit, strict=True) if t not in special]
        assert all(u == -1 for t, u in zip(tokens, unit, strict=True) if t in special)
        assert own[0][1] >= 0
        for (_, before), (token, number) in pairwise(own):
            assert (number != before) == starts(token), (text, token)
            pieces += number == before
    assert pieces > 10
    short = word_units(texts, tokenizer, 8, truncate, "whole_word")
    assert {len(unit) for unit in short} == {8}


def test_similar_words_are_whole_and_near(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    weights = Job(configure(*_small(folder))).weights
    words = whole_words(tokenizer)
    spelled = tokenizer.convert_ids_to_tokens(words.tolist())
    assert all(word.isalpha() for word in spelled)
    assert {"the", "film", "anna"} <= set(spelled)
    similar = similar_words(np.arange(len(tokenizer)), tokenizer, weights)
    assert set(similar) == set(words.tolist())
    rows = transformers.AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach()
    film = tokenizer.convert_tokens_to_ids("film")
    cosines = {
        int(w): float(torch.cosine_similarity(rows[film], rows[int(w)], dim=0))
        for w in words
        if w != film
    }
    assert similar[film] == max(cosines, key=lambda w: cosines[w])


def _ended(cli: Cli, out: Path, *arguments: str) -> Record:
    before = set(out.glob("*.json"))
    done = cli(*arguments, f"out={out}")
    assert done.code == 0, done.err
    [path] = set(out.glob("*.json")) - before
    return read(path)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_perplexity_is_that_of_a_slow_loop(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """Line by line, without padding, from logits of every token."""
    out, small = tmp_path / "runs", _small(tiny_folder("bert"), f"method={method}", "lr=1e-3")
    record = _ended(cli, out, *small, "save=delta")
    delta = load_delta(out / f"{record.run}.delta")
    before = _ready(tiny_folder("bert"), f"method={method}")
    collate: Any = before.encoded["held_out"]
    for when, model in (("before", before.loop.model), ("after", delta.loaded.model)):
        losses, right, references = [], [], []
        for i in range(len(collate.units)):
            ids, masked = collate.masked(i)
            with torch.no_grad():
                given = torch.from_numpy(ids)[None]
                logits = model.eval()(input_ids=given).logits[0].double()
            for place in np.flatnonzero(masked):
                row, true = logits[place], int(collate.ids(i)[place])
                losses.append(float(torch.logsumexp(row, 0) - row[true]))
                right.append(int(row.argmax()) == true)
                references.append(true)
        measured = record.measured["held_out"][when]
        assert measured["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
        assert measured["accuracy"] == pytest.approx(np.mean(right))
    assert record.predictions["held_out"]["references"] == references
    assert record.score == record.scores["held_out"]["accuracy"] == measured["accuracy"]
    assert record.scores["held_out"].keys() == {"accuracy"}
    stored = json.loads((out / f"{record.run}.json").read_text())
    assert list(stored["measured"]) == ["held_out"]


def test_a_batch_in_which_nothing_is_masked_moves_nothing(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    """A line of unknown words alone: loss and gradients are zero, not nan."""
    path = tmp_path / "text.txt"
    path.write_text("中 文\nthe film\n字\nthe cast is warm\nthe music\n")
    config = configure(*tiny(tiny_folder("bert"), "task=mlm", f"data.text={path}", "data=auto"))
    settings = config.settings.model_copy(
        update={"data": config.settings.data.model_copy(update={"train_size": None})}
    )
    job = Job(replace(config, settings=settings))
    loop = prepare(job, make_accelerator("cpu", config)).loop
    lines = [line for (line,) in job.data.train.texts]
    batch = loop.collate(np.array([lines.index("字")]), 0)
    assert not batch["masked"].any()
    output = loop.forward(batch)
    assert output.loss.item() == 0.0
    output.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in loop.model.parameters())


def test_record_of_another_task_has_no_such_section(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    record = _ended(cli, tmp_path / "runs", *tiny(tiny_folder("bert"), "task=rte"))
    stored = json.loads((tmp_path / "runs" / f"{record.run}.json").read_text())
    assert "measured" not in stored
    assert "mlm" not in stored["config"]["task"]
    assert "mlm_head" not in stored["weights"]
    assert all("measured" not in entry for entry in stored["evaluations"])


def test_training_lowers_the_perplexity_and_the_record_tells_all(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    small = _small(tiny_folder("bert"), "budget.steps=40", "lr=1e-2", "data.train_size=400")
    done = cli(*small, f"out={out}", "save=delta")
    assert done.code == 0, done.err
    [record] = read_all(out)
    measured = record.measured["held_out"]
    assert measured["after"]["perplexity"] < 0.7 * measured["before"]["perplexity"]
    assert "held_out: perplexity " in done.out
    assert "held_out: accuracy " in done.out
    assert record.weights["mlm_head"] == "fresh, tied to the word embedding"
    assert record.data["text"]["from"].startswith("cola train")
    again = cli(f"verify={record.run}", f"out={out}", "device=cpu")
    assert "equal to the bit" in again.out, again.err
    scored = cli(f"eval={out / record.run}.delta", "device=cpu")
    assert "predictions equal the record's" in scored.out, scored.err
    assert f"perplexity {measured['after']['perplexity']:.2f}" in scored.out


@pytest.mark.parametrize("mask", MASKS)
def test_killed_run_goes_on_to_the_same_end(
    mask: str, cli: Cli, tiny_folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _small(
        tiny_folder("bert"), "budget.steps=6", "budget.evaluate=2", f"mlm.mask={mask}",
        "protocol=select",
    )  # fmt: skip
    whole, cut = whole_and_cut(cli, given, tmp_path, monkeypatch, 3)
    assert outcome(cut) == outcome(whole)
    assert (cut.measured, cut.run, cut.resumed) == (whole.measured, whole.run, [3])
    assert whole.measured["held_out"].keys() == {"before", "after"}


@pytest.mark.parametrize("method", sorted(EACH_KIND))
def test_every_method_trains_by_masking_or_is_refused_by_name(
    method: str, cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    """What it leaves is scored as the run was, and another task starts from it."""
    out, cls = tmp_path / "runs", EACH_KIND[method]
    done = cli(*_small(tiny_folder("bert"), *narrow(method)), "save=delta", f"out={out}")
    if cls.of_whole_texts:
        assert done.code == 2
        assert f"method={method} {cls.of_whole_texts}; task=mlm" in done.err
        assert done.err.count("\n") == 1
        return
    assert done.code == 0, done.err
    [record] = read_all(out)
    assert record.trained_sha256 != record.initial_sha256
    assert (out / f"{record.run}.delta" / "delta.safetensors").is_file()
    scored = cli(f"eval={out / record.run}.delta", "device=cpu")
    assert "predictions equal the record's" in scored.out, scored.err
    if not SOAK and sorted(EACH_KIND).index(method) % 3:
        return
    later = cli(*tiny(tiny_folder("bert")), *narrow(method), "task=rte", f"start={record.run}",
                f"out={out}")  # fmt: skip
    assert later.code == 0, later.err


def test_way_of_masking_is_part_of_the_name_and_its_row(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("bert")
    ways = [(), *((f"mlm.{way}",) for way in ("mask=whole_word", "probability=0.3", "shuffle=true",
                                              "held_out=0.1", "on=[cola]"))]  # fmt: skip
    names = [Job(configure(*_small(folder, *way))).name for way in ways]
    assert len(set(names)) == len(names)


def test_model_that_cannot_mask_is_named(cli: Cli, tiny_folder: Folder, tmp_path: Path) -> None:
    for kind, said in (("no_mask", "has no mask token"), ("gpt2", "of a gpt2 model none is known")):
        folder = tmp_path / kind
        tokenizer = wordpiece()
        if kind == "gpt2":
            sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
            config = transformers.GPT2Config(vocab_size=len(tokenizer), **sizes)
            transformers.GPT2Model(config).save_pretrained(folder)
        else:
            transformers.AutoModel.from_pretrained(tiny_folder("bert")).save_pretrained(folder)
            tokenizer.mask_token = None
        tokenizer.save_pretrained(folder)
        done = cli(*_small(folder))
        assert (done.code, done.err.count("\n")) == (2, 2), done.err  # and where the data is from
        assert said in done.err


def test_lines_of_which_nothing_can_be_masked_are_named(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("中 文\n文 字\n字 中 文\n")
    small = [a for a in tiny(tiny_folder("bert")) if not a.startswith("data")]
    done = cli(*small, "task=mlm", f"data.text={path}")
    assert done.code == 2
    assert "not one token of train can be masked at budget.max_length=48" in done.err
