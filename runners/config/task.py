"""The schema of a task: its text, labels and metrics, and where its files lie."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runners.config.section import Section

Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "matthews_correlation",
    "pearson",
    "spearmanr",
    "spearmanr_subsets",
]


CORRELATIONS = frozenset({"pearson", "spearmanr"})


SIMILARITY = CORRELATIONS | {"spearmanr_subsets"}


class LocalFiles(Section):
    """Where a task's files lie, relative to data.dir; .csv is read with quotes, .tsv without."""

    train: str
    report: dict[str, str] = Field(min_length=1)
    where_present: dict[str, str] = Field(default_factory=dict)
    header: bool = True
    columns: dict[str, str | int] = Field(default_factory=dict)
    label_names: dict[str, str] = Field(default_factory=dict)


class HubFiles(Section):
    """Where a task lies on the hub; another configuration's split is CONFIGURATION/SPLIT."""

    path: str
    name: str | None = None
    train: str = "train"
    report: dict[str, str] = Field(min_length=1)
    where_present: dict[str, str] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)


class Pairs(Section):
    """Where scored pairs lie: a folder in SentEval's layout, or a tab-separated file; and the hub.

    `columns` counts from 0: first sentence, second sentence, score.
    """

    folder: str | None = None
    file: str | None = None
    columns: list[int] = Field(default=[0, 1, 2], min_length=3, max_length=3)
    header: bool = False
    hub: str | None = None
    split: str = "test"

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Pairs:
        if (self.folder is None) == (self.file is None):
            raise ValueError("one of folder and file says where the pairs lie")
        return self


class Task(Section):
    """What a task is: its text columns, labels by name, metrics, and sources.

    A task of kind similarity has sets of scored pairs instead of labelled splits: it trains on
    other text, and `selection` is the set that protocol=select chooses by.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    version: int = Field(default=1, ge=1)
    kind: Literal["classification", "regression", "similarity"] = "classification"
    text: list[str] = Field(min_length=1, max_length=2)
    labels: list[str] = Field(default_factory=list)
    positive_label: str | None = None
    range: list[float] | None = Field(default=None, min_length=2, max_length=2)
    metrics: list[Metric] = Field(min_length=1)
    diagnostics: dict[str, list[Metric]] = Field(default_factory=dict)
    local: LocalFiles | None = None
    hub: HubFiles | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    pairs: dict[str, Pairs] = Field(default_factory=dict)
    selection: Pairs | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        scored = self.kind != "classification"
        fit = {"regression": CORRELATIONS, "similarity": SIMILARITY}.get(self.kind, frozenset())
        wrong = [m for m in self.metrics if (m not in fit if scored else m in SIMILARITY)]
        if wrong:
            raise ValueError(f"metrics {wrong} do not suit kind={self.kind}")
        if scored and self.labels:
            raise ValueError(f"labels are for kind=classification; kind={self.kind} has a range")
        if (self.kind == "similarity") != bool(self.pairs):
            raise ValueError("pairs, at least one set, is for kind=similarity and for no other")
        if not scored and (len(self.labels) < 2 or len(set(self.labels)) != len(self.labels)):
            raise ValueError("labels needs at least two different names")
        if "f1" in self.metrics and (
            len(self.labels) != 2 or self.positive_label not in self.labels
        ):
            raise ValueError(
                "metric f1 needs two labels and positive_label, one of them; else macro_f1"
            )
        unknown = (
            sorted(set(self.local.label_names.values()) - set(self.labels)) if self.local else []
        )
        if unknown:
            raise ValueError(f"local.label_names leads to {unknown}, which labels does not hold")
        return self
