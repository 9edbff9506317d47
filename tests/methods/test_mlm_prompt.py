"""Answers at a mask: against transformers' whole head, templates token by token, and losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from methods.mlm_prompt import MlmPrompt
from methods.surgery.mask_reader import MaskReader
from results.errors import UserError
from results.record import read_all
from runners.exports.delta import load_delta
from runners.jobs.job import Job
from runners.machine.device import make_accelerator
from runners.models.build import trained_sha256
from runners.training.prepare import Prepared, prepare
from tests.conftest import Cli, configure, tiny
from tests.tiny import ARCHITECTURES, save_masked

Folder = Callable[[str], Path]
WORDS = "method.mlm_prompt.words=[a,not]"  # what the tiny vocabularies have


@pytest.fixture(scope="module")
def masked_bert(tiny_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_masked(tiny_folder("bert"), tmp_path_factory.mktemp("masked") / "tiny-mlm")


def _ready(folder: Path, *more: str, task: str = "mrpc") -> Prepared:
    config = configure(*tiny(folder, f"task={task}", "method=mlm_prompt", WORDS, *more))
    return prepare(Job(config), make_accelerator("cpu", config))


@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {"xlnet", "t5"}))
def test_logits_are_those_columns_of_the_whole_heads_at_the_mask(
    architecture: str, tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = save_masked(tiny_folder(architecture), tmp_path / "model")
    ready = _ready(folder)
    model: Any = ready.loop.model.eval()
    batch = ready.loop.collate(np.arange(6))
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    whole: Any = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer: Any = ready.loaded.tokenizer
    words = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in ("a", "not")]
    with torch.no_grad():
        ours, theirs = model(**batch), whole(**inputs).logits
    at_mask = theirs[inputs["input_ids"] == tokenizer.mask_token_id]
    assert at_mask.shape[0] == 6
    columns = at_mask[:, [i for [i] in words]]
    assert torch.allclose(ours.logits, columns, atol=1e-5)
    full = at_mask.softmax(-1)[:, [i for [i] in words]]
    assert torch.allclose(ours.logits.softmax(-1), full / full.sum(-1, keepdim=True), atol=1e-5)
    loss = -torch.log_softmax(columns, -1)[torch.arange(6), batch["labels"]].mean()
    assert ours.loss.item() == pytest.approx(loss.item(), abs=1e-5)


def test_no_parameter_is_new_and_a_parameter_method_freezes_the_head(masked_bert: Path) -> None:
    own = {
        n
        for n, _ in transformers.AutoModelForMaskedLM.from_pretrained(
            masked_bert
        ).named_parameters()
    }
    ready = _ready(masked_bert)
    assert {n for n, _ in ready.loop.model.named_parameters()} == own
    assert ready.loaded.head == frozenset()
    assert not ready.loop.collate(np.arange(4))["token_type_ids"].any()  # all of one segment
    assert ready.loaded.facts["mlm_head"] == "pretrained"
    lora = _ready(masked_bert, "method=[lora,mlm_prompt]").loop.model
    assert all("lora_" in n for n, p in lora.named_parameters() if p.requires_grad)


GOLDEN = {  # task: texts, and the tokens as BERT and as a byte-level vocabulary have them
    "cola": (
        ["The plot is dull."],
        "the plot is dull . this is [MASK] .",
        "The Ġplot Ġis Ġdull . ĠThis Ġis [MASK] .",
    ),
    "sst2": (
        ["The plot is dull "],
        "the plot is dull it was [MASK] .",
        "The Ġplot Ġis Ġdull Ġ ĠIt Ġwas [MASK] .",
    ),
    "mrpc": (
        ["He slept.", "Then He woke."],
        "he slept . [MASK] , then he woke .",
        "He Ġslept . [MASK] , Ġthen ĠHe Ġwoke .",
    ),
    "qqp": (
        ["Who slept?", "Who woke?"],
        "who slept ? [MASK] , who woke ?",
        "Who Ġslept ? [MASK] , Ġwho Ġwoke ?",
    ),
    "stsb": (
        ["He slept.", "He woke."],
        "he slept . [MASK] , he woke .",
        "He Ġslept . [MASK] , Ġhe Ġwoke .",
    ),
    "mnli": (
        ["He slept.", "He woke."],
        "he slept ? [MASK] , he woke .",
        "He Ġslept ? [MASK] , Ġhe Ġwoke .",
    ),
    "qnli": (
        ["Who slept?", "He woke."],
        "who slept ? [MASK] , he woke .",
        "Who Ġslept ? [MASK] , Ġhe Ġwoke .",
    ),
    "rte": (
        ["He slept", "He woke."],
        "he slept ? [MASK] , he woke .",
        "He Ġslept ? [MASK] , Ġhe Ġwoke .",
    ),
    "wnli": (
        ["He slept.", "He woke."],
        "he slept ? [MASK] , he woke .",
        "He Ġslept ? [MASK] , Ġhe Ġwoke .",
    ),
    "tastes": (
        ["the soup was hot."],
        "the soup was hot . for the guests this was [MASK] .",
        "the Ġsoup Ġwas Ġhot . ĠFor Ġthe Ġguests Ġthis Ġwas [MASK] .",
    ),
}


def _byte_level() -> Any:
    """Return a tokenizer whose words carry their blank, as RoBERTa's do."""
    pieces = sorted({piece for _, _, roberta in GOLDEN.values() for piece in roberta.split()})
    words = ["<pad>", "<s>", "</s>", "<unk>", "[MASK]", *(p for p in pieces if p != "[MASK]")]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer, pad_token="<pad>", cls_token="<s>", sep_token="</s>",
        mask_token="[MASK]", unk_token="<unk>",
    )  # fmt: skip


