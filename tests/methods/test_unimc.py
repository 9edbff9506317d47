"""Options with a mask each: against transformers' whole head and a layout that is written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from methods.surgery import choices
from methods.surgery.option_reader import CHANCES, RATES, Marks, layout, mask_texts, seen_by
from methods.unimc import Unimc
from results.errors import UserError
from results.record import read_all
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli, configure, tiny
from tests.tiny import save_masked

Folder = Callable[[str], Path]
WORDS = ("method.unimc.right=a", "method.unimc.wrong=not")  # what the tiny vocabularies have
ASKED = (*WORDS, "method.unimc.question='the film'")
ZERO = ("budget.epochs=0", "budget.steps=null")
UNLIKE = ("warm", "not bad at all")  # options of one token and of four


@pytest.fixture(scope="module")
def masked_bert(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _loud(tiny_folder("bert"), tmp_path_factory.mktemp("masked") / "tiny-mlm")


def _loud(source: Path, folder: Path) -> Path:
    """Save a random model with a head, of weights that are not so small that all looks alike."""
    save_masked(source, folder)
    model: Any = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)
    return folder


def _ready(
    folder: Path, *more: str, options: tuple[str, ...] = UNLIKE, task: str = "mrpc"
) -> Prepared:
    named = f"method.unimc.options=[{','.join(options)}]"
    config = configure(*tiny(folder, f"task={task}", "method=unimc", *ASKED, named, *more))
    return prepare(Job(config), make_accelerator("cpu", config))


def _written_out(
    row: list[int], types: list[int], mask: int, separator: int, length: int
) -> tuple[list[int], list[list[bool]], list[int]]:
    """Return positions, who sees whom, and the places of the masks of one row of `length` tokens.

    Token by token: behind the class token options follow each other up to the separator.
    """
    end = next(i for i, token in enumerate(row) if token == separator)
    masks = [i for i in range(1, end) if row[i] == mask and types[i] == 1]
    owner, positions = [-1] * length, [0] * length
    for number, begin in enumerate(masks):
        until = masks[number + 1] if number + 1 < len(masks) else end
        for i in range(begin, until):
            owner[i], positions[i] = number, 1 + i - begin
    position = max(positions) + 1
    for i in range(end, length):
        positions[i], position = position, position + 1
    sees = [
        [
            j < len(row) and not (owner[i] >= 0 and owner[j] >= 0 and owner[i] != owner[j])
            for j in range(length)
        ]
        for i in range(length)
    ]
    return positions, sees, masks


def _rows(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    lengths = batch["attention_mask"].sum(1).tolist()
    each = zip(batch["input_ids"].tolist(), batch["token_type_ids"].tolist(), lengths, strict=True)
    return [(ids[:length], types[:length]) for ids, types, length in each]


def _whole(
    folder: Path, batch: dict[str, torch.Tensor], tokenizer: Any, read: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[list[int]]]:
    """Return transformers' own logits of a batch (B, L, words), laid out row by row, and the masks.

    `read` are ids that stand in the place of the batch's.
    """
    model: Any = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, attn_implementation="eager"
    )
    ids = batch["input_ids"]
    positions, sees, masks = [], [], []
    for row, types in _rows(batch):
        one = _written_out(
            row, types, tokenizer.mask_token_id, tokenizer.sep_token_id, ids.shape[1]
        )
        positions.append(one[0])
        sees.append(one[1])
        masks.append(one[2])
    added = torch.where(torch.tensor(sees), 0.0, -1e9)[:, None]
    with torch.no_grad():
        logits = model.eval()(
            input_ids=ids if read is None else read,
            attention_mask=added,
            token_type_ids=batch["token_type_ids"],
            position_ids=torch.tensor(positions),
        ).logits
    return logits, masks


@pytest.mark.parametrize("architecture", ["bert", "albert", "electra"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_scores_are_the_whole_heads_for_yes_at_the_masks(
    architecture: str, attention: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = _loud(tiny_folder(architecture), tmp_path / "model")
    ready = _ready(folder, "speed.fast_dropout=false")
    model: Any = ready.loop.model.eval()
    model.config._attn_implementation = attention
    batch = ready.loop.collate(np.arange(6))
    tokenizer: Any = ready.loaded.tokenizer
    with torch.no_grad():
        ours = model(**batch)
    whole, masks = _whole(folder, batch, tokenizer)
    assert len(masks[0]) == 2
    yes = tokenizer.convert_tokens_to_ids("a")
    theirs = torch.stack([whole[i, places, yes] for i, places in enumerate(masks)])
    assert torch.allclose(ours.logits, theirs, atol=1e-5)
    assert (ours.logits[:, 0] - ours.logits[:, 1]).abs().max() > 1e-2
    loss = cross_entropy(theirs, batch["labels"])
    assert ours.loss.item() == pytest.approx(loss.item(), abs=1e-4)
    own = transformers.AutoModelForMaskedLM.from_pretrained(folder).named_parameters()
    assert {n for n, _ in model.named_parameters()} == {n for n, _ in own}


def test_a_text_token_by_token(masked_bert: Path) -> None:
    ready = _ready(masked_bert)
    [method], tokenizer = ready.loop.methods, ready.loaded.tokenizer
    assert isinstance(method, Unimc)
    arranged = method.arrange([["a dull film"], ["a b"]], tokenizer, 64, lambda n, m: range(m))
    [row], [types] = arranged.input_ids, arranged.token_type_ids or []
    text = (
        "[CLS] [MASK] warm [MASK] not bad at all [SEP] the film [SEP] a dull film [SEP] a b [SEP]"
    )
    assert tokenizer.convert_ids_to_tokens(row) == text.split()
    assert types == [0] + [1] * 8 + [0] * 10
    ids, of_type = torch.tensor([[*row, 0]]), torch.tensor([[*types, 0]])
    marks = method.reader.marks
    places = layout(ids, of_type, marks)
    assert places.masks.tolist() == [[1, 3]]
    assert places.numbers.tolist() == [[0, 1, 1, 2, 2, 2, 2, 2] + [0] * 12]
    assert places.positions.tolist() == [[0, 1, 2, 1, 2, 3, 4, 5, *range(6, 18)]]
    present = torch.tensor([[1] * 19 + [0]])
    seen = seen_by(places.numbers, present)[0, 0]
    assert seen[1].nonzero().flatten().tolist() == [0, 1, 2, *range(8, 19)]
    assert seen[4].nonzero().flatten().tolist() == [0, *range(3, 19)]
    assert seen[0].tolist() == seen[8].tolist() == present[0].bool().tolist()
    behind = seen_by(places.numbers, torch.cat([torch.ones(1, 3), present], 1))[0, 0]
    assert behind[:, :3].all()  # a prefix is seen by all
    assert torch.equal(behind[:, 3:], seen)
    left = layout(torch.cat([ids[:, -1:], ids[:, :-1]], 1), of_type.roll(1, 1), marks)
    assert left.positions.tolist() == [[0, 0, 1, 2, 1, 2, 3, 4, 5, *range(6, 17)]]


def _states(model: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return the states that each layer leaves."""
    left: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, out: left.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in model.base_model.encoder.layer
    ]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return left


