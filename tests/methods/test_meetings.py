"""Methods that were made apart meet in one run: each still does what it says, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.method import Method
from methods.registry import default_options, registered
from methods.surgery import places
from methods.surgery.passes import is_clean_pass
from results.errors import UserError
from runners.config.check import check
from runners.contract.parts import composed, prepared
from runners.jobs.job import Job
from runners.models.build import apply_methods, load_pretrained
from tests.conftest import configure, narrow, task_of, tiny

Folder = Callable[[str], Path]


def _name(*arguments: str) -> str:
    return Job(configure("data=embedded", *arguments)).name


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("task=sst2 method=mlm_prompt", "task.prompt.template='{sentence} All in all [MASK].'"),
        ("task=sst2 method=mlm_prompt", "task.prompt.words.negative=bad"),
        ("task=sst2 method=description_cosine", "task.descriptions.negative=bad"),
        ("task=stsb method=mlm_prompt", "task.range=[0,10]"),
        ("task=tastes method=[attributes,mlm_prompt]", "task.prompt.words.praise=warm"),
        ("task=tastes method=description_cosine", "task.descriptions.praise=good"),
        ("task=rte method=lily", "budget.eval_batch_size=3"),
    ],
)
def test_what_decides_an_answer_is_in_a_runs_name(plain: str, other: str) -> None:
    assert _name(*plain.split()) != _name(*plain.split(), other)
    unread = ["task=" + plain.split()[0][5:], "method=bitfit"]
    if "range" not in other:  # a mistyped range is of labels
        assert _name(*unread) == _name(*unread, other)


@pytest.mark.parametrize(
    ("said", "other", "apart"),
    [
        ("head_layers.layers=[-2,-1]", "head_layers.layers=[-1,-2]", "head_layers.layers=[-2]"),
        ("bitfit.layers=[0,1]", "bitfit.layers=[1,0,0]", "bitfit.layers=[0]"),
        ("adapter.size=8", "adapter.size=8 adapter.layer_norms=true", "adapter.layer_norms=false"),
        (
            "adapter.placement=parallel",
            "adapter.placement=parallel adapter.layer_norms=false",
            "adapter.placement=parallel adapter.layer_norms=true",
        ),
        ("dp.epsilon=8", "dp.clip=0.1", "dp.epsilon=3"),  # with neither ε nor noise
        ("simcse.mode=unsupervised", "simcse.keep_head=false", "simcse.keep_head=true"),
        (
            "simcse.mode=supervised",
            "simcse.mode=supervised simcse.keep_head=true",
            "simcse.mode=supervised simcse.keep_head=false",
        ),
        (
            "promptbert.mode=unsupervised",
            "promptbert.keep_head=false promptbert.denoise_eval=false promptbert.head=mlp",
            "promptbert.denoise_eval=true",
        ),
        (
            "promptbert.mode=supervised",
            "promptbert.mode=supervised promptbert.keep_head=true promptbert.denoise_eval=true",
            "promptbert.mode=supervised promptbert.head=mlp",  # as the checkpoint says
        ),
        (
            "promptbert.mode=supervised promptbert.denoise=off",
            "promptbert.mode=supervised promptbert.denoise=off promptbert.denoise_eval=false",
            "promptbert.mode=supervised promptbert.denoise=off promptbert.denoise_eval=true",
        ),
    ],
)
def test_a_run_said_in_other_words_has_the_same_name(said: str, other: str, apart: str) -> None:
    """A stored run keeps the name that its words gave it."""
    one, same, different = (
        [
            f"task={task_of(words.split('.')[0], 'rte')}",
            "method=" + words.split(".")[0],
            *(f"method.{option}" for option in words.split()),
        ]
        for words in (said, other, apart)
    )
    assert _name(*one) == _name(*same) != _name(*different)
    stored = check(composed(("data=embedded", *one)), stored=True)
    assert Job(stored).name == _name(*one)
    assert Job(check(composed(("data=embedded", *same)), stored=True)).name != _name(*one)


SAID_ELSEWHERE = {
    "adapter": {"layer_norms": ""},
    "bitfit": {"layers": "the model says how many there are"},
    "dp": {"epsilon": "", "noise": "it follows from ε and rows", "delta": "it follows from rows"},
    "mlm_prompt": {"template": "the task's file has it", "words": "the task's file has them"},
    "promptbert": {
        **{"keep_head": "", "denoise_eval": "", "head": ""},
        **dict.fromkeys(("template", "second_template"), "the kind of encoder says which"),
    },
    "simcse": {"keep_head": ""},
    "unimc": {"question": "the task's file has it", "options": "the task's file has them"},
}


def test_an_option_that_is_left_to_the_others_is_said_in_one_way_or_it_is_known_why_not() -> None:
    """Of those without a reason, `test_a_run_said_in_other_words_has_the_same_name` has a case."""
    left = {
        name: {o for o, v in default_options(cls).items() if v in (None, "auto") and o != "lr"}
        for name, cls in registered().items()
    }
    assert {name: options for name, options in left.items() if options} == {
        name: {*options} for name, options in SAID_ELSEWHERE.items()
    }
    for name, options in SAID_ELSEWHERE.items():
        alike = registered()[name].say_alike is not Method.say_alike
        assert alike or all(options.values())


@pytest.mark.parametrize("pooling", ["light", "query"])
def test_what_is_added_to_a_head_is_not_taken_for_its_last_layer(
    pooling: str, tiny_folder: Folder
) -> None:
    config = configure(
        *tiny(tiny_folder("bert"), "task=rte", "method=attention_pool"),
        f"method.attention_pool.pooling={pooling}",
    )
    weights = Job(config).weights
    loaded = apply_methods(config, load_pretrained(config, weights), weights, 1)
    _, name = places.last_of_head(loaded.model, loaded.head, "a test")
    assert name == "classifier"
    assert loaded.model.classifier in places.own_head_linears(loaded.model)
    assert not any(
        one is module
        for one in places.own_head_linears(loaded.model)
        for module in loaded.model.attention_pool.modules()
    )


@pytest.mark.parametrize(
    ("methods", "more", "said"),
    [
        ("attention_pool,mlm_prompt", [], "reads other states than the one that attention_pool"),
        ("attention_pool,description_cosine", [], "reads other states than the one"),
        ("attributes,setfit", ["method.attributes.inject=bias"], "setfit fits a head of its own"),
        ("attributes,mlm_prompt", ["method.attributes.inject=text"], "lays out the texts and"),
        ("r3f,mlm_prompt", ["method.r3f.spectral_norm=true"], "spectral_norm bounds a classifier"),
        ("gradual_unfreezing,adalora", [], "adalora averages over steps that a layer which waits"),
        ("gradual_unfreezing,sage", [], "sage averages over steps"),
        ("gradual_unfreezing,pats_provisional", [], "pats_provisional averages over steps"),
    ],
)
def test_methods_of_which_one_would_do_nothing_are_refused(
    methods: str, more: list[str], said: str, tiny_folder: Folder
) -> None:
    task = "tastes" if "attributes" in methods else "rte"
    given = tiny(tiny_folder("bert"), f"task={task}", f"method=[{methods}]")
    with pytest.raises(UserError, match=said):
        configure(*given, *(o for name in methods.split(",") for o in narrow(name)[1:]), *more)


def test_a_method_that_fits_a_head_is_not_run_for_no_steps(tiny_folder: Folder) -> None:
    given = [a for a in tiny(tiny_folder("bert"), "task=sst2") if "budget.steps" not in a]
    with pytest.raises(UserError, match=r"budget\.epochs=0 trains nothing, and method=setfit"):
        configure(*given, "method=setfit", "budget.epochs=0", "budget.steps=null")


@pytest.mark.parametrize(
    ("methods", "sizes"),
    [("hype,r3f", (0, 0.01)), ("r3f,hype", (0, 0.01)), ("hype,rdrop", (0.01, 0.01))],
)
def test_hype_leaves_the_clean_pass_of_r3f_alone(
    methods: str, sizes: tuple[float, ...], tiny_folder: Folder
) -> None:
    given = tiny(tiny_folder("bert"), "task=mrpc", f"method=[{methods}]", "budget.dropout=0")
    loop, _ = prepared(configure(*given, "method.hype.sigma=0.01"))
    model: Any = loop.model.train()
    given_out: list[torch.Tensor] = []
    taken_in: list[torch.Tensor] = []
    model.bert.embeddings.register_forward_hook(lambda m, i, output: given_out.append(output))
    model.bert.encoder.layer[0].register_forward_pre_hook(
        lambda m, i, named: taken_in.append(i[0] if i else named["hidden_states"]), with_kwargs=True
    )
    [owner] = [m for m in loop.methods if "loss" in m.owns]
    owner.loss(model, loop.batch(next(iter(loop.order.batches(0, 1)))), loop.forward)
    noise = [float((a - b).detach().std()) for a, b in zip(taken_in, given_out, strict=True)]
    assert noise == [pytest.approx(size, rel=0.1, abs=0) for size in sizes]
    assert not is_clean_pass()


def test_hype_is_the_version_that_it_was_where_no_clean_pass_had_noise(tiny_folder: Folder) -> None:
    for methods, more, version in (
        ("hype,r3f", (), 2),
        ("hype,r3f", ("method.r3f.weight=0",), 1),
        ("hype,r3f", ("method.hype.sigma=0",), 1),
        ("hype,rdrop", (), 1),
    ):
        given = tiny(tiny_folder("bert"), "task=mrpc", f"method=[{methods}]", *more)
        [options] = [m for m in configure(*given).method_options() if m["name"] == "hype"]
        assert options["version"] == version
