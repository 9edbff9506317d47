"""What MPNet, XLNet and T5 have that the others have not: sides, segments, ends, two stacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from methods.attention_pool import AttentionPool
from methods.ia3 import Ia3
from methods.llrd import Llrd
from methods.lora import Lora
from methods.neftune import Neftune
from methods.prompt import Prompt
from methods.smart import Smart
from methods.surgery.places import PLACES, layers, longest_text
from results.errors import UserError
from results.record import read_all
from runners.contract.parts import prepared
from runners.exports.delta import save_delta
from runners.jobs.job import Job
from runners.models.pretrained import load_model
from runners.models.weights import find_weights
from runners.speed.dropout import attention, keep_mask
from tests.conftest import Cli, configure, in_soak, tiny
from tests.shapes import setting_of
from tests.tiny import TEXTS, tiny_model

Folder = Callable[[str], Path]


def _loaded(folder: Path, task: str = "rte") -> Any:
    settings = configure(*tiny(folder, f"task={task}")).settings
    return load_model(find_weights(settings.model), settings.task, 0, 48, None)


def test_xlnet_is_given_its_segments_and_has_its_class_token_last(tiny_folder: Folder) -> None:
    """transformers 5 leaves them out by default, and the published model was trained with them."""
    folder = tiny_folder("xlnet")
    assert "token_type_ids" not in transformers.AutoTokenizer.from_pretrained(folder)("a", "b")
    loop, loaded = prepared(configure(*tiny(folder, "task=rte")))
    batch = loop.collate(np.arange(4))
    cls, sep = (loaded.tokenizer.convert_tokens_to_ids(t) for t in ("<cls>", "<sep>"))
    for ids, types, mask in zip(
        *(batch[n].tolist() for n in ("input_ids", "token_type_ids", "attention_mask")), strict=True
    ):
        assert (ids[-1], types[-1], mask[-1]) == (cls, 2, 1)
        first, start = ids.index(sep), mask.index(1)
        assert types[start : first + 1] == [0] * (first + 1 - start)
        assert types[first + 1 : -1] == [1] * (len(ids) - first - 2)
        assert mask == sorted(mask)
    model: Any = loop.model.eval()
    plain = {n: t for n, t in batch.items() if n != "token_type_ids"}
    assert not torch.allclose(model(**batch).logits, model(**plain).logits, atol=1e-4)
    assert model(**batch).mems is None


def test_a_tokenizer_that_pads_where_xlnets_head_reads_is_refused(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder("xlnet"), tmp_path / "model"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "padding_side": "right"}))
    done = cli(*tiny(folder, "task=rte"))
    assert done.code == 2
    assert "pads on the right, and of a xlnet model every text must be padded on the left" in (
        done.err
    )
    assert "Traceback" not in done.err


def test_a_tokenizer_whose_class_pads_on_the_left_is_refused_before_a_decoder(
    tiny_folder: Folder, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llama's does so, and no file says it; a text's answer then depended on its batch."""
    monkeypatch.setattr(transformers.T5Tokenizer, "padding_side", "left")
    done = cli(*tiny(tiny_folder("t5"), "task=rte"))
    assert done.code == 2
    assert "pads on the left, and of a t5 model every text must be padded on the right" in done.err


