"""Reports of feature sets: all layers aligned, coloured, compared, in the same images."""

from __future__ import annotations

import numpy as np
import pytest
from tests.reports.conftest import IDS, N_IMAGES, model, pictures

import relspace
from relspace.errors import InvalidInputError, ItemMismatchError
from relspace.features import FeatureSet
from relspace.reports import summarize_feature_sets
from relspace.reports.page import ReportData
from relspace.reports.page.comparison import feature_sets_page


def page_of(sets: dict[str, FeatureSet], **options: object) -> ReportData:
    return feature_sets_page(summarize_feature_sets(sets, **options))


@pytest.fixture(scope="module")
def data(models: dict[str, FeatureSet]) -> ReportData:
    return page_of(models, landmarks=200, n_images=4, n_permutations=19)


def test_every_layer_of_every_model_can_be_explored(data: ReportData) -> None:
    assert [one.name for one in data.models] == ["fine", "coarse"]
    assert [layer.name for layer in data.models[0].layers] == ["layer 0", "layer 1", "layer 2"]
    assert data.models[0].layers[0].vectors.shape[:3] == (4, 12, 12)
    assert data.models[1].layers[1].vectors.shape[:3] == (4, 6, 6)
    assert set(data.models[0].layers[0].colors) == {"joint", "per model", "before"}


def test_layers_are_compared_with_chance_and_p(data: ReportData) -> None:
    (table,) = data.layer_tables
    assert table.values.shape == (3, 2)
    assert table.chance is not None
    # Both see the same discs: the first layers are far more alike than chance.
    assert table.values[0, 0] > table.chance + 0.1
    assert table.p_values is not None
    assert table.p_values.min() == pytest.approx(1 / 20)


def test_curves_are_the_best_values_of_the_table(data: ReportData) -> None:
    values = data.layer_tables[0].values
    of_rows, of_columns = (chart.curves[0].values for chart in data.charts)
    np.testing.assert_allclose(of_rows, values.max(axis=1))
    np.testing.assert_allclose(of_columns, values.max(axis=0))


def test_images_are_found_by_their_ids_in_any_order(models: dict[str, FeatureSet]) -> None:
    order = [3, 1, 5, 0, 2, 4]
    turned = {**models, "coarse": models["coarse"].select(images=order)}
    data = page_of(turned, landmarks=100, n_images=3, n_permutations=0)
    straight = page_of(models, landmarks=100, n_images=3, n_permutations=0)
    assert [image.title for image in data.images] == IDS[:3]
    for one, other in zip(data.models, straight.models, strict=True):
        np.testing.assert_array_equal(one.layers[-1].vectors, other.layers[-1].vectors)


def test_three_models_are_compared_pair_by_pair(models: dict[str, FeatureSet]) -> None:
    third = model(6, 8, 1, 2, IDS)
    data = page_of({**models, "third": third}, landmarks=100, n_images=2, n_permutations=0)
    assert [(one.row_model, one.column_model) for one in data.layer_tables] == [
        ("fine", "coarse"),
        ("fine", "third"),
        ("coarse", "third"),
    ]
    assert [curve.title for curve in data.charts[2].curves] == ["with fine", "with coarse"]


def test_pooled_sets_are_compared_without_panels(models: dict[str, FeatureSet]) -> None:
    pooled = {name: fs.pool("mean") for name, fs in models.items()}
    data = page_of(pooled, measure="rsa", n_permutations=0)
    assert data.models == ()
    assert data.layer_tables[0].values.shape == (3, 2)


def test_few_images_have_no_p_values(models: dict[str, FeatureSet]) -> None:
    few = {name: fs.select(images=[0, 1, 2]) for name, fs in models.items()}
    data = page_of(few, landmarks=100, n_permutations=99)
    assert data.layer_tables[0].p_values is None
    assert len(data.images) == 3


def test_what_does_not_fit_is_refused(models: dict[str, FeatureSet]) -> None:
    with pytest.raises(InvalidInputError, match="there is 1 feature set"):
        page_of({"fine": models["fine"]})
    with pytest.raises(InvalidInputError, match=r"coarse, layer 0.*one row for each image"):
        page_of({**models, "coarse": models["coarse"].pool("mean")})
    with pytest.raises(ItemMismatchError):
        page_of({**models, "coarse": models["coarse"].select(images=[0, 1])})
    without_ids = {name: model(4, 12, 1, seed, None) for seed, name in enumerate("ab")}
    with pytest.raises(ItemMismatchError, match=f"4 images and {N_IMAGES} items"):
        page_of(without_ids, images=pictures()[:4], landmarks=50, n_permutations=0)


def test_it_is_a_page_with_the_images(
    models: dict[str, FeatureSet], photos: object, tmp_path: object
) -> None:
    out = relspace.report(
        models, f"{tmp_path}/page.html", images=photos, n_images=2, n_permutations=0
    )
    html = out.html
    assert html.count('<img src="data:image/png;base64,') == 2
    assert "<h1>fine and coarse</h1>" in html
