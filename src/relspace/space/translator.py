"""The translator from one model's features to another's, chosen and judged on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch.nn.functional import normalize

from relspace._core.archive import check_tensors
from relspace._core.arguments import check_choice, check_count, check_random_state
from relspace._core.devices import choose_device
from relspace._core.items import own_ids
from relspace._core.labelled_tables import feature_names, refuse_other_features
from relspace._core.matrices import as_features
from relspace._core.pairing import pair_items
from relspace.errors import BandwidthError, FileFormatError, InvalidInputError
from relspace.rows.fitted import FittedMap
from relspace.rows.identity import hash_array
from relspace.rows.row_map import RowMap
from relspace.space.aligner import Aligner, RelativeRows
from relspace.space.translation import METHODS, Translation

_N_FOLDS = 5
#: Pairs below which no translation can be judged on held-out ones.
FEWEST_PAIRS = 10
# Items, at random, whose neighbours are looked for.
_MOST_ASKED = 1000
# Before the names of the tensors of the aligner in a file.
_OF_ALIGNER = "aligner."


@dataclass(frozen=True)
class TranslationScore:
    """How near translations of held-out pairs come to what they should be.

    Attributes
    ----------
    method : str
        The way of translating.
    recall : float
        Of the ``n_neighbors`` items whose features are nearest (by cosine, after the mean is
        removed) to a held-out item's true features, the share that are among the nearest to its
        translation, on average.
    chance : float
        What ``recall`` would be if translations were assigned at random.
    r2 : float
        Share of the variance of the true features that translations explain.
    n_neighbors : int
        How many neighbours count.
    n_pairs : int
        Pairs, each of which was held out once while the rest was fitted.
    """

    method: str
    recall: float
    chance: float
    r2: float
    n_neighbors: int
    n_pairs: int

    def __repr__(self) -> str:
        return (
            f"TranslationScore({self.method}: recall@{self.n_neighbors} {self.recall:.3f}, chance "
            f"{self.chance:.3f}, R2 {self.r2:.3f}, {self.n_pairs} held-out pairs)"
        )

    def to_dict(self) -> dict[str, Any]:
        """The score as plain values, ready for JSON."""
        return asdict(self)


class Translator(FittedMap):
    """Translates features of one model into those that another model would have.

    It is fitted on features of the same items in both models. Every way of translating is judged
    on pairs that are held out in turn, in five parts, and "auto" takes the one with the highest
    recall of true neighbours.

    Parameters
    ----------
    method : str
        "procrustes" (a rotation and a scale), "ridge" (linear, with a penalty by generalized
        cross-validation), "low-rank" (ridge, kept to the axes of 95 % of the predicted variance),
        "local" (kernel ridge regression on auto-scaled affinities to at most 1024 of the pairs),
        or "auto", which leaves "local" out where features can't have its density.
    n_neighbors : int
        How many true neighbours a translation should recall.
    random_state : int
        Seed of the parts that are held out, and of the pairs that "local" describes items by.

    Attributes
    ----------
    method_ : str
        The way that was taken.
    score_ : TranslationScore
        How well it does on held-out pairs.
    scores_ : dict of str to TranslationScore
        The same of every way that was tried.
    translation_ : Translation
        The fitted function.

    Examples
    --------
    >>> import torch, relspace
    >>> X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    >>> Y = X @ torch.randn(6, 9, generator=torch.Generator().manual_seed(1)) + 5
    >>> translator = relspace.Translator().fit(X[:150], Y[:150])
    >>> bool((translator.transform(X[150:]) - Y[150:]).abs().max() < 1e-3)
    True
    >>> translator.score_.recall > 0.95
    True
    """

    _results: ClassVar = ("method_", "score_", "scores_", "translation_")
    _fit_call: ClassVar = "fit(X, Y)"
    _kind: ClassVar = "translator"
    _may_be_infinite: ClassVar = Aligner._may_be_infinite

    method_: str
    score_: TranslationScore
    scores_: dict[str, TranslationScore]
    translation_: Translation
    #: Names of the features it was fitted on, where they are columns of a table.
    feature_names_in_: tuple[str, ...] | None = None

    def __init__(
        self, method: str = "auto", *, n_neighbors: int = 10, random_state: int = 0
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def fit(self, X: object, Y: object) -> Self:
        """Fit every way that is asked for, judge it on held-out pairs, and keep the best.

        Parameters
        ----------
        X : array-like of shape (n, d)
            One model's features of at least 10 items.
        Y : array-like of shape (n, e)
            The other model's features of the same items: where both sets bring ids, such as the
            index of a pandas frame, matched by them, else row by row.

        Returns
        -------
        Translator
            Itself.

        Raises
        ------
        InvalidInputError
            If the numbers of rows differ, there are fewer than 10, features are constant, or an
            argument is out of range.
        BandwidthError
            If the method is "local" and the features can't have its density.
        """
        check_choice(self.method, "method", ("auto", *METHODS))
        seed = check_random_state(self.random_state)
        given, wanted = as_features(X, "X"), as_features(Y, "Y")
        x = given.tensor.detach()
        y = wanted.tensor.detach().double().to(x.device)
        if (order := _order_by_ids(X, Y, len(x), len(y))) is not None:
            y = y[order]
        _refuse_unlike_pairs(x, y)
        check_count(self.n_neighbors, "n_neighbors", at_most=len(x) - 2)
        if self.method == "auto":
            scores = self._judge_all(x, y, seed)
        else:
            scores = {self.method: self._judge(self.method, x, y, seed)}
        # Of equal recalls the simplest way, which comes first.
        self.method_ = max(scores, key=lambda name: scores[name].recall)
        self.scores_, self.score_ = scores, scores[self.method_]
        fitted = METHODS[self.method_](x, y, seed)
        self.translation_ = fitted.to(x.device, x.dtype)
        self.feature_names_in_ = feature_names(X)
        return self

    def _judge_all(
        self, x: torch.Tensor, y: torch.Tensor, seed: int
    ) -> dict[str, TranslationScore]:
        """Judge every way that these features allow: some have no bandwidth for "local"."""
        scores = {}
        for name in METHODS:
            with suppress(BandwidthError):
                scores[name] = self._judge(name, x, y, seed)
        return scores

    def _judge(self, method: str, x: torch.Tensor, y: torch.Tensor, seed: int) -> TranslationScore:
        """Translate every pair by what was fitted without its part."""
        n, k = len(x), self.n_neighbors
        translated = torch.empty_like(y)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(x.device)
        missed = total = 0.0
        for part in order.tensor_split(_N_FOLDS):
            rest = torch.ones(n, dtype=torch.bool, device=x.device)
            rest[part] = False
            translated[part] = METHODS[method](x[rest], y[rest], seed)(x[part])
            missed += float((y[part] - translated[part]).square().sum())
            total += float((y[part] - y[rest].mean(dim=0)).square().sum())
        recall = recall_of_neighbors(translated, y, k, order[:_MOST_ASKED])
        return TranslationScore(method, recall, k / (n - 1), 1 - missed / total, k, n)

    @property
    def n_features_in_(self) -> int:
        """The width of the features that it translates."""
        return self.translation_.n_features

    @property
    def n_features_out(self) -> int:
        """The width of the features that it predicts."""
        return int(self.translation_.weights.shape[1])

    def to(self, device: str | torch.device) -> Self:
        moved = super().to(device)
        moved.translation_ = self.translation_.to(choose_device(device))
        return moved

    def _row_map(self, memory_budget: int | None = None) -> RowMap:
        made = self.translation_

        def job() -> dict[str, Any]:
            hashed = {
                name: hash_array(vars(made)[name]).digest for name in ("weights", "shift", "center")
            }
            described = made.aligner and RelativeRows(made.aligner, standardized=False).settings()
            return {"operation": "translate", "affinities": described, **hashed}

        return RowMap(made, self.n_features_out, "feature", self._check, job)

    def _check(self, shape: tuple[int, ...], names: tuple[str, ...] | None) -> None:
        refuse_other_features(names, self.feature_names_in_, "X")
        if shape[1] != self.n_features_in_:
            raise InvalidInputError(
                f"X has {shape[1]} features; this translator takes {self.n_features_in_}: use the "
                "model and layer that it was fitted on."
            )

    def _stored(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        self._check_fitted()
        made = self.translation_
        tensors = {"weights": made.weights, "shift": made.shift, "center": made.center}
        record: dict[str, Any] = {"aligner": None}
        if made.aligner is not None:
            own, record["aligner"] = made.aligner._stored()
            tensors |= {f"{_OF_ALIGNER}{name}": one for name, one in own.items()}
        return tensors, {
            "parameters": self.get_params(),
            "method": self.method_,
            "scores": [score.to_dict() for score in self.scores_.values()],
            "feature_names": self.feature_names_in_,
            **record,
        }

    @classmethod
    def _restored(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> Self:
        own = {
            name.removeprefix(_OF_ALIGNER): one
            for name, one in tensors.items()
            if name.startswith(_OF_ALIGNER)
        }
        plain = {name: one for name, one in tensors.items() if not name.startswith(_OF_ALIGNER)}
        record = metadata["aligner"]
        if (record is None) != (not own):
            raise FileFormatError("its record of an aligner and its tensors of one don't fit.")
        aligner = None if record is None else Aligner._restored(own, record)
        _check_stored(plain, aligner, metadata)
        translator = cls(**metadata["parameters"])
        translator.method_ = metadata["method"]
        translator.scores_ = {one["method"]: TranslationScore(**one) for one in metadata["scores"]}
        translator.score_ = translator.scores_[translator.method_]
        translator.translation_ = Translation(
            plain["weights"], plain["shift"], plain["center"], aligner
        )
        if metadata["feature_names"] is not None:
            translator.feature_names_in_ = tuple(metadata["feature_names"])
        return translator


def _order_by_ids(X: object, Y: object, n: int, m: int) -> torch.Tensor | None:
    """The rows of Y in the order of those of X, where both bring ids and the order differs."""
    ids = {"X": own_ids(X, "X"), "Y": own_ids(Y, "Y")}
    if ids["X"] is None or ids["Y"] is None:
        return None
    return pair_items({"X": n, "Y": m}, ids)[1]["Y"]


def _refuse_unlike_pairs(x: torch.Tensor, y: torch.Tensor) -> None:
    if len(x) != len(y):
        raise InvalidInputError(
            f"X has {len(x)} rows and Y has {len(y)}; they must be of the same items, row by row."
        )
    if len(x) < FEWEST_PAIRS:
        raise InvalidInputError(
            f"there are {len(x)} pairs; a translation is fitted and judged on at least "
            f"{FEWEST_PAIRS}."
        )
    for name, one in (("X", x), ("Y", y)):
        if bool((one == one[0]).all()):
            raise InvalidInputError(f"all rows of {name} are the same; there is nothing to learn.")


def recall_of_neighbors(
    translated: torch.Tensor, true: torch.Tensor, k: int, asked: torch.Tensor
) -> float:
    """Share of the k nearest true neighbours of some items among those of their translations."""
    mean = true.mean(dim=0)
    others = normalize(true - mean)
    nearest = []
    for rows in (translated[asked], true[asked]):
        similarity = normalize(rows - mean) @ others.T
        # An item isn't its own neighbour.
        similarity[torch.arange(len(asked)), asked] = -torch.inf
        nearest.append(similarity.topk(k, dim=1).indices)
    shared = (nearest[0][:, :, None] == nearest[1][:, None, :]).any(dim=2)
    return float(shared.double().mean())


def _check_stored(
    tensors: Mapping[str, torch.Tensor], aligner: Aligner | None, metadata: Mapping[str, Any]
) -> None:
    """Refuse what can't be a saved translator: parts that do not fit together."""
    method = check_choice(metadata["method"], "method", tuple(METHODS))
    if (aligner is None) != (method != "local"):
        raise FileFormatError(f"its method is {method!r}, which does not fit its tensors.")
    known = [check_choice(one["method"], "method", tuple(METHODS)) for one in metadata["scores"]]
    if method not in known:
        raise FileFormatError(f"it has no score of its method {method!r}.")
    if "weights" not in tensors or tensors["weights"].ndim != 2:
        raise FileFormatError("its tensor 'weights' is no matrix.")
    m, e = tensors["weights"].shape
    if aligner is not None and aligner.n_landmarks != m:
        raise FileFormatError(f"it has weights of {m} landmarks and {aligner.n_landmarks} of them.")
    shapes: dict[str, tuple[int, ...]] = {"weights": (m, e), "shift": (e,), "center": (m,)}
    check_tensors(tensors, shapes)
    if surplus := sorted(set(tensors) - set(shapes)):
        raise FileFormatError(f"it holds {', '.join(surplus)}, which translators have not.")
    names = metadata["feature_names"]
    width = m if aligner is None else aligner.n_features_in_
    if names is not None and (not isinstance(names, list) or len(names) != width):
        raise FileFormatError(f"feature_names must be a list of {width} names.")