def test_an_option_reaches_another_through_the_text_alone(masked_bert: Path) -> None:
    ready = _ready(masked_bert, options=("warm film", "not bad"))
    model, batch = ready.loop.model.eval(), ready.loop.collate(np.arange(4))
    before = _states(model, batch)
    ids = batch["input_ids"].clone()
    ids[:, 2] = ready.loaded.tokenizer.convert_tokens_to_ids("music")
    after = _states(model, batch | {"input_ids": ids})
    apart = [(b - a).abs().amax(dim=(0, 2)) for b, a in zip(before, after, strict=True)]
    assert ids.shape[1] > 10
    assert apart[0][4:7].max() == 0  # the other option's mask and words
    assert apart[0][[0, 1, 2, 3, 7, 8, 9]].min() > 1e-4
    assert apart[1][:10].min() > 1e-4


def test_swapped_options_have_swapped_scores(masked_bert: Path) -> None:
    scores = []
    for options in (UNLIKE, UNLIKE[::-1]):
        ready = _ready(masked_bert, options=options)
        with torch.no_grad():
            scores.append(ready.loop.model.eval()(**ready.loop.collate(np.arange(6))).logits)
    assert torch.allclose(scores[0], scores[1].flip(1), atol=1e-5)
    assert not torch.allclose(scores[0], scores[1], atol=1e-2)


