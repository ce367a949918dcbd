"""Colours: in gamut, following the embedding, robust, saved, applied to new tokens."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import relspace as rs
from relspace.embedding.fit_palette import METHODS, distance_rank_correlation
from relspace.embedding.palette import unit_rows
from relspace.errors import InvalidInputError, MissingDependencyError
from relspace.pictures.oklab import oklab_to_linear, oklab_to_srgb, srgb_to_oklab


def groups(n: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = 2 * torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(n) % 4
    return centers[labels] + torch.randn(n, 8, generator=generator), labels


@pytest.fixture(scope="module")
def cut() -> rs.NormalizedCut:
    return rs.NormalizedCut(6).fit({"a": groups()[0], "b": groups(200, 2)[0]})


# Ottosson (2020), table of reference pairs, and the corners of the sRGB cube.
@pytest.mark.parametrize(
    ("lab", "srgb"),
    [
        ((1.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((0.627955, 0.224863, 0.125846), (1.0, 0.0, 0.0)),
        ((0.866440, -0.233888, 0.179498), (0.0, 1.0, 0.0)),
        ((0.452014, -0.032457, -0.311528), (0.0, 0.0, 1.0)),
    ],
)
def test_oklab_of_known_colors(lab: tuple[float, ...], srgb: tuple[float, ...]) -> None:
    found = oklab_to_srgb(torch.tensor([lab], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([srgb], dtype=torch.float64), atol=2e-3, rtol=0)


def test_oklab_and_back_is_the_same_color() -> None:
    corners = torch.linspace(0, 1, 6, dtype=torch.float64)
    srgb = torch.cartesian_prod(corners, corners, corners)
    torch.testing.assert_close(oklab_to_srgb(srgb_to_oklab(srgb)), srgb, atol=2e-3, rtol=0)


def test_out_of_gamut_keeps_lightness_and_hue() -> None:
    loud = torch.tensor([[0.7, 0.3, 0.1], [0.6, -0.4, 0.2], [0.5, 0.0, -0.5]], dtype=torch.float64)
    srgb = oklab_to_srgb(loud)
    assert bool(((srgb >= 0) & (srgb <= 1)).all())
    # What comes out is the same colour with a share of the chroma: some share reproduces it.
    for color, wanted in zip(srgb, loud, strict=True):
        shares = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
        candidates = oklab_to_linear(
            torch.cat([wanted[:1].expand(4001, 1), shares * wanted[1:]], dim=1)
        ).clamp(0, 1)
        linear = torch.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055).pow(2.4))
        assert float((candidates - linear).abs().amax(1).min()) < 2e-3


@pytest.mark.parametrize("method", ["spectral"])
def test_colors_are_in_gamut_and_follow_the_groups(cut: rs.NormalizedCut, method: str) -> None:
    rgb = rs.colors(cut, method=method)
    assert {name: tuple(one.shape) for name, one in rgb.items()} == {"a": (300, 3), "b": (200, 3)}
    means = []
    for name, n in (("a", 300), ("b", 200)):
        assert bool(((rgb[name] >= 0) & (rgb[name] <= 1)).all())
        means.append(torch.stack([rgb[name][torch.arange(n) % 4 == g].mean(0) for g in range(4)]))
    apart = torch.cdist(means[0], means[1])
    # The same group has the same colour in both sets, other groups another one.
    assert float(apart.diagonal().max()) < 0.25 * float(
        apart[~torch.eye(4, dtype=torch.bool)].min()
    )


def test_color_distance_follows_embedding_distance(cut: rs.NormalizedCut) -> None:
    # Three components, of constant norm with the constant one, fit into three dimensions.
    three = rs.NormalizedCut(3).fit({"a": groups()[0]})
    assert rs.Coloring().fit(three).rank_correlation_ > 0.7
    assert 0.5 < rs.Coloring().fit(cut).rank_correlation_ < 0.99


def test_rank_correlation_is_spearmans() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, lab = torch.randn(80, 5, generator=generator), torch.randn(80, 3, generator=generator)
    lab = lab + rows[:, :3]
    found = distance_rank_correlation(rows, lab, n_pairs=4000)
    pairs = torch.triu_indices(80, 80, 1)
    exact = spearmanr(*((one[pairs[0]] - one[pairs[1]]).norm(dim=1) for one in (rows, lab)))
    assert found == pytest.approx(float(exact.statistic), abs=0.05)
    assert distance_rank_correlation(rows, rows[:, :3] * 0 + rows[:, :1]) < 0.9
    assert distance_rank_correlation(rows[:, :3], rows[:, :3]) == pytest.approx(1.0, abs=1e-3)


def test_outliers_do_not_grey_out_the_rest() -> None:
    cut = rs.NormalizedCut(4).fit(groups()[0])
    usual = rs.Coloring().fit(cut).colors_["features"]
    rows = cut.embedding_["features"].clone()
    rows[:3] *= 1000
    cut.embedding_["features"] = rows
    robust = rs.Coloring().fit(cut).colors_["features"]
    spread = usual[3:].std(0)
    assert bool((robust[3:].std(0) > 0.5 * spread).all())


def test_new_tokens_are_colored_as_those_of_the_fit(cut: rs.NormalizedCut) -> None:
    coloring = rs.Coloring().fit(cut)
    torch.testing.assert_close(coloring.transform(cut["a"]), coloring.colors_["a"])
    array = coloring.transform(cut["a"].numpy())
    assert isinstance(array, np.ndarray)
    new, labels = groups(40, 7)
    rgb = torch.as_tensor(coloring.transform(cut.transform("a", new)))
    known = coloring.colors_["a"]
    means = torch.stack([known[torch.arange(300) % 4 == group].mean(0) for group in range(4)])
    assert torch.equal(torch.cdist(rgb, means).argmin(1), labels)


def test_what_is_saved_comes_back_to_the_bit(cut: rs.NormalizedCut, tmp_path: Path) -> None:
    coloring = rs.Coloring(quantile=0.05).fit(cut)
    loaded = rs.Coloring.load(coloring.save(tmp_path / "colors.safetensors"))
    assert repr(loaded) == repr(coloring)
    assert loaded.rank_correlation_ == coloring.rank_correlation_
    for name in ("a", "b"):
        assert torch.equal(loaded.colors_[name], coloring.colors_[name])
        assert torch.equal(
            torch.as_tensor(loaded.transform(cut[name])),
            torch.as_tensor(coloring.transform(cut[name])),
        )


def agreement_of_neighbors(rows: torch.Tensor) -> float:
    """How often most of the 5 nearest tokens are of a token's own group."""
    labels = torch.arange(len(rows)) % 4
    apart = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    nearest = labels[apart.topk(5, largest=False).indices]
    return float((nearest.mode(dim=1).values == labels).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsne", "umap"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_learned_methods_follow_the_groups_repeat_and_extend(
    cut: rs.NormalizedCut, method: str, tmp_path: Path
) -> None:
    # Neither is installed by `make test`.
    pytest.importorskip({"tsne": "openTSNE", "umap": "umap"}[method])
    coloring = rs.Coloring(method).fit(cut)
    rgb = coloring.colors_["a"]
    # Neighbours and not means, for UMAP draws groups long and bent; a group's colours can agree no
    # better than the embedding that they show does, and may lose 3 tokens of 300 to clipping.
    bound = agreement_of_neighbors(unit_rows(cut["a"], coloring.palette_.weights))
    assert agreement_of_neighbors(srgb_to_oklab(rgb)) >= bound - 0.01
    torch.testing.assert_close(coloring.transform(cut["a"]), rgb, atol=1e-3, rtol=0)
    again = rs.Coloring(method).fit(cut)
    torch.testing.assert_close(again.colors_["a"], rgb, atol=1e-3, rtol=0)
    loaded = rs.Coloring.load(coloring.save(tmp_path / "colors.safetensors"))
    assert torch.equal(loaded.transform(cut["b"]), coloring.transform(cut["b"]))
    written = coloring.transform(cut["b"], out=tmp_path / "b.npy")
    torch.testing.assert_close(written.read(0, 200), coloring.colors_["b"], atol=1e-4, rtol=0)
    # What varies least becomes lightness.
    assert int(coloring.palette_.project.places.std(0).argmin()) == 2


@pytest.mark.parametrize(("method", "package"), [("tsne", "openTSNE"), ("umap", "umap")])
def test_an_absent_package_is_named_with_its_extra(
    cut: rs.NormalizedCut, method: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=rf"relspace\[{method}\]"):
        rs.Coloring(method).fit(cut)


def test_bad_settings_are_named(cut: rs.NormalizedCut) -> None:
    with pytest.raises(InvalidInputError, match="method") as info:
        rs.colors(cut, method="rainbow")
    assert all(method in str(info.value) for method in METHODS)
    for quantile in (-0.1, 0.5):
        with pytest.raises(InvalidInputError, match="quantile"):
            rs.Coloring(quantile=quantile).fit(cut)
    with pytest.raises(InvalidInputError, match="1 component; colours need at least 2"):
        rs.Coloring().fit(rs.NormalizedCut(1).fit(groups()[0]))
    with pytest.raises(InvalidInputError, match="not fitted"):
        rs.Coloring().transform(cut["a"])
    with pytest.raises(InvalidInputError, match=r"X has 2 components; .* fitted on 6"):
        rs.Coloring().fit(cut).transform(cut["a"][:, :2])
