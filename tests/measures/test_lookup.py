"""Names of measures and of choices that there aren't: near ones are offered."""

from __future__ import annotations

import pytest

import relspace as rs
from relspace import measures
from relspace._core.arguments import check_choice, near_names
from relspace.errors import InvalidInputError, RenamedWarning, UnknownNameError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CKA", "'cka'"),
        ("Linear-CKA", "'cka'"),
        ("linear_cka", "'cka'"),
        ("kendall", "'rsa_kendall'"),
        ("RSA spearman", "'rsa_spearman'"),
        ("mutual_knn", "'mutual_neighbors'"),
        ("mutual_neighbours", "'mutual_neighbors'"),
        ("procrustean", "'procrustes'"),
    ],
)
def test_a_near_name_is_offered(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean .*{meant}") as caught:
        measures.get(name)
    assert "distance_correlation" not in str(caught.value)


def test_all_names_are_listed_where_none_is_near() -> None:
    with pytest.raises(UnknownNameError, match=r"there are affinity, .*linear_predictivity"):
        measures.get("zzz")


def test_every_alias_stands_for_measures_that_there_are() -> None:
    names = set(measures.names())
    for alias, stands_for in measures._ALIASES.items():
        assert alias not in names
        assert set(stands_for) <= names


def test_the_old_listing_works_and_warns() -> None:
    with pytest.warns(RenamedWarning, match=r"measures\.names\(\)"):
        listed = measures.list()
    assert [one.name for one in listed] == list(measures.names())
    with pytest.raises(AttributeError, match="no attribute 'lists'"):
        measures.lists  # noqa: B018


def test_near_names_of_choices_and_parameters() -> None:
    with pytest.raises(InvalidInputError, match=r"distance is 'Euclidean' \(did you mean 'eucl"):
        measures.get("rsa", distance="Euclidean")
    with pytest.raises(InvalidInputError, match=r"no parameter n_neighbors; it has k, metric"):
        measures.get("mutual_neighbors", n_neighbors=3)
    with pytest.raises(InvalidInputError, match=r"no parameter metrics \(did you mean 'metric'"):
        measures.get("mutual_neighbors", metrics="cosine")
    with pytest.raises(InvalidInputError, match=r"'both' or 'first'|'first'"):
        check_choice("frist", "predicted", ("both", "first", "second"))
    assert near_names(3, ("a",)) == ()
    assert near_names("", ("a", "b")) == ()


def test_commands_and_tables_of_layers_offer_the_same() -> None:
    layers = {"l": [[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 3.0]]}
    with pytest.raises(UnknownNameError, match="did you mean 'cka'"):
        rs.compare_layers(layers, layers, measure="CKA")