@pytest.mark.parametrize("more", [[], ["method=[unimc,label_smoothing]"]])
def test_the_loss_is_matching_and_all_words_that_are_predicted(
    more: list[str], masked_bert: Path
) -> None:
    ready = _ready(masked_bert, "budget.dropout=0", *more)
    loop, tokenizer = ready.loop, ready.loaded.tokenizer
    method = next(m for m in loop.methods if isinstance(m, Unimc))
    batch = loop.collate(np.arange(8))
    forward = lambda given: ready.kind.forward(loop.model, given)  # noqa: E731
    method.streams.on(torch.device("cpu")).manual_seed(3)
    loss = method.loss(loop.model, batch, forward)
    masked = method.reader.mask(batch, torch.Generator().manual_seed(3))
    whole, masks = _whole(masked_bert, batch, tokenizer, masked.ids)
    words = tokenizer.convert_tokens_to_ids(["a", "not"])
    options = torch.stack([whole[i, places] for i, places in enumerate(masks)])
    smoothing = 0.1 if more else 0.0
    matching = cross_entropy(options[..., words[0]], batch["labels"], label_smoothing=smoothing)
    predicted, right = [], []
    for i, places in enumerate(masks):
        for k, place in enumerate(places):
            predicted.append(whole[i, place])
            right.append(words[0] if k == batch["labels"][i] else words[1])
        for place in masked.chosen[i].nonzero().flatten().tolist():
            predicted.append(whole[i, place])
            right.append(int(batch["input_ids"][i, place]))
    assert len(right) > 16
    of_words = cross_entropy(torch.stack(predicted), torch.tensor(right))
    assert loss.item() == pytest.approx((matching + of_words).item(), abs=1e-4)
    method.paused = True
    quiet = method.loss(loop.model, batch, forward)
    assert quiet.item() == pytest.approx(forward(batch).loss.item(), abs=1e-5)


