"""LoRA, IA3, prefix and prompt tuning are peft's, put where the papers put them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import peft
import pytest
import scipy.stats
import torch
import transformers

from methods.full import Full
from methods.ia3 import Ia3
from methods.linear import Linear
from methods.ln_tuning import LnTuning
from methods.lora import Lora
from methods.method import Method
from methods.prefix import Prefix
from methods.prompt import Prompt
from results.errors import UserError
from runners.models.weights import find_weights
from tests.by_hand import HandBert
from tests.conftest import Cli, architectures, configure, tiny
from tests.shapes import BERT_BASE, BERT_LARGE, ROBERTA_BASE, added, counted, on_meta, setting_of
from tests.shapes import perturb_trained as perturb
from tests.tiny import tiny_batch, tiny_model

Folder = Callable[[str], Path]


@pytest.mark.parametrize(
    ("method", "base", "large"),
    [
        (Lora(), 294_912, 786_432),
        (Lora(rank=16), 589_824, 1_572_864),
        (Ia3(), 55_296, 24 * (1024 + 1024 + 4096)),
        (Prefix(), 184_320, 491_520),
        (Prefix(length=20), 368_640, 983_040),
        (Prefix(projection=True), 184_320, 491_520),
        (Prompt(), 7_680, 10_240),
        (LnTuning(), 38_400, 100_352),
        (Full(), 109_482_240, 335_141_888),
        (Linear(), 0, 0),
    ],
)
def test_counts_are_the_published_ones(method: Method, base: int, large: int) -> None:
    assert added(BERT_BASE, method) == base
    assert added(BERT_LARGE, method) == large


def test_head_and_training_only_parameters_are_counted_apart() -> None:
    assert counted(ROBERTA_BASE, Lora())["trainable"] == 887_042
    plain, projected = (counted(BERT_BASE, Prefix(projection=p)) for p in (False, True))
    assert plain["training_only"] == 0
    # Embedding 10 x 768, linear 768 x 512, linear 512 x 2 x 12 x 768, with biases.
    assert projected["training_only"] == 7_680 + 393_728 + 9_455_616
    assert {k: v for k, v in plain.items() if k != "training_only"} == {
        k: v for k, v in projected.items() if k != "training_only"
    }


def _prepared(method: Method, folder: Path) -> Any:
    model = tiny_model(folder)
    method.prepare(model, setting_of(model))
    return model


LORA_TARGETS = {
    "bert": "attention.self.(query|value)",
    "roberta": "attention.self.(query|value)",
    "electra": "attention.self.(query|value)",
    "deberta-v2": "attention.self.(query_proj|value_proj)",
    "albert": "attention.(query|value)",
    "distilbert": "attention.(q_lin|v_lin)",
    "modernbert": "attn.Wqkv",
    "mpnet": "attention.attn.(q|v)",
    "t5": "layer.(0.SelfAttention|1.EncDecAttention).(q|v)",
}


@pytest.mark.parametrize("architecture", architectures("t5"))
def test_lora_sits_on_queries_and_values_of_every_layer_only(
    architecture: str, tiny_folder: Folder
) -> None:
    import re

    if architecture == "xlnet":
        with pytest.raises(UserError, match="xlnet has its queries, keys and values from bare"):
            _prepared(Lora(), tiny_folder(architecture))
        return
    model = _prepared(Lora(), tiny_folder(architecture))
    names = {n.split(".lora_A")[0] for n, _ in model.named_parameters() if ".lora_A" in n}
    pattern = re.compile(rf".*\d+\.{LORA_TARGETS[architecture]}")
    assert all(pattern.fullmatch(n) for n in names)
    attentions = {"albert": 1, "t5": 6}.get(architecture, 2)  # T5's decoder has two in a layer
    assert len(names) == attentions * (1 if architecture == "modernbert" else 2)


def test_lora_trained_and_merged_by_hand_gives_the_same_logits(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model, batch = _prepared(Lora(rank=4, alpha=12), folder), tiny_batch(folder)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    tensors = dict(model.named_parameters())
    merged = tiny_model(folder)
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            base = name.removesuffix(".weight")
            if f"{base}.lora_A.default.weight" in tensors:
                low = (
                    tensors[f"{base}.lora_B.default.weight"]
                    @ tensors[f"{base}.lora_A.default.weight"]
                )
                assert low.any()
                parameter.add_(12 / 4 * low)
            else:
                before, _, last = name.rpartition(".")
                wrapped = f"{before}.base_layer.{last}"
                parameter.copy_(tensors[wrapped if wrapped in tensors else name])
        assert torch.allclose(merged(**batch).logits, model(**batch).logits, atol=1e-5)


def test_ia3_has_the_three_vectors_of_the_paper_in_each_layer(tiny_folder: Folder) -> None:
    model = _prepared(Ia3(), tiny_folder("bert"))
    sizes = {n: p.numel() for n, p in model.named_parameters() if "ia3" in n}
    layers = [f"bert.encoder.layer.{i}" for i in range(2)]
    assert sizes == {
        f"{layer}.{place}.ia3_l.default": size
        for layer in layers
        for place, size in (
            ("attention.self.key", 32),
            ("attention.self.value", 32),
            ("output.dense", 64),
        )
    }


def test_ia3_scales_keys_values_and_feed_forward_inputs(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model = _prepared(Ia3(), folder).double()
    perturb(model)
    hand = HandBert(model)

    def scales(layer: int, place: str) -> torch.Tensor:
        return hand.tensors[f"bert.encoder.layer.{layer}.{place}.ia3_l.default"].flatten()

    hand.projected = lambda layer, name, inputs, output: (
        output if name == "query" else output * scales(layer, f"attention.self.{name}")
    )
    layer_now = iter([0, 1])
    gelu = hand.activation
    hand.activation = lambda x: gelu(x) * scales(next(layer_now), "output.dense")
    batch = tiny_batch(folder)
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, hand.logits(batch), atol=1e-10)


@pytest.mark.parametrize("projection", [False, True])
def test_prefix_shifts_the_positions_of_real_tokens(projection: bool, tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    model = _prepared(Prefix(length=3, projection=projection, projection_size=16), folder).double()
    perturb(model)
    batch = tiny_batch(folder)
    hand = HandBert(model)
    with torch.no_grad():
        made = model.prompt_encoder().view(3, 4, 32)
        hand.prefix = [(made[:, 2 * i], made[:, 2 * i + 1]) for i in range(2)]
        hand.shift = 3
        ours = model(**batch).logits
        assert torch.allclose(ours, hand.logits(batch), atol=1e-10)
        hand.shift = 0
        assert not torch.allclose(ours, hand.logits(batch), atol=1e-4)


@pytest.mark.parametrize(("place", "at"), [("before", 0), ("after_cls", 1)])
def test_the_head_reads_the_first_vector_or_cls(
    place: Literal["before", "after_cls"], at: int, tiny_folder: Folder
) -> None:
    folder = tiny_folder("bert")
    model = _prepared(Prompt(length=3, place=place), folder).double()
    batch = tiny_batch(folder)
    hand = HandBert(model)
    words = hand.tensors["bert.embeddings.word_embeddings.weight"][batch["input_ids"]]
    prompt = hand.tensors["prompt_encoder.embedding.weight"].expand(len(words), -1, -1)
    longer = {
        "token_type_ids": torch.nn.functional.pad(batch["token_type_ids"], (3, 0)),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (3, 0), value=1),
    }
    with torch.no_grad():
        longer_words = torch.cat([words[:, :at], prompt, words[:, at:]], dim=1)
        expected = hand.from_words(longer_words, longer)
        assert torch.allclose(model(**batch).logits, expected, atol=1e-10)


@pytest.mark.real_data
def test_what_the_head_reads_under_prompt_is_worse_at_the_start(real_glue: Path) -> None:
    """Cosines of the states rank 200 pairs of STS-B: .9 without, .5 as peft places it."""
    lines = (real_glue / "STS-B" / "dev.tsv").read_text().splitlines()[1:201]
    pairs = [line.split("\t")[-3:] for line in lines]
    gold = [float(score) for *_, score in pairs]
    folder = find_weights(configure("task=rte").settings.model).folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def spearman(method: Prompt | None) -> float:
        model = tiny_model(folder)
        if method is not None:
            method.prepare(model, setting_of(model))
        read = []
        model.bert.register_forward_hook(lambda m, i, out: read.append(out.last_hidden_state[:, 0]))
        with torch.no_grad():
            for side in (0, 1):
                texts = [pair[side] for pair in pairs]
                model(**tokenizer(texts, padding=True, return_tensors="pt"))
        cosines = torch.nn.functional.cosine_similarity(*read).numpy()
        return float(scipy.stats.spearmanr(cosines, gold)[0])

    without, before, after = (spearman(m) for m in (None, Prompt(), Prompt(place="after_cls")))
    assert without > 0.85
    assert before < 0.6 < 0.8 < after < without


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra"])
@pytest.mark.parametrize(
    "method",
    [Lora(rank=4), Ia3(), Prefix(length=3), Prefix(length=3, projection=True), Prompt(length=3)],
    ids=lambda m: f"{m.name}{'-projection' if getattr(m, 'projection', False) else ''}",
)
def test_logits_equal_pefts_own_model(
    method: Method, architecture: str, tiny_folder: Folder
) -> None:
    """The same tensors in a PeftModel, which wraps the model where we use hooks."""
    folder = tiny_folder(architecture)
    ours, batch = _prepared(method, folder), tiny_batch(folder)
    perturb(ours)
    config = method.peft_config()
    theirs = peft.get_peft_model(tiny_model(folder), config).eval()
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if not parameter.requires_grad:
                continue
            short = name.removeprefix("base_model.").removeprefix("model.")
            short = short.replace("modules_to_save.default.", "")
            short = short.replace("prompt_encoder.default.", "prompt_encoder.")
            if short not in own:
                short = short.replace("prompt_encoder.", "prompt_encoder.made_by.")
            parameter.copy_(own[short])
        assert torch.allclose(ours(**batch).logits, theirs(**batch).logits, atol=1e-6)
        assert torch.allclose(ours(**batch).loss, theirs(**batch).loss, atol=1e-6)


def test_layer_norm_tuning_equals_pefts(tiny_folder: Folder) -> None:
    folder = tiny_folder("bert")
    batch = tiny_batch(folder)

    def train(model: Any, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
        for _ in range(5):
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits: torch.Tensor = model(**batch).logits
        return logits

    ours = _prepared(LnTuning(), folder)
    norms = [p for n, p in ours.named_parameters() if p.requires_grad and "LayerNorm" in n]
    start = ours(**batch).logits.detach()
    after = train(ours, norms)
    config = peft.LNTuningConfig(target_modules=["LayerNorm"])
    theirs = peft.get_peft_model(tiny_model(folder), config).eval()
    copies = [p for p in theirs.parameters() if p.requires_grad]
    assert not torch.allclose(after, start, atol=1e-3)
    assert torch.equal(after, train(theirs, copies))


@pytest.mark.parametrize("method", [Prefix(length=17), Prompt(length=17)])
def test_virtual_tokens_need_room_in_the_position_embeddings(
    method: Method, tiny_folder: Folder
) -> None:
    with pytest.raises(UserError, match=r"17 virtual tokens .* 64 positions .*max_length=47"):
        _prepared(method, tiny_folder("bert"))


def test_shifted_prefix_reaches_the_last_position(tiny_folder: Folder) -> None:
    folder = tiny_folder("roberta")
    model = _prepared(Prefix(length=16), folder)
    batch = {"input_ids": torch.full((1, 48), 7), "attention_mask": torch.ones(1, 48).long()}
    with torch.no_grad():
        assert torch.isfinite(model(**batch).logits).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["method=lora", "method.lora.rank=0"], ["method.lora.rank=0 (must be ≥ 1)"]),
        (["method=lora", "method.lora.dropout=1"], ["dropout=1", "must be < 1"]),
        (["method=lora", "method.lora.targets=queries"], ["targets='queries'", "query_value"]),
        (["method=prefix", "method.prefix.length=0"], ["length=0 (must be ≥ 1)"]),
        (["method=ia4"], ["no method called 'ia4'", "ia3"]),
    ],
)
def test_wrong_options_are_named(
    arguments: list[str], words: list[str], cli: Cli, tiny_folder: Folder
) -> None:
    done = cli(*tiny(tiny_folder("bert"), *arguments, "task=rte"))
    assert done.code == 2
    assert all(word in done.err for word in words), done.err


def test_meta_models_are_prepared_without_weights() -> None:
    model = on_meta(BERT_BASE)
    Lora().prepare(model, setting_of(model))
    assert sum(p.requires_grad for p in model.parameters()) == 12 * 2 * 2 + 2