def test_a_text_that_holds_t5s_end_is_refused_by_its_row(
    tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    task = tmp_path / "own" / "task" / "mine.yaml"
    task.parent.mkdir(parents=True)
    task.write_text(
        "name: mine\nversion: 1\nkind: classification\ntext: [sentence]\nlabels: ['0', '1']\n"
        "metrics: [accuracy]\nlocal: {train: t.tsv, report: {validation: d.tsv}}\n"
    )
    rows = ["sentence\tlabel", *(f"{text}\t{i % 2}" for i, text in enumerate(TEXTS))]
    (tmp_path / "d.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "t.tsv").write_text("\n".join([*rows, "the </s> plot\t1"]) + "\n")
    given = [
        "--config-dir",
        str(tmp_path / "own"),
        "task=mine",
        "data=local",
        f"data.dir={tmp_path}",
        "budget=smoke",
        "device=cpu",
    ]
    done = cli(f"model.name_or_path={tiny_folder('t5')}", *given)
    assert done.code == 2
    assert "train: row 6 holds </s>, which this model reads as the end of a text" in done.err
    assert "Traceback" not in done.err
    assert cli(f"model.name_or_path={tiny_folder('xlnet')}", *given).code == 0


def test_t5_trains_encoder_and_decoder_and_reads_the_last_token(tiny_folder: Folder) -> None:
    """The head's input is the decoder's state where it is given the token before the end."""
    loop, loaded = prepared(configure(*tiny(tiny_folder("t5"), "task=rte", "budget.warmup=0")))
    model: Any = loop.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    loop.run(3)
    still = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert still == set()
    assert {n.split(".")[1] for n in before if n.startswith("transformer.")} == {
        *("shared", "encoder", "decoder")
    }
    assert loaded.head == {n for n in before if n.startswith("classification_head.")}
    batch = loop.collate(np.arange(3))
    given: list[torch.Tensor] = []
    model.classification_head.register_forward_hook(lambda m, inputs, out: given.append(inputs[0]))
    model.eval()
    with torch.no_grad():
        model(**batch)
        for row in range(3):
            ids = batch["input_ids"][row][batch["attention_mask"][row].bool()][None]
            start = torch.zeros_like(ids[:, :1])
            states = model.transformer(
                input_ids=ids, decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1)
            ).last_hidden_state
            assert torch.allclose(given[0][row], states[0, -1], atol=1e-5)


def test_a_gated_t5_has_its_second_matrix_among_its_places(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1}
    config = transformers.T5Config(
        vocab_size=50, num_heads=2, feed_forward_proj="gated-gelu", num_labels=2, **sizes
    )
    torch.manual_seed(0)
    model: Any = transformers.T5ForSequenceClassification(config)
    every = layers(model, "full")
    assert [layer.name for layer in every] == [
        f"transformer.{stack}.block.0" for stack in ("encoder", "decoder")
    ]
    for layer in every:
        for place in ("query", "expansion", "gate", "activation", "contraction", "attention"):
            assert isinstance(layer.at(place), nn.Module)
    Lora(targets="all_linear").prepare(model, setting_of(model))
    names = {n.split(".lora_A")[0].rpartition(".")[2] for n, _ in model.named_parameters()
             if ".lora_A" in n}  # fmt: skip
    assert names == {"q", "k", "v", "wi_0", "wi_1", "wo"}


def test_ia3_of_t5_rescales_the_papers_vectors(tiny_folder: Folder) -> None:
    """Keys, values and feed-forward in each layer, and keys and values of the attention across."""
    model = tiny_model(tiny_folder("t5"))
    Ia3().prepare(model, setting_of(model))
    sizes = [p.numel() for n, p in model.named_parameters() if ".ia3_l" in n]
    assert sorted(sizes) == sorted(2 * [32, 32, 64, 32, 32, 32, 32, 64])


@pytest.mark.parametrize(
    ("architecture", "powers"),
    [
        ("mpnet", {"encoder.layer.0": 1, "encoder.layer.1": 0, "embeddings": 2, "encoder.rel": 2}),
        ("xlnet", {"layer.0": 1, "layer.1": 0, "word_embedding": 2}),
        ("t5", {"encoder.block.0": 3, "encoder.block.1": 2, "decoder.block.0": 1, "shared": 4}),
    ],
)
def test_rates_fall_from_the_head_down_to_the_words(
    architecture: str, powers: dict[str, int], tiny_folder: Folder
) -> None:
    model = tiny_model(tiny_folder(architecture))
    method = Llrd(decay=0.5)
    method.prepare(model, setting_of(model))
    groups = [{"params": list(model.parameters()), "lr": 1.0, "weight_decay": 0.0}]
    rate = {id(p): g["lr"] for g in method.parameter_groups(model, groups) for p in g["params"]}
    prefix = f"{model.base_model_prefix}."
    for part, power in powers.items():
        own = [p for n, p in model.named_parameters() if n.startswith(f"{prefix}{part}")]
        assert own
        assert {rate[id(p)] for p in own} == {0.5**power}, part


def test_xlnets_prompt_stands_behind_the_padding(tiny_folder: Folder) -> None:
    """A text alone, with its prompt written before it, has the answer that it has in a batch."""
    loaded = _loaded(tiny_folder("xlnet"))
    model, batch = loaded.model.eval(), loaded.tokenizer(TEXTS, padding=True, return_tensors="pt")
    setting = setting_of(model)
    setting = type(setting)(**{**vars(setting), "tokenizer": loaded.tokenizer})
    method = Prompt(length=3)
    plain = _loaded(tiny_folder("xlnet")).model.eval()
    method.prepare(model, setting)
    vectors = model.prompt_encoder.embedding.weight
    with torch.no_grad():
        together = model(**batch).logits
        for row, mask in enumerate(batch["attention_mask"].bool()):
            words = plain.transformer.word_embedding(batch["input_ids"][row][mask])
            types = batch["token_type_ids"][row][mask]
            alone = plain(
                inputs_embeds=torch.cat([vectors, words])[None],
                token_type_ids=torch.cat([types.new_zeros(3), types])[None],
            ).logits
            assert torch.allclose(alone[0], together[row], atol=1e-5)
    assert method.peft_config() is None  # peft puts them before the padding
    with pytest.raises(UserError, match="xlnet has its class token at the end"):
        Prompt(place="after_cls").prepare(plain, setting)


def test_freelb_moves_each_text_of_xlnet_by_its_own_gradient(tiny_folder: Folder) -> None:
    """Its word embedding is given places first, and what a text is moved by is one text's."""
    loop, _ = prepared(
        configure(*tiny(tiny_folder("xlnet"), "method=freelb", "method.freelb.start=0.5"))
    )
    [method] = loop.methods
    moved: list[torch.Tensor] = []
    plain = method.moved
    method.moved = lambda delta, g: moved.append(plain(delta, g)) or moved[-1]  # type: ignore[attr-defined,func-returns-value]
    batch = loop.collate(np.arange(5))
    loop.model.train()
    first: list[torch.Tensor] = []
    begin = method._first  # type: ignore[attr-defined]
    method._first = lambda words, mask: first.append(begin(words, mask)) or first[-1]  # type: ignore[attr-defined,func-returns-value]
    method.loss(loop.model, batch, loop.forward)
    assert first[0].shape == (*batch["input_ids"].shape, 32)
    assert not first[0][batch["attention_mask"] == 0].any()
    assert first[0][batch["attention_mask"] == 1].any(dim=-1).all()
    steps = (moved[0] - first[0]).flatten(1).norm(dim=1)
    assert torch.allclose(steps, torch.full((5,), 0.1), atol=1e-6)


def test_words_that_are_read_twice_are_refused_in_one_sentence(tiny_folder: Folder) -> None:
    model = tiny_model(tiny_folder("t5"))
    with pytest.raises(UserError, match="method=smart: t5 reads a text twice") as refused:
        Smart().prepare(model, setting_of(model))
    assert "\n" not in str(refused.value)


def test_relative_positions_have_no_longest_text(tiny_folder: Folder) -> None:
    for architecture, limit in (("xlnet", None), ("t5", None), ("mpnet", 64)):
        assert longest_text(tiny_model(tiny_folder(architecture))) == limit


@pytest.mark.parametrize("causal", [True, False])
def test_attention_with_a_bias_of_positions_is_a_slow_loop_of_it(causal: bool) -> None:
    """Each head of each example by itself in float64, no look ahead where there is none."""
    torch.manual_seed(5)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    bias, module = torch.randn(1, 3, 5, 5), nn.Module()
    module.is_causal = causal  # type: ignore[assignment]
    torch.manual_seed(6)
    got, _ = attention(module, query, key, value, None, 0.2, 1.0, position_bias=bias)
    torch.manual_seed(6)
    mask = keep_mask(torch.Size((2, 3, 5, 5)), 0.2, torch.float64)
    for b in range(2):
        for h in range(3):
            q, k, v = query[b, h].double(), key[b, h].double(), value[b, h].double()
            for i in range(5):
                seen = i + 1 if causal else 5
                weights = torch.exp(k[:seen] @ q[i] + bias[0, h, i, :seen].double())
                weights = weights / weights.sum() * mask[b, h, i, :seen]
                assert torch.allclose(got[b, i, h].double(), weights @ v[:seen], atol=1e-6)
    module.eval()
    plain, _ = attention(module, query, key, value, None, 0.0, 1.0, position_bias=bias)
    torch.manual_seed(6)
    barely, _ = attention(module, query, key, value, None, 1e-4, 1.0, position_bias=bias)
    assert torch.allclose(plain, barely, atol=1e-2)


@pytest.mark.parametrize(
    "architecture", ["t5", *(pytest.param(a, marks=in_soak) for a in ("mpnet", "xlnet"))]
)
def test_a_run_is_kept_scored_again_and_answers_new_rows(
    architecture: str, tiny_folder: Folder, cli: Cli, tmp_path: Path
) -> None:
    given = tiny(tiny_folder(architecture), "task=sst2", "save=delta", "method=topk")
    done = cli(*given, "method.topk.layers=1")
    assert done.code == 0, done.err
    [record] = read_all(tmp_path / "runs")
    delta = tmp_path / "runs" / f"{record.run}.delta"
    again = cli(f"eval={delta}", "device=cpu")
    assert again.code == 0, again.err
    (tmp_path / "rows.csv").write_text("\n".join(["sentence", *TEXTS[:4]]) + "\n")
    out = tmp_path / "answers.csv"
    done = cli(f"predict={delta}", f"text={tmp_path / 'rows.csv'}", f"out={out}", "device=cpu")
    assert done.code == 0, done.err
    assert len(out.read_text().splitlines()) == 5


def test_peft_itself_reads_what_was_trained_of_t5(tiny_folder: Folder, tmp_path: Path) -> None:
    """Its head, and vectors in both stacks, under the names that peft gives them."""
    from peft import PeftModel

    config = configure(*tiny(tiny_folder("t5"), "method=ia3", "task=rte", "budget.warmup=0"))
    loop, loaded = prepared(config)
    loop.run(3)
    save_delta(tmp_path / "delta", loop.model, loaded.head, Job(config))
    batch = {n: t for n, t in loop.collate(np.arange(4)).items() if n != "labels"}
    base = tiny_model(tiny_folder("t5"))
    theirs: Any = PeftModel.from_pretrained(base, tmp_path / "delta").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(**batch).logits, loop.model.eval()(**batch).logits, atol=1e-5)