def test_how_tokens_of_texts_are_masked() -> None:
    special = torch.arange(5)
    marks = Marks(4, 3, special, torch.arange(5, 1000))
    ids = torch.full((4000, 100), 7)
    text = torch.ones_like(ids).bool()
    text[:, :40] = False
    read, chosen = mask_texts(ids, text, marks, torch.Generator().manual_seed(0))
    assert not chosen[:, :40].any()
    assert torch.equal(read[~chosen], ids[~chosen])
    shares = chosen[:, 40:].float().mean(1)
    nearest = (shares[:, None] - torch.tensor(RATES)).abs().argmin(1)
    assert shares[nearest == 0].max() < 0.06  # of sixty tokens few are wrongly told apart
    of_all = sum(rate * chance for rate, chance in zip(RATES, CHANCES, strict=True))
    assert of_all == pytest.approx(0.125)
    assert shares.mean().item() == pytest.approx(of_all, abs=0.005)
    assert (shares == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    now = read[chosen]
    assert (now == marks.mask).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (now == 7).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not torch.isin(now[now != marks.mask], special).any()


def test_texts_are_cut_and_never_an_option(masked_bert: Path) -> None:
    tokenizer: Any = _ready(masked_bert).loaded.tokenizer

    def arranged(length: int, question: str = "film", options: tuple[str, ...] = UNLIKE) -> str:
        columns = [["a b c d e [MASK]"], ["x y z"]]
        same = choices.repeated(options, 1, tokenizer)
        out = choices.arrange(question, same, columns, tokenizer, length, lambda n, m: range(m))
        assert out.truncated == [length < 22]
        return " ".join(tokenizer.convert_ids_to_tokens(out.input_ids[0])[9:])

    assert arranged(22) == "film [SEP] a b c d e [UNK] [SEP] x y z [SEP]"
    assert arranged(17) == "film [SEP] a b [SEP] x y [SEP]"
    assert arranged(16, question="") == "a b c [SEP] x y [SEP]"
    with pytest.raises(UserError, match=r"max_length=14: options and question take 13 tokens"):
        arranged(14)
    with pytest.raises(UserError, match=r"'a \[SEP\] b' holds a special token"):
        arranged(30, options=("a [SEP] b", "x"))


def test_a_run_on_one_task_answers_another_without_training(
    cli: Cli, masked_bert: Path, tmp_path: Path
) -> None:
    out = f"out={tmp_path / 'runs'}"
    asked = ("method=unimc", *ASKED)
    trained = ("task=rte", "method.unimc.options=[warm,not]", "save=delta", out)
    assert cli(*tiny(masked_bert, *asked, *trained)).code == 0
    [before] = read_all(tmp_path / "runs")
    assert before.steps
    assert before.config["task"]["choices"]["options"]["entailment"] == "it follows"
    assert "prompt" not in before.config["task"]
    then = ("task=mnli", "method.unimc.options=[warm,film,not]", *ZERO, out)
    ended = cli(*tiny(masked_bert, *asked, *then, f"start={before.run}"))
    assert ended.code == 0, ended.err
    [after] = [r for r in read_all(tmp_path / "runs") if r.task == "mnli"]
    assert (after.steps, after.weights["mlm_head"]) == (0, f"as start={before.run} left it")


def test_the_options_of_glues_tasks_are_in_the_order_of_their_labels() -> None:
    for task in ("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli"):
        config = configure(f"task={task}", "method=unimc", "data=embedded")
        [method] = config.methods
        assert isinstance(method, Unimc)
        section = config.settings.task.choices
        assert section is not None
        assert method._options == [section.options[label] for label in config.settings.task.labels]
        assert method._question
    [method] = configure("task=sst2", "method=unimc", "data=embedded").methods
    assert isinstance(method, Unimc)
    assert method._options == ["it's terrible", "it's great"]
    assert (method.right, method.wrong) == ("yes", "no")


def test_what_a_task_asks_is_in_the_name_of_a_run_that_reads_it() -> None:
    def named(method: str, *more: str) -> str:
        return Job(configure("task=sst2", f"method={method}", "data=embedded", *more)).name

    other = "task.choices.question='Is it good?'"
    assert named("unimc") != named("unimc", other)
    assert named("full") == named("full", other)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method.unimc.options=[dull,warm,not]"], "3 options for 2 labels"),
        (["method.unimc.options=[dull,dull]"], "'dull' stands for two labels"),
        (["method.unimc.options=[dull,'']"], "an option is empty"),
        (["task=mnli", "~task.choices.options.neutral"], "names no options for its labels"),
        (["task=sick"], "task=sick names no options for its labels"),
        (["task=stsb"], "task=stsb is of kind regression"),
        (["method.unimc.right=no"], "are both 'no'; choose another"),
        (["task=mlm", "mlm.on=[rte]"], "reads answers at masks of its own; task=mlm"),
        (["method=[linear,unimc]"], "linear and unimc both decide on the head"),
        (["method=[prompt,unimc]"], "prompt and unimc both decide which tokens stand where"),
        (["method=[rdrop,unimc]"], "rdrop and unimc both define the loss"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    typed: list[str], said: str, masked_bert: Path
) -> None:
    with pytest.raises(UserError, match=said):
        configure(*tiny(masked_bert, "task=mrpc", "method=unimc", *typed))


def test_models_and_lengths_that_do_not_do_are_refused(
    masked_bert: Path, tiny_folder: Folder, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds no head that predicts masked tokens"):
        _ready(tiny_folder("bert"))
    with pytest.raises(UserError, match=r"the word 'wonder' is not one token .*unimc.right="):
        _ready(masked_bert, "method.unimc.right=wonder")
    roberta = save_masked(tiny_folder("roberta"), tmp_path / "roberta")
    with pytest.raises(UserError, match=r"\(roberta\) has not; use a BERT, ALBERT or ELECTRA"):
        _ready(roberta)
    config = transformers.AutoConfig.from_pretrained(masked_bert)
    config.max_position_embeddings = 600
    long = tmp_path / "long"
    auto: Any = transformers.AutoModelForMaskedLM
    auto.from_config(config).save_pretrained(long)
    transformers.AutoTokenizer.from_pretrained(masked_bert).save_pretrained(long)
    with pytest.raises(UserError, match=r"max_length=513 is above 512.* use budget.max_length=512"):
        _ready(long, "budget.max_length=513")