def _arranged(method: MlmPrompt, texts: list[str], tokenizer: Any, length: int = 64) -> list[str]:
    columns = [[text] for text in texts]
    arranged = method.arrange(columns, tokenizer, length, lambda whole, room: range(room))
    [row] = arranged.input_ids
    tokens: list[str] = tokenizer.convert_ids_to_tokens(row)
    return tokens


@pytest.fixture(scope="module")
def minilms() -> Any:
    folder = Job(configure("task=rte", "data=embedded")).weights.folder
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("task", GOLDEN)
def test_templates_of_tasks_token_by_token(task: str, minilms: Any) -> None:
    config = configure(f"task={task}", "method=mlm_prompt", "data=embedded")
    [method] = config.methods
    assert isinstance(method, MlmPrompt)
    texts, bert, roberta = GOLDEN[task]
    assert _arranged(method, texts, minilms) == ["[CLS]", *bert.split(), "[SEP]"]
    assert _arranged(method, texts, _byte_level()) == ["<s>", *roberta.split(), "</s>"]
    known = minilms.get_vocab()
    assert all(word.lower() in known for word in method._words)


def test_the_label_words_are_in_the_order_of_the_labels() -> None:
    words = {}
    for task in GOLDEN:
        config = configure(f"task={task}", "method=mlm_prompt", "data=embedded")
        [method] = config.methods
        assert isinstance(method, MlmPrompt)
        labels = config.settings.task.labels or ["low", "high"]
        words[task] = dict(zip(labels, method._words, strict=True))
    assert words["sst2"] == {"negative": "terrible", "positive": "great"}
    assert words["mnli"] == {"entailment": "Yes", "neutral": "Maybe", "contradiction": "No"}
    assert words["stsb"] == {"low": "No", "high": "Yes"}
    assert words["tastes"] == {"complaint": "bad", "praise": "charming"}
    assert words["qnli"] == words["rte"] == {"entailment": "Yes", "not_entailment": "No"}


def test_the_authors_form_takes_a_letter_and_the_default_a_mark() -> None:
    tokenizer = _byte_level()
    for bare, word in (("punctuation", "Ġslept"), ("character", "<unk>")):  # "slep" is no word
        [method] = configure(
            "task=rte", "method=mlm_prompt", f"method.mlm_prompt.bare={bare}", "data=embedded"
        ).methods
        assert isinstance(method, MlmPrompt)
        assert _arranged(method, ["He slept", "He woke."], tokenizer)[2] == word


