"""Correlations without the columns of a pair's own groups, against the definition."""

from __future__ import annotations

import pytest
import torch

from relspace.kernels.grouped import (
    GroupedRows,
    grouped_correlation_blocks,
    grouped_correlation_of_pairs,
)

GROUPS_A = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 4])
GROUPS_B = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4])
COLUMNS = torch.tensor([3, 0, 1, 2, 2, 0, 1, 3, 4, 4, 0, 1, 2, 3, 3, 1])


def random(n: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, len(COLUMNS), generator=generator, dtype=torch.float64).to(dtype)


def by_definition(a: torch.Tensor, b: torch.Tensor, group_a: int, group_b: int) -> float:
    kept = ~torch.isin(COLUMNS, torch.tensor([group_a, group_b]))
    r = float(torch.corrcoef(torch.stack([a[kept], b[kept]]).double())[0, 1])
    mine, theirs = (int((group != COLUMNS).sum()) for group in (group_a, group_b))
    return r * (int(kept.sum()) / (mine * theirs) ** 0.5) ** 0.5


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
class TestDefinition:
    def test_all_pairs(self, dtype: torch.dtype, tolerance: float) -> None:
        a, b = random(10, dtype, 0), random(12, dtype, 1) + 2.0
        A, B = GroupedRows.of(a, GROUPS_A, COLUMNS, 5), GroupedRows.of(b, GROUPS_B, COLUMNS, 5)
        found = torch.full((10, 12), torch.nan, dtype=dtype)
        for rows, block in grouped_correlation_blocks(A, B):
            found[rows] = block
        expected = [
            [by_definition(a[i], b[j], int(GROUPS_A[i]), int(GROUPS_B[j])) for j in range(12)]
            for i in range(10)
        ]
        torch.testing.assert_close(
            found.double(),
            torch.tensor(expected, dtype=torch.float64),
            atol=tolerance,
            rtol=0,
        )

    def test_pairs(self, dtype: torch.dtype, tolerance: float) -> None:
        a, b = random(10, dtype, 2), random(10, dtype, 3)
        groups_b = GROUPS_A.flip(0)
        found = grouped_correlation_of_pairs(
            GroupedRows.of(a, GROUPS_A, COLUMNS, 5), GroupedRows.of(b, groups_b, COLUMNS, 5)
        )
        expected = [
            by_definition(a[i], b[i], int(GROUPS_A[i]), int(groups_b[i])) for i in range(10)
        ]
        torch.testing.assert_close(
            found.double(),
            torch.tensor(expected, dtype=torch.float64),
            atol=tolerance,
            rtol=0,
        )


def test_what_lies_in_a_pairs_own_images_counts_for_nothing() -> None:
    a, b = random(10, torch.float64, 0), random(10, torch.float64, 1)
    before = grouped_correlation_of_pairs(
        GroupedRows.of(a, GROUPS_A, COLUMNS, 5), GroupedRows.of(b, GROUPS_A, COLUMNS, 5)
    )
    own = GROUPS_A[:, None] == COLUMNS
    after = grouped_correlation_of_pairs(
        GroupedRows.of(a.masked_fill(own, 9.0), GROUPS_A, COLUMNS, 5),
        GroupedRows.of(b.masked_fill(own, 9.0), GROUPS_A, COLUMNS, 5),
    )
    torch.testing.assert_close(after, before)


def test_too_few_columns_are_no_correlation() -> None:
    columns = torch.tensor([0, 0, 1, 1, 2, 2])
    rows = torch.arange(12.0).reshape(2, 6).sin()
    A = GroupedRows.of(rows, torch.tensor([0, 1]), columns, 3)
    (_, first), (_, second) = grouped_correlation_blocks(A, A)
    assert first[0, 1] == 0.0
    assert second[0, 0] == 0.0
    assert first[0, 0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
class TestMixing:
    def test_own_columns_are_left_out_before_and_after(
        self, dtype: torch.dtype, tolerance: float
    ) -> None:
        rows, mixing = random(10, dtype, 0), random(len(COLUMNS), dtype, 1)
        found = GroupedRows.of(rows, GROUPS_A, COLUMNS, 5, mixing).rows
        for row, group, mixed in zip(rows, GROUPS_A, found, strict=True):
            others = group != COLUMNS
            expected = (row * others) @ mixing * others
            torch.testing.assert_close(mixed, expected, atol=10 * tolerance, rtol=0)

    def test_what_a_row_has_in_its_own_columns_does_not_matter(
        self, dtype: torch.dtype, tolerance: float
    ) -> None:
        rows, others = random(10, dtype, 2), random(10, dtype, 3)
        mixing = random(len(COLUMNS), dtype, 4)
        own = GROUPS_A[:, None] == COLUMNS
        given = (rows, torch.where(own, 50.0 * others, rows))
        first, second = (GroupedRows.of(one, GROUPS_A, COLUMNS, 5, mixing) for one in given)
        B = GroupedRows.of(others, GROUPS_A, COLUMNS, 5, mixing)
        for (_, one), (_, other) in zip(
            grouped_correlation_blocks(first, B), grouped_correlation_blocks(second, B), strict=True
        ):
            torch.testing.assert_close(one, other, atol=tolerance, rtol=0)
