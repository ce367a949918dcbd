"""One feature set in the common space: its way in, its relative features, its stored form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from relspace._validation import Array, Features
from relspace.aligner import Aligner
from relspace.kernels.bandwidth import Bandwidth
from relspace.kernels.normalization import Normalization
from relspace.kernels.relative import ColumnProfile


@dataclass(frozen=True)
class AlignedSet:
    """One set in the space: how its tokens get there, and its relative features.

    Attributes
    ----------
    aligner : Aligner
        Fitted on this set's landmarks.
    relative : tensor of shape (n, m)
        Relative features of the shared items, in the order of the space.
    is_array : bool
        Whether the features were an array, so that results are arrays too.
    dtype : torch.dtype
        Their float type, and that of results.
    """

    aligner: Aligner
    relative: torch.Tensor
    is_array: bool
    dtype: torch.dtype

    def restore(self, result: torch.Tensor) -> Array:
        """Give a result the kind and the float type of this set's features."""
        return Features(result, self.is_array, self.dtype).restore(result)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What has to be stored bit by bit."""
        aligner = self.aligner
        stored = {
            "relative": self.relative,
            "landmarks": aligner.landmarks_,
            "profile_mean": aligner.profile_.mean,
            "profile_deviation": aligner.profile_.deviation,
            "profile_whitening": aligner.profile_.whitening,
            "center": aligner.normalization_.center,
            "scale": aligner.normalization_.scale,
            "axes": aligner.normalization_.axes,
        }
        return {key: tensor for key, tensor in stored.items() if tensor is not None}

    def record(self) -> dict[str, Any]:
        """What has to be stored beside the tensors, as plain values."""
        return {
            "is_array": self.is_array,
            "dtype": str(self.dtype).removeprefix("torch."),
            "bandwidth": self.aligner.bandwidth_.to_dict(),
            "density": self.aligner.density,
            "normalize": self.aligner.normalize,
            "standardize": self.aligner.standardize,
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> Self:
        """The set that gave these tensors and this record."""
        aligner = Aligner(
            density=record["density"],
            normalize=record["normalize"],
            standardize=record["standardize"],
        )
        unit = record["normalize"].endswith("unit")
        aligner.restore(
            Normalization(tensors.get("center"), tensors.get("scale"), tensors.get("axes"), unit),
            tensors["landmarks"],
            Bandwidth(**record["bandwidth"]),
            ColumnProfile(
                tensors["profile_mean"],
                tensors["profile_deviation"],
                tensors.get("profile_whitening"),
            ),
        )
        dtype = getattr(torch, record["dtype"])
        return cls(aligner, tensors["relative"], record["is_array"], dtype)