@pytest.mark.parametrize("kind", PLACES)
def test_every_model_type_that_is_named_has_its_places(kind: str) -> None:
    """In a model of two layers, and two of a decoder, built without storage."""
    config = transformers.AutoConfig.for_model(kind)
    config.num_hidden_layers = config.num_decoder_layers = 2
    if kind == "deberta-v2":  # as its larger models
        config.relative_attention, config.norm_rel_ebd = True, "layer_norm"
        config.conv_kernel_size = 3
    with torch.device("meta"):
        model: Any = transformers.AutoModelForSequenceClassification.from_config(config)
    every = layers(model, "full")
    assert len(every) == {"t5": 4, "albert": 1}.get(kind, 2)
    for layer in every:
        for place, name in vars(layer.places).items():
            if name is not None and place not in ("layers", "embeddings", "below"):
                assert isinstance(layer.at(place), nn.Module), place
    for name in every[0].places.below:
        assert isinstance(model.base_model.get_submodule(name), nn.Module), name
    words = f"{model.base_model_prefix}.{every[0].places.embeddings}"
    assert any(n.startswith(words) for n, _ in model.named_parameters())
    assert isinstance(model.get_submodule(words), nn.Module)


def test_another_model_type_is_refused_in_a_line_with_those_that_are_known() -> None:
    config = transformers.AutoConfig.for_model("gpt2", n_layer=1)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UserError, match="not known where a gpt2 model has its layers") as refused:
        layers(model, "adapter")
    assert f"known are {', '.join(PLACES)}; use method=" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_neftune_moves_the_words_of_each_text_of_xlnet_by_its_length(tiny_folder: Folder) -> None:
    """At most α / √(tokens · width), and padding by nothing; T5's words are read twice."""
    loop, _ = prepared(configure(*tiny(tiny_folder("xlnet"), "method=neftune")))
    [method] = loop.methods
    batch = loop.collate(np.arange(5))
    ids = batch["input_ids"]
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1
    embedding: Any = loop.model.get_input_embeddings().train()
    method.mask = batch["attention_mask"]  # type: ignore[attr-defined]
    with torch.no_grad():
        words = nn.functional.embedding(ids, embedding.weight)
        noise = method._add(embedding, (ids.T,), words.transpose(0, 1)).transpose(0, 1) - words  # type: ignore[attr-defined]
    for row, mask in enumerate(batch["attention_mask"].bool()):
        bound = 5.0 / (int(mask.sum()) * 32) ** 0.5
        assert 0.8 * bound < float(noise[row][mask].abs().max()) < bound * 1.001
        assert not noise[row][~mask].any()
    model = tiny_model(tiny_folder("t5"))
    with pytest.raises(UserError, match="method=neftune: t5 reads a text twice"):
        Neftune().prepare(model, setting_of(model))


