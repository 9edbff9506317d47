"""PromptBERT and SimCSE against transformers' own encoders, strings and plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from methods.embedding import unbiased, with_period
from methods.method import Batch
from methods.promptbert import BERT, Promptbert
from methods.simcse import Simcse
from methods.surgery import mlm_head
from methods.surgery.sentences import bare, contrastive, read_template, template_states, wrap
from results.errors import UserError
from runners.models.weights import find_weights
from runners.training.loop import Loop
from tests.conftest import Cli, architectures, configure, tiny
from tests.methods.reference import prepared

Folder = Callable[[str], Path]
LONG = "the film is not bad at all and the music is warm"


@pytest.fixture(scope="module")
def minilm() -> Any:
    """Return the packaged tokenizer, whose vocabulary is bert-base-uncased's."""
    weights = find_weights(configure("task=rte").settings.model)
    return transformers.AutoTokenizer.from_pretrained(weights.folder)


def test_the_authors_templates_have_their_ids(minilm: Any) -> None:
    for text, third in zip(BERT, (1997, 1024), strict=True):
        template = read_template(text, minilm, "promptbert", "template")
        assert template.before == (101, 2023, 6251, third, 1000)
        assert template.after == (1000, 2965, 103, 1012, 102)
        assert (template.length, template.mask) == (10, -3)


@pytest.mark.parametrize("sentence", ["A man's dog, asleep.", "Is it?", "x", "12 % of “these”"])
def test_parts_put_together_are_the_tokens_of_the_whole_string(sentence: str, minilm: Any) -> None:
    template = read_template(BERT[0], minilm, "promptbert", "template")
    ids = torch.tensor([minilm(template.lead + sentence, add_special_tokens=False)["input_ids"]])
    wrapped = wrap(ids, torch.tensor([ids.shape[1]]), template, 0)
    whole = minilm(f'This sentence of "{sentence}" means [MASK].')["input_ids"]
    assert wrapped.ids[0].tolist() == whole
    assert wrapped.mask is not None
    assert whole[wrapped.mask[0]] == minilm.mask_token_id


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("This means [MASK].", r"no slot for the sentence: write \[X\] once"),
        ("[X] means it.", r"no mask: write \[MASK\] once"),
        ("[X] or [X] means [MASK].", "2 times a slot"),
        ("[X] [MASK] means [MASK].", "2 times a mask"),
    ],
)
def test_template_without_a_part_or_with_two_is_refused(
    text: str, sentence: str, minilm: Any
) -> None:
    with pytest.raises(UserError, match=sentence):
        read_template(text, minilm, "promptbert", "template")


def test_tokenizer_without_a_mask_is_refused(tiny_folder: Folder) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder("bert"))
    tokenizer.mask_token = None
    with pytest.raises(UserError, match="no mask token"):
        read_template("[X] is [MASK].", tokenizer, "promptbert", "template")


def _encoder(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder).double().eval()


def _whole_and_hidden(tokenizer: Any, text: str, words: str) -> tuple[Batch, int]:
    """Tokenise a template's whole string, hide the sentence from attention, find the mask."""
    around = tokenizer(text.replace("[X]", "").replace("[MASK]", tokenizer.mask_token))
    whole = tokenizer(text.replace("[X]", words).replace("[MASK]", tokenizer.mask_token))
    ids = whole["input_ids"]
    before = tokenizer(text.split("[X]")[0], return_special_tokens_mask=True)
    special = before["special_tokens_mask"]
    start = len(special) - special[::-1].index(0)
    span = len(ids) - len(around["input_ids"])
    attention = torch.ones(1, len(ids), dtype=torch.long)
    attention[0, start : start + span] = 0
    return {"input_ids": torch.tensor([ids]), "attention_mask": attention}, ids.index(
        tokenizer.mask_token_id
    )


@pytest.mark.parametrize("architecture", architectures("xlnet", without=["deberta-v2", "t5"]))
@pytest.mark.parametrize("words", ["", "dull", LONG])
def test_templates_share_is_the_state_with_the_sentence_hidden(
    architecture: str, words: str, tiny_folder: Folder
) -> None:
    """The oracle: the full input, whose sentence no token attends to (1e-6, float64)."""
    folder, text = tiny_folder(architecture), "the plot [X] is [MASK] ."
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = _encoder(folder)
    whole, place = _whole_and_hidden(tokenizer, text, words)
    template = read_template(text, tokenizer, "promptbert", "template")
    length = torch.tensor([whole["input_ids"].shape[1] - template.length, 3])
    with torch.no_grad():
        expected = encoder(**whole).last_hidden_state[0, place]
        share = template_states(encoder, template, length)[0]
        hidden = template_states(encoder, template, length, hidden_sentence=True)[0]
        assert torch.allclose(share, expected, atol=1e-6)
        assert torch.allclose(hidden, expected, atol=1e-6)
        if architecture == "roberta":  # the authors' positions, from 0
            shifted = template_states(encoder, template, length, offset=0)[0]
            assert not torch.allclose(shifted, expected, atol=1e-3)
        if words and architecture == "bert":
            still = template_states(encoder, template, length, shift=False)[0]
            assert not torch.allclose(still, expected, atol=1e-3)


