"""Every option that is one of several words refuses what is no such word, the empty one too."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace as rs
from relspace.errors import InvalidInputError, UnknownNameError

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.random.default_rng(1).normal(size=(30, 5))
IMAGES = [np.zeros((8, 8, 3), np.uint8)]


def _network(layout: str | None = None) -> rs.ModuleModel:
    return rs.ModuleModel(
        torch.nn.Sequential(torch.nn.Conv2d(3, 5, 4, 4)),
        layers="*",
        layout=layout,
        preprocessing=rs.Preprocessing(size=(8, 8)),
    )


#: Calls that give an option of a public function the value, and nothing else that is wrong.
CHOICES: dict[str, Callable[[str, Path], object]] = {
    "Aligner(normalize)": lambda value, _: rs.Aligner(normalize=value).fit(X),
    "Aligner(standardize)": lambda value, _: rs.Aligner(standardize=value).fit(X),
    "Coloring(method)": lambda value, _: rs.Coloring(method=value).fit({"a": X}),
    "FeatureSet.from_arrays(layout)": lambda value, _: rs.FeatureSet.from_arrays(
        {"a": X}, layout=value
    ),
    "FeatureSet.pool(how)": lambda value, _: rs.FeatureSet.from_arrays({"a": X}).pool(value),
    "ModuleModel(layout)": lambda value, folder: rs.extract(
        _network(value), IMAGES, folder / "f.zarr"
    ),
    "Output(dtype)": lambda value, folder: rs.Output(folder / "out.npy", dtype=value),
    "Output(resume)": lambda value, folder: rs.Output(folder / "out.npy", resume=value),
    "Preprocessing(fit)": lambda value, _: rs.Preprocessing(size=(8, 8), fit=value),
    "Preprocessing(crop_rounding)": lambda value, _: rs.Preprocessing(
        size=(8, 8), crop_rounding=value
    ),
    "align(normalize)": lambda value, _: rs.align({"a": X, "b": Y}, normalize=value),
    "Translator(method)": lambda value, _: rs.Translator(method=value).fit(X, Y),
    "align(on_missing)": lambda value, _: rs.align({"a": X, "b": Y}, on_missing=value),
    "align(standardize)": lambda value, _: rs.align({"a": X, "b": Y}, standardize=value),
    "colors(method)": lambda value, _: rs.colors({"a": X}, method=value),
    "compare(measure)": lambda value, _: rs.compare(X, Y, measure=value),
    "compare_layers(measure)": lambda value, _: rs.compare_layers(
        {"a": X}, {"b": Y}, measure=value
    ),
    "compare_to(correction)": lambda value, _: rs.compare_to(X, {"a": Y}, correction=value),
    "compare_to(measure)": lambda value, _: rs.compare_to(X, {"a": Y}, measure=value),
    "compare_models(measure)": lambda value, _: rs.compare_models(
        {"m": {"a": X}, "n": {"b": Y}}, measure=value
    ),
    "extract(device)": lambda value, folder: rs.extract(
        _network(), IMAGES, folder / "f.zarr", device=value
    ),
    "extract(dtype)": lambda value, folder: rs.extract(
        _network(), IMAGES, folder / "f.zarr", dtype=value
    ),
    "extract(store_dtype)": lambda value, folder: rs.extract(
        _network(), IMAGES, folder / "f.zarr", store_dtype=value
    ),
    "extract(on_error)": lambda value, folder: rs.extract(
        _network(), IMAGES, folder / "f.zarr", on_error=value
    ),
    "extract(resume)": lambda value, folder: rs.extract(
        _network(), IMAGES, folder / "f.zarr", resume=value
    ),
    "similarity_curve(measure)": lambda value, _: rs.similarity_curve(X, Y, measure=value),
    "record(side)": lambda value, _: rs.record(
        torch.nn.Conv2d(3, 5, 4, 4), "*", side=value
    ).__enter__(),
}


@pytest.mark.parametrize("value", ["", "nonsense", " "])
@pytest.mark.parametrize("option", CHOICES)
def test_what_is_no_choice_is_refused(option: str, value: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError)) as raised:
        CHOICES[option](value, tmp_path)
    # The word that was found is told, or quoted where it can't be seen.
    assert repr(value) in str(raised.value) or (value.strip() and value in str(raised.value))
    assert list(tmp_path.iterdir()) == []


def _choices_of_measures() -> list[tuple[str, str]]:
    found = {}
    for name in rs.measures.names():
        of = type(rs.measures.get(name))
        hints = typing.get_type_hints(of)
        for field in dataclasses.fields(of):
            of_words = typing.get_origin(hints[field.name]) is typing.Literal
            if of_words and field.name != "direction":  # a property of the measure, not a choice
                found[of, field.name] = (name, field.name)
    return sorted(found.values())


@pytest.mark.parametrize("value", ["", "nonsense"])
@pytest.mark.parametrize(("name", "option"), _choices_of_measures())
def test_what_is_no_choice_of_a_measure_is_refused(name: str, option: str, value: str) -> None:
    with pytest.raises(InvalidInputError, match=option):
        dataclasses.replace(rs.measures.get(name), **{option: value})


def test_no_option_is_forgotten() -> None:
    """Options whose default is a word are in the table, or take any text."""
    any_text = {"extract(layers)", "describe_model(layers)", "load_model(pooling)"}
    functions = {
        name: found
        for name in rs.__all__
        if inspect.isfunction(found := getattr(rs, name))
        or (inspect.isclass(found) and not issubclass(found, BaseException))
    }
    words = {
        f"{name}({parameter.name})"
        for name, function in functions.items()
        for parameter in inspect.signature(function).parameters.values()
        if isinstance(parameter.default, str)
    }
    of_all = {"device", "dtype"}  # swept for one function, which checks them as the others do
    missing = {
        one for one in words - CHOICES.keys() - any_text if one.split("(")[1][:-1] not in of_all
    }
    assert missing == set()
