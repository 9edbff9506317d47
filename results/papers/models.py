"""Whether a record is of the model that a paper names."""

from __future__ import annotations

from collections.abc import Mapping

from results.record import Record

VARIANTS = frozenset({"cased", "uncased", "discriminator"})  # words that papers leave out


def is_of_model(record: Record, named: str) -> bool:
    """Say whether a record's model is the one named, by its name and by its weights.

    A paper may leave the last words of a name out: bert-large is cased or uncased. A run's name
    stays where model.name_or_path= put other weights in the model's place, so that what they were
    called, on the hub or as a folder, must be the model's name too, or be its own package.
    """
    words = f"{record.model}-".removeprefix(f"{named}-").split("-")
    return {*words} - {""} <= VARIANTS and _has_its_weights(record)


def _has_its_weights(record: Record) -> bool:
    called = record.weights.get("name_or_path")
    if called is None:  # an old record that does not say it
        return True
    model = record.config.get("model")
    if isinstance(model, Mapping) and called == model.get("package"):
        return True
    return str(called).rstrip("/").rpartition("/")[2].lower() == record.model.lower()
