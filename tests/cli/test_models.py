"""Models as named on the command line, and their options."""

from __future__ import annotations

import click
import pytest

from relspace.cli.models import preprocessing_of


def test_preprocessing_is_of_all_models_or_of_one() -> None:
    models = {"a": "a.onnx", "b": "b.onnx"}
    assert preprocessing_of([], models) == {"a": None, "b": None}
    assert preprocessing_of(["clip"], models) == {"a": "clip", "b": "clip"}
    assert preprocessing_of(["b=x=1.json", "lite"], models) == {"a": "lite", "b": "x=1.json"}
    assert preprocessing_of(["./c=1.json"], models) == {"a": "./c=1.json", "b": "./c=1.json"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["c=clip"], "--preprocessing is for 'c', and the models are a, b"),
        (["=clip"], "--preprocessing is for '', and the models are a, b"),
        (["a=clip", "a=half"], "twice for 'a'"),
        (["clip", "half"], "twice for all models; for one it is a=half"),
    ],
)
def test_preprocessing_of_no_model_or_of_one_twice_is_refused(
    values: list[str], message: str
) -> None:
    with pytest.raises(click.UsageError, match=message):
        preprocessing_of(values, ["a", "b"])