def test_attention_pool_stands_where_xlnets_head_reads(tiny_folder: Folder) -> None:
    """By a query it starts as the mean of all tokens' states, padding left out."""
    loaded = _loaded(tiny_folder("xlnet"))
    model, batch = loaded.model.eval(), loaded.tokenizer(TEXTS, padding=True, return_tensors="pt")
    given: list[torch.Tensor] = []
    model.sequence_summary.register_forward_hook(lambda m, inputs, out: given.append(inputs[0]))
    with torch.no_grad():
        model(**batch)
        AttentionPool(pooling="query").prepare(model, setting_of(model))
        model(**batch)
    mask = batch["attention_mask"][..., None]
    mean = (given[0] * mask).sum(1) / mask.sum(1)
    assert torch.allclose(given[1][:, -1], mean, atol=1e-5)
    assert torch.equal(given[1][:, :-1], given[0][:, :-1])
    other = tiny_model(tiny_folder("t5"))
    with pytest.raises(UserError, match="t5 has its head read where each text ends"):
        AttentionPool().prepare(other, setting_of(other))


@pytest.mark.parametrize("architecture", ["xlnet", "t5"])
def test_descriptions_are_not_read_at_a_class_token_that_is_not_there(
    architecture: str, tiny_folder: Folder
) -> None:
    given = tiny(tiny_folder(architecture), "method=description_cosine", "task=sst2")
    with pytest.raises(UserError, match=f"{architecture} has no class token before a text"):
        prepared(configure(*given, "method.description_cosine.pooling=cls"))
