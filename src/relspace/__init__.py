"""relspace: one common space in which features of different models can be compared."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relspace._core.installation import WAYS_OUT, conflict
from relspace._core.versions import __version__

if TYPE_CHECKING:
    from relspace import measures, resampling
    from relspace.embedding import Coloring, NormalizedCut, colors, kway
    from relspace.features import (
        ExportedModel,
        FeatureSet,
        ModuleModel,
        OnnxModel,
        Preprocessing,
        describe_model,
        extract,
        load_model,
        open_features,
        record,
    )
    from relspace.kernels import (
        DEFAULT_DENSITY,
        Bandwidth,
        Match,
        choose_landmarks,
        cosine_affinity,
        rbf_affinity,
        solve_bandwidth,
        squared_distances,
    )
    from relspace.measures.dissimilarities import Dissimilarities, crossnobis
    from relspace.reports.report import report
    from relspace.rows.output import Output
    from relspace.similarity import LayerComparison, ModelComparison, compare_layers, compare_models
    from relspace.similarity.compare import Comparison, compare
    from relspace.similarity.curve import SimilarityCurve, similarity_curve
    from relspace.similarity.fusion import FusedComparison, fuse
    from relspace.similarity.ranking import ModelRanking, compare_to
    from relspace.space.align import align, load_space
    from relspace.space.aligner import Aligner
    from relspace.space.base import CommonSpace
    from relspace.space.item_space import ItemSpace
    from relspace.space.token_space import TokenSpace
    from relspace.space.translator import Translator

__all__ = [
    "DEFAULT_DENSITY",
    "Aligner",
    "Bandwidth",
    "Coloring",
    "CommonSpace",
    "Comparison",
    "Dissimilarities",
    "ExportedModel",
    "FeatureSet",
    "FusedComparison",
    "ItemSpace",
    "LayerComparison",
    "Match",
    "ModelComparison",
    "ModelRanking",
    "ModuleModel",
    "NormalizedCut",
    "OnnxModel",
    "Output",
    "Preprocessing",
    "SimilarityCurve",
    "TokenSpace",
    "Translator",
    "__version__",
    "align",
    "choose_landmarks",
    "colors",
    "compare",
    "compare_layers",
    "compare_models",
    "compare_to",
    "cosine_affinity",
    "crossnobis",
    "describe_model",
    "extract",
    "fuse",
    "kway",
    "load_model",
    "load_space",
    "measures",
    "open_features",
    "rbf_affinity",
    "record",
    "report",
    "resampling",
    "similarity_curve",
    "solve_bandwidth",
    "squared_distances",
]

# Public names are imported when they are first used (PEP 562): importing torch takes seconds, and
# the command line answers --help without it.
_MODULES = {
    "embedding": ("Coloring", "NormalizedCut", "colors", "kway"),
    "features": (
        "ExportedModel",
        "FeatureSet",
        "ModuleModel",
        "OnnxModel",
        "Preprocessing",
        "describe_model",
        "extract",
        "load_model",
        "open_features",
        "record",
    ),
    "kernels": (
        "DEFAULT_DENSITY",
        "Bandwidth",
        "Match",
        "choose_landmarks",
        "cosine_affinity",
        "rbf_affinity",
        "solve_bandwidth",
        "squared_distances",
    ),
    "measures.dissimilarities": ("Dissimilarities", "crossnobis"),
    "reports.report": ("report",),
    "rows.output": ("Output",),
    "similarity": ("LayerComparison", "ModelComparison", "compare_layers", "compare_models"),
    "similarity.compare": ("Comparison", "compare"),
    "similarity.curve": ("SimilarityCurve", "similarity_curve"),
    "similarity.fusion": ("FusedComparison", "fuse"),
    "similarity.ranking": ("ModelRanking", "compare_to"),
    "space.align": ("align", "load_space"),
    "space.aligner": ("Aligner",),
    "space.base": ("CommonSpace",),
    "space.item_space": ("ItemSpace",),
    "space.token_space": ("TokenSpace",),
    "space.translator": ("Translator",),
}
_SUBMODULES = ("measures", "resampling")
# What was called otherwise, by its old name.
_RENAMED = {"AlignedSpace": "ItemSpace", "SpatialSpace": "TokenSpace"}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from relspace._core.deprecation import warn_renamed

        warn_renamed(f"relspace.{name}", f"relspace.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name in _SUBMODULES:
        return import_module(f"relspace.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'relspace' has no attribute {name!r}")
    value = getattr(import_module(f"relspace.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if (_found := conflict()) is not None:
    import warnings

    from relspace.errors import ConflictingPackageWarning

    warnings.warn(ConflictingPackageWarning(_found, ways_out=WAYS_OUT), stacklevel=2)