def test_a_template_that_begins_with_the_sentence_has_its_share_where_nothing_is_before(
    tiny_folder: Folder,
) -> None:
    """XLNet's class token is the last; whatever stands for the sentence is not seen."""
    folder = tiny_folder("xlnet")
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    encoder = _encoder(folder)
    template = read_template("[X] is [MASK] .", tokenizer, "promptbert", "template")
    assert template.before == ()
    assert template.types
    lengths = torch.tensor([4, 0, 2])
    with torch.no_grad():
        shares = template_states(encoder, template, lengths)
        for share, length in zip(shares, lengths.tolist(), strict=True):
            ids = torch.tensor([[*range(20, 20 + length), *template.after]])
            attention = torch.ones_like(ids)
            attention[0, :length] = 0
            types = torch.tensor([[0] * length + [*template.types]])
            states = encoder(input_ids=ids, attention_mask=attention, token_type_ids=types)
            place = ids[0].tolist().index(tokenizer.mask_token_id)
            expected = states.last_hidden_state[0, place]
            assert torch.allclose(share, expected, atol=1e-6)


def test_an_empty_sentence_leaves_nothing(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = _encoder(folder)
    template = read_template("the [X] is [MASK]", tokenizer, "promptbert", "template")
    none = torch.tensor([0])
    wrapped = wrap(torch.zeros(1, 0, dtype=torch.long), none, template, 0)
    with torch.no_grad():
        found = encoder(input_ids=wrapped.ids, attention_mask=wrapped.attention)
        assert wrapped.mask is not None
        state = found.last_hidden_state[0, wrapped.mask[0]]
        assert torch.allclose(state - template_states(encoder, template, none)[0], 0 * state)


def _texts(tokenizer: Any, batch: Batch) -> list[str]:
    """Return the sentences of a raw batch as text again."""
    rows = zip(batch["input_ids"], batch["attention_mask"].sum(1).tolist(), strict=True)
    pieces = [tokenizer.convert_ids_to_tokens(ids[:n]) for ids, n in rows]
    return [" ".join(row).replace(" ##", "") for row in pieces]


def _slow_loss(u: Any, v: Any, w: Any = None, temperature: float = 0.05) -> Any:
    """Return the contrastive loss by a loop over i and j."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(u)):
        others = [*v, *(w if w is not None else [])]
        values = torch.stack([(u[i] @ o) / u[i].norm() / o.norm() / temperature for o in others])
        total = total + torch.logsumexp(values, 0) - values[i]
    return total / len(u)


@pytest.mark.parametrize("hard", [False, True])
def test_loss_equals_the_loop_and_knows_no_lengths(hard: bool) -> None:
    u, v, w = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)).double()
    more = [w] if hard else []
    loss = contrastive(u, v, 0.05, *more)[0]
    assert torch.allclose(loss, _slow_loss(u, v, *more), atol=1e-12)
    assert torch.allclose(loss, contrastive(3 * u, v * 0.2, 0.05, *more)[0], atol=1e-12)
    same = [torch.ones(5, 4).double()] * (3 if hard else 2)
    equal = contrastive(same[0], same[1], 0.05, *same[2:])[0].item()
    assert equal == pytest.approx(math.log(10 if hard else 5))


def _by_hand(loop: Loop, folder: Path, rows: list[list[str]], hard: bool) -> Any:
    """Return PromptBERT's loss from strings, transformers' encoder, hidden sentences and a loop."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = loop.model.base_model
    head: Any = loop.model.projection

    def view(sentence: str, text: str) -> Any:
        full = tokenizer(text.replace("[X]", sentence), return_tensors="pt")["input_ids"]
        hidden, place = _whole_and_hidden(tokenizer, text, sentence)
        state = encoder(input_ids=full).last_hidden_state[0, place]
        share = encoder(**hidden).last_hidden_state[0, place]
        return torch.tanh(head.dense.weight @ (state - share) + head.dense.bias)

    texts = (BERT[0], BERT[0], BERT[0]) if len(rows) > 1 else BERT
    columns = rows if len(rows) > 1 else [rows[0], rows[0]]
    views = [
        torch.stack([view(sentence, text) for sentence in column])
        for column, text in zip(columns, texts, strict=False)
    ]
    return _slow_loss(*views)


@pytest.mark.parametrize("mode", ["unsupervised", "supervised"])
def test_promptberts_loss_and_gradients_equal_an_independent_computation(
    mode: str, tiny_folder: Folder
) -> None:
    """Both in float64, without dropout; 1e-9."""
    folder = tiny_folder("bert")
    options = [f"method.promptbert.mode={mode}", "budget.dropout=0.0"]
    loop, loaded = prepared(folder, "method=promptbert", *options, task="sts")
    loop.model.double()
    batch = loop.collate(next(iter(loop.order.batches(0, 1))))
    texts = _texts(loaded.tokenizer, batch)
    count = 1 if mode == "unsupervised" else 3
    rows = [texts[i * len(texts) // count : (i + 1) * len(texts) // count] for i in range(count)]
    names = [n for n, p in loop.model.named_parameters() if p.requires_grad]
    found = []
    for loss in (loop.forward(batch).loss, _by_hand(loop, folder, rows, count == 3)):
        loop.model.zero_grad()
        loss.backward()
        parameters = dict(loop.model.named_parameters())
        gradients = {n: parameters[n].grad for n in names}
        found.append((loss.item(), {n: g.clone() for n, g in gradients.items() if g is not None}))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-9)
    assert set(found[0][1]) == set(found[1][1])
    moving = [n for n, g in found[0][1].items() if g.abs().max() > 1e-6]
    assert len(moving) > 20
    for name, gradient in found[0][1].items():
        assert torch.allclose(gradient, found[1][1][name], atol=1e-9), name


def test_gradients_flow_through_the_templates_share(tiny_folder: Folder) -> None:
    found = []
    for denoise in ("attached", "detached", "off"):
        options = [f"method.promptbert.denoise={denoise}", "budget.dropout=0.0"]
        loop, _ = prepared(tiny_folder("bert"), "method=promptbert", *options, task="sts")
        batch = loop.collate(next(iter(loop.order.batches(0, 1))))
        loss = loop.forward(batch).loss
        loss.backward()
        weight = loop.model.get_submodule("bert.embeddings.position_embeddings").weight
        found.append((loss.item(), weight.grad.clone()))  # type: ignore[union-attr, operator]
    assert found[0][0] == found[1][0] != found[2][0]
    assert not torch.allclose(found[0][1], found[1][1], atol=1e-6)


def test_vectors_that_were_trained_whole_are_read_whole(tiny_folder: Folder) -> None:
    vectors, versions = {}, {}
    for options in (
        "denoise=off",
        "denoise=off denoise_eval=false",
        "denoise=off denoise_eval=true",
    ):
        typed = ["mode=supervised", *options.split()]
        given = ["method=promptbert", *(f"method.promptbert.{option}" for option in typed)]
        loop, _ = prepared(tiny_folder("bert"), *given, task="sts")
        [method] = loop.methods
        loop.model.eval()
        batch = loop.collate(next(iter(loop.order.batches(0, 1))))
        with torch.no_grad():
            vectors[options] = method.vectors(loop.model, batch)  # type: ignore[attr-defined]
        [said] = configure("task=sts", *given).method_options()
        versions[options] = said["version"]
    auto, whole, denoised = vectors.values()
    assert torch.equal(auto, whole)
    assert not torch.allclose(auto, denoised, atol=1e-4)
    assert [*versions.values()] == [2, 2, 1]  # false is what auto means there


def test_simcse_passes_a_sentence_twice_under_two_masks(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    loop, _ = prepared(folder, "method=simcse", task="sts")
    loop.model.train()
    batch = loop.collate(next(iter(loop.order.batches(0, 1))))
    torch.manual_seed(5)
    ours = loop.forward(batch).loss
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    around, head = bare(tokenizer), loop.model.projection
    texts = _texts(tokenizer, batch)
    assert (around.before, around.after) == ((2,), (3,))
    whole = tokenizer(texts * 2, padding=True, return_tensors="pt")
    torch.manual_seed(5)
    states = loop.model.base_model(
        input_ids=whole["input_ids"], attention_mask=whole["attention_mask"]
    ).last_hidden_state[:, 0]
    vectors = head(states).double().chunk(2)  # type: ignore[operator]
    assert ours.item() == pytest.approx(_slow_loss(*vectors).item(), abs=1e-5)


def test_simcse_without_dropout_is_refused(tiny_folder: Folder) -> None:
    loop, _ = prepared(tiny_folder("bert"), "method=simcse", "budget.dropout=0.0", task="sts")
    with pytest.raises(UserError, match="the two passes of a sentence are equal"):
        loop.run(1)


def test_head_serves_training_only_unless_kept(tiny_folder: Folder) -> None:
    """Unsupervised vectors are plain states; supervised ones, without the share, pass the head."""
    for mode, kept in (("unsupervised", False), ("supervised", True)):
        options = [f"method.promptbert.mode={mode}"]
        loop, _ = prepared(tiny_folder("bert"), "method=promptbert", *options, task="sts")
        [method] = loop.methods
        assert isinstance(method, Promptbert)
        assert (method.keeps_head, method.subtracts) == (kept, kept)
        batch = loop.collate(next(iter(loop.order.batches(0, 1))))
        loop.model.eval()
        with torch.no_grad():
            lengths = batch["attention_mask"].sum(1)
            template = method.templates[0]
            wrapped = wrap(batch["input_ids"], lengths, template, 0)
            found = loop.model(input_ids=wrapped.ids, attention_mask=wrapped.attention)
            assert wrapped.mask is not None
            states = found.last_hidden_state[range(len(lengths)), wrapped.mask]
            if kept:
                states = states - template_states(loop.model, template, lengths)
                states = torch.tanh(loop.model.projection.dense(states))  # type: ignore[union-attr, operator]
            assert torch.equal(method.vectors(loop.model, batch), states)


def test_supervised_bert_takes_the_checkpoints_transform(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    folder = tiny_folder("bert")
    loop, _ = prepared(folder, "method=promptbert", "method.promptbert.mode=supervised", task="sts")
    assert "projection.dense.weight" in dict(loop.model.named_parameters())
    assert not mlm_head.has_one([folder / "model.safetensors"])
    with pytest.raises(UserError, match="holds no masked-language-model head"):
        prepared(folder, "method=promptbert", "method.promptbert.head=mlm", task="sts")
    masked = transformers.AutoModelForMaskedLM.from_config(loop.model.config)
    kept = {n: t for n, t in masked.state_dict().items() if n.startswith(mlm_head.PREFIX)}
    save_file({n: t.contiguous() for n, t in kept.items()}, tmp_path / "model.safetensors")
    x = torch.randn(3, 32)
    ours = mlm_head.load(loop.model.config, [tmp_path / "model.safetensors"])
    assert torch.equal(ours(x), masked.cls.predictions.transform(x))


def test_period_and_unbiased_words(minilm: Any) -> None:
    assert [with_period(s) for s in ("Go", "Go.", "Go!", "Go?", "'Go'")] == [
        *("Go.", "Go.", "Go!.", "Go?", "'Go'")
    ]
    assert unbiased("The man, unquestionably, is playing chess.", minilm) == "un chess"
    assert unbiased("is a , the", minilm) == "[PAD]"


@pytest.mark.parametrize("other", ["rdrop", "smart", "sift", "linear", "prompt"])
@pytest.mark.parametrize("method", ["promptbert", "simcse"])
def test_what_cannot_meet_is_refused_by_name(method: str, other: str, tiny_folder: Folder) -> None:
    with pytest.raises(UserError, match=f"{other} and {method} both"):
        configure(f"method=[{other},{method}]", "task=sts")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["method=full", "task=sts"], "add one of embedding, promptbert, simcse"),
        (["method=simcse", "task=rte"], "task=rte has labels: use task=sts"),
        (["method=[hype,embedding]", "task=sts"], "embedding trains nothing"),
        (["method=[embedding,simcse]", "task=sts"], "embedding trains nothing"),
        (["method=full", "task=rte", "save=sentence-transformers"], "is for task=sts"),
    ],
)
def test_task_and_method_must_fit(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configure(*arguments)


def test_template_that_leaves_no_room_is_refused(tiny_folder: Folder, cli: Cli) -> None:
    done = cli(*tiny(tiny_folder("bert"), "method=promptbert", "task=sts", "budget.max_length=8"))
    assert done.code == 2
    assert "tokens around a sentence; give it more" in done.err


def test_modes_train_on_what_they_say() -> None:
    assert Simcse().training_text == Promptbert().training_text == "sentences"
    assert Simcse(mode="supervised").training_text == "triplets"
    assert Promptbert(mode="supervised", hard_negatives=False).training_text == "pairs"