def test_texts_are_cut_the_longer_one_first_and_never_the_mask(masked_bert: Path) -> None:
    ready = _ready(masked_bert)
    [method], tokenizer = ready.loop.methods, ready.loaded.tokenizer
    assert isinstance(method, MlmPrompt)
    texts = ["a b c d e f g h", "x y z"]  # four more tokens stand around and between
    cut = _arranged(method, texts, tokenizer, 12)
    assert cut == "[CLS] a b c d e [MASK] , x y z [SEP]".split()
    cut = _arranged(method, texts, tokenizer, 9)
    assert cut == "[CLS] a b c [MASK] , x y [SEP]".split()
    assert _arranged(method, ["a [MASK] b", ""], tokenizer)[1:5] == ["a", "[UNK]", "b", "[MASK]"]
    columns = [[text] for text in texts]
    arranged = method.arrange(columns, tokenizer, 15, lambda whole, room: range(room))
    assert arranged.truncated == [False]
    assert method.arrange(columns, tokenizer, 14, lambda *_: range(0)).truncated == [True]
    with pytest.raises(UserError, match=r"max_length=5: the template takes 4 tokens.*no room"):
        _arranged(method, texts, tokenizer, 5)


@pytest.mark.parametrize("truncate", ["head", "tail"])
def test_of_a_single_text_the_chosen_part_stays(masked_bert: Path, truncate: str) -> None:
    ready = _ready(
        masked_bert, "budget.max_length=20", f"budget.truncate={truncate}", task="cola",
    )  # fmt: skip
    column = ready.loop.collate.token_columns[0]
    whole = _ready(masked_bert, task="cola").loop.collate.token_columns[0]
    index = int(np.flatnonzero(column.truncated)[0])
    short, full = (
        c.input_ids[c.offsets[index] : c.offsets[index + 1]].tolist() for c in (column, whole)
    )
    behind = 8  # "t ##h ##i ##s is [MASK] . [SEP]"
    room = 20 - 1 - behind
    kept = full[1 : 1 + room] if truncate == "head" else full[-behind - room : -behind]
    assert short == [full[0], *kept, *full[-behind:]]


def _descended(official: bool) -> tuple[float, float]:
    """Return P(high) where the loss is lowest for q(high) = .8, and that loss."""
    reader = MaskReader([0, 1], 4, (0.0, 5.0), official)
    logits = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> float:
        optimizer.zero_grad()
        loss = reader.loss(logits, torch.tensor([4.0]))
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return logits.softmax(-1)[0, 1].item(), closure()


def test_where_the_losses_of_a_score_lead() -> None:
    chance, loss = _descended(official=False)
    assert chance == pytest.approx(0.8, abs=1e-4)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert _descended(official=True)[0] == pytest.approx(0.6457, abs=1e-4)


def test_a_score_is_read_from_two_words(masked_bert: Path) -> None:
    ready = _ready(masked_bert, task="stsb")
    model, batch = ready.loop.model.eval(), ready.loop.collate(np.arange(6))
    whole: Any = transformers.AutoModelForMaskedLM.from_pretrained(masked_bert).eval()
    tokenizer: Any = ready.loaded.tokenizer
    with torch.no_grad():
        ours = model(**batch)
        full = whole(**{k: v for k, v in batch.items() if k != "labels"}).logits
    ids = tokenizer.convert_tokens_to_ids(["a", "not"])
    chance = full[batch["input_ids"] == tokenizer.mask_token_id][:, ids].softmax(-1)[:, 1]
    assert torch.allclose(ours.logits, 5 * chance[:, None], atol=1e-5)
    losses = []
    for p, y in zip(chance.tolist(), batch["labels"].tolist(), strict=True):
        parts = ((y / 5, p), (1 - y / 5, 1 - p))
        losses.append(sum(q * (math.log(q) - math.log(r)) for q, r in parts if q))
    assert ours.loss.item() == pytest.approx(sum(losses) / 6, abs=1e-5)
    ready.loop.run(2)
    assert all(math.isfinite(loss) for loss in ready.loop.progress.losses)


