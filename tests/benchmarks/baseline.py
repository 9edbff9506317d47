"""The peer: a plain transformers.Trainer on the same weights, texts and budget.

Prints one JSON line. It reads the data with this project's reader, so that both train on the same
rows, and is otherwise what a careful user of the Trainer would write.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from runners.data.load import load_task_data
from runners.models.weights import find_weights
from runners.tasks.metrics import headline, score_split
from tests.conftest import configure
from tests.gpu.timed import Stopwatch


class Clock(TrainerCallback):  # type: ignore[misc]
    """Notes when the first step begins and the last one ends.

    After `warm` steps, and at the end, it waits for the device: `watch` has the time of a step.
    """

    first: float | None = None
    last: float | None = None

    def __init__(self, warm: int | None) -> None:
        self.warm = warm
        self.watch = Stopwatch(warm or 0)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.first = self.first or time.time()

    def on_step_end(self, args: Any, state: Any, *more: Any, **kwargs: Any) -> None:
        if self.warm is not None:
            self.watch.step(state.global_step, state.global_step == state.max_steps)
        self.last = time.time()


def freeze(model: Any, method: str) -> Any:
    """Return the model with the method's part trainable, by peft or by hand."""
    if method == "bitfit":
        for name, parameter in model.named_parameters():
            head = name.startswith(("classifier", "bert.pooler"))
            parameter.requires_grad_(head or name.endswith("bias"))
    elif method == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        lora = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=8,
            lora_alpha=16,
            target_modules=["query", "value"],
            modules_to_save=["classifier", "pooler"],
        )
        model = get_peft_model(model, lora)
    return model


def main() -> None:
    """Train and score once, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="rte")
    parser.add_argument("--method", default="full", choices=["full", "bitfit", "lora"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--padding", default="longest", choices=["longest", "max"])
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--began", type=float, default=time.time(), help="when it was called")
    parser.add_argument("--model", help="a folder, in place of minilm's")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--warm", type=int, help="time a step, without so many first ones")
    asked = parser.parse_args()
    model_folder = [f"model.name_or_path={asked.model}"] if asked.model else []
    size = [f"data.train_size={asked.train_size}"] if asked.train_size else []
    settings = configure(
        f"task={asked.task}", "data=local", f"data.dir={asked.data_dir}", *size, *model_folder
    ).settings
    logging.set_verbosity_error()
    set_seed(asked.seed)
    task, budget = settings.task, settings.budget
    data = load_task_data(task, settings.data, settings.protocol)
    folder = find_weights(settings.model).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    regression = task.kind == "regression"
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1 if regression else len(task.labels)
    )
    model = freeze(model, asked.method)
    padding = "max_length" if asked.padding == "max" else False

    def prepared(split: Any) -> Dataset:
        rows = {f"text{i}": column for i, column in enumerate(zip(*split.texts, strict=True))}
        rows["labels"] = [float(x) if regression else int(x) for x in split.labels]

        def encode(batch: Any) -> Any:
            texts = [batch[f"text{i}"] for i in range(len(task.text))]
            return tokenizer(*texts, truncation=True, max_length=budget.max_length, padding=padding)

        return Dataset.from_dict({k: list(v) for k, v in rows.items()}).map(
            encode, batched=True, remove_columns=[k for k in rows if k != "labels"]
        )

    train = prepared(data.train)
    report = {name: prepared(split) for name, split in data.report.items()}
    clock = Clock(asked.warm)
    arguments = TrainingArguments(
        output_dir=asked.out,
        num_train_epochs=asked.epochs,
        per_device_train_batch_size=budget.batch_size,
        per_device_eval_batch_size=budget.eval_batch_size,
        learning_rate={"full": 1e-4, "bitfit": 2e-3, "lora": 3e-3}[asked.method],
        warmup_steps=0.1,
        weight_decay=0.0,
        train_sampling_strategy="random" if padding else "group_by_length",
        bf16=asked.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=asked.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )
    trainer.train()
    assert clock.first is not None
    assert clock.last is not None
    scores, seconds = {}, 0.0
    for name, rows in report.items():
        begin = time.perf_counter()
        found = trainer.predict(rows)  # grouped by length, so not in the rows' order
        seconds += time.perf_counter() - begin
        logits = np.asarray(found.predictions)
        predicted = logits.squeeze(-1) if regression else logits.argmax(-1)
        scores[name] = score_split(task, name, predicted, found.label_ids.tolist())[0]
    print(
        json.dumps(
            {
                "examples_per_second": asked.epochs * len(train) / (clock.last - clock.first),
                "eval_seconds": seconds,
                "score": headline(task, scores),
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "seconds_to_first_step": clock.first - asked.began,
                **(clock.watch.figures() if asked.warm is not None else {}),
            }
        )
    )


if __name__ == "__main__":
    main()