def test_a_stage_of_masking_gives_an_encoder_its_head(
    cli: Cli, tiny_folder: Folder, tmp_path: Path
) -> None:
    out, folder = f"out={tmp_path / 'runs'}", tiny_folder("bert")
    with pytest.raises(UserError, match=r"holds no head that predicts .* task=mlm save=delta"):
        _ready(folder, task="sst2")
    assert cli(*tiny(folder, "task=mlm", "mlm.on=[sst2]", "save=delta", out)).code == 0
    [before] = read_all(tmp_path / "runs")
    start = f"start={before.run}"
    with pytest.raises(UserError, match="only a drawn head would train"):
        _ready(folder, start, "start.freeze=true", out, task="sst2")
    theirs = load_delta(tmp_path / "runs" / f"{before.run}.delta").loaded.model
    ready = _ready(folder, start, out, task="sst2")
    own = dict(ready.loop.model.named_parameters())
    assert {n for n, _ in theirs.named_parameters()} == set(own)
    assert all(torch.equal(p, own[n]) for n, p in theirs.named_parameters())
    then = tiny(folder, "task=sst2", "method=mlm_prompt", WORDS, start, out, "save=delta")
    assert cli(*then).code == 0
    [after] = [r for r in read_all(tmp_path / "runs") if r.task == "sst2"]
    assert after.weights["mlm_head"] == f"as start={before.run} left it"
    assert after.config["task"]["prompt"]["template"] == "{sentence} It was [MASK]."
    left = load_delta(tmp_path / "runs" / f"{after.run}.delta").loaded.model
    assert trained_sha256(left) == after.trained_sha256 != after.initial_sha256


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["method.mlm_prompt.words=[dull,warm,not]"], "3 words for 2 labels"),
        (["method.mlm_prompt.words=[dull,dull]"], "'dull' stands for two labels"),
        (["method.mlm_prompt.template='{sentence1} {sentence2}'"], r"has no masks: write \[MASK\]"),
        (["method.mlm_prompt.template='{sentence1} [MASK] [MASK]'"], r"has 2 masks"),
        (["method.mlm_prompt.template='{text} [MASK]'"], "names no column by {text}: known are"),
        (["method.mlm_prompt.template='{sentence1:upper} [MASK]'"], "asks for upper"),
        (["method.mlm_prompt.template='It was [MASK].'"], "holds no text"),
        (["task=mnli", "~task.prompt.words.neutral"], "no word for neutral: the task has 3"),
        (["task=stsb", "method.mlm_prompt.words=[a]"], "1 words for 2 ends of its range"),
        (["task=sick"], "task=sick has no template"),
        (["task=mlm", "mlm.on=[rte]"], "reads an answer at a mask of its own; task=mlm"),
        (["task=sts"], "task=sts compares vectors"),
        (["task=mix", "mix.of=[mrpc,rte]"], "task=mix is of kind multitask"),
        (["method=[linear,mlm_prompt]"], "linear and mlm_prompt both decide on the head"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    typed: list[str], said: str, masked_bert: Path
) -> None:
    with pytest.raises(UserError, match=said):
        configure(*tiny(masked_bert, "task=mrpc", "method=mlm_prompt", *typed))


def test_words_of_two_tokens_and_models_without_a_mask_are_refused(
    masked_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"'wonder' is not one token .*\(w ##o ##n"):
        _ready(masked_bert, "method.mlm_prompt.words=[the,wonder]")
    with pytest.raises(UserError, match="dp clips the squared error"):
        _ready(masked_bert, "method=[dp,mlm_prompt]", "method.dp.part=1", task="stsb")
    bare = tmp_path / "bare"
    transformers.AutoModelForMaskedLM.from_pretrained(masked_bert).save_pretrained(bare)
    tokenizer = transformers.AutoTokenizer.from_pretrained(masked_bert)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(bare)
    with pytest.raises(UserError, match="no mask token"):
        _ready(bare)
