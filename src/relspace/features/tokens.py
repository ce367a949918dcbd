"""Tokens or words of texts as items of their own, in memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from relspace._core.arguments import check_choice, check_count
from relspace._core.items import as_ids
from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features.feature_model import FeatureModel, Layers
from relspace.features.feature_set import FeatureSet
from relspace.features.models.text import TextModel
from relspace.rows.identity import hash_texts

_WORD = re.compile(r"\S+")
# Digits of digests in ids.
_DIGITS = 12


def token_features(
    model: FeatureModel,
    texts: Sequence[str],
    *,
    by: str = "token",
    layers: Layers = "all",
    ids: Sequence[str] | None = None,
    batch_size: int = 16,
) -> FeatureSet:
    """Extract one row for each token, or each word, of texts.

    Tokens are those of the model's own tokenizer, special ones included and padding left out.
    Words are what lies between spaces, the mean over their tokens, so that models that cut texts
    differently have the same items.

    Parameters
    ----------
    model : FeatureModel
        A text model from :func:`relspace.load_model`.
    texts : sequence of str
        The texts; what is longer than the model takes is left out, with a warning.
    by : {"token", "word"}
        Whether rows are tokens or words.
    layers : "all", "last", or a sequence of int or str
        Which layers.
    ids : sequence of str, optional
        The texts' ids; by default digests of the texts, so that rows of other texts are not
        matched. Rows are called ``id:number``, from 0.
    batch_size : int
        How many texts the model sees at a time.

    Returns
    -------
    FeatureSet
        Held in memory, in float32. Rows of one text are not independent: texts are to be permuted
        as a whole, ``groups=[one.rpartition(":")[0] for one in fs.ids]``, which needs as many
        rows of each (``fs.select(images=...)``), or no permutations. Its metadata says how many
        texts were cut (``n_truncated``), and which (``truncated``).

    Warns
    -----
    TruncatedTextWarning
        If texts are longer than the model takes.

    Raises
    ------
    InvalidTypeError
        If the model is none of texts.
    InvalidInputError
        If a text is empty, or the tokenizer doesn't say where words are.
    """
    if not isinstance(model, TextModel):
        raise InvalidTypeError(f"{model!r:.60} is no text model; tokens are those of texts.")
    check_choice(by, "by", ("token", "word"))
    step = check_count(batch_size, "batch_size")
    if isinstance(texts, str) or not len(texts):
        raise InvalidInputError("texts must be a list of one text or more.")
    names = model.names_of(layers)
    given = None if ids is None else [str(one) for one in as_ids(ids, "ids", len(texts))]
    truncated = model.describe_truncated(texts, given or [f"row {i}" for i in range(len(texts))])
    called = given or _digests(texts)
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    row_ids: list[str] = []
    for start in range(0, len(texts), step):
        batch = texts[start : start + step]
        states, _ = model.token_states([model.prepare(text)[0] for text in batch], names)
        for number, text in enumerate(batch):
            groups = _rows_of_tokens(model, text, by)
            kept = torch.from_numpy(groups >= 0)
            labels, numbers = np.unique(groups[groups >= 0], return_inverse=True)
            own = torch.from_numpy(numbers)
            row_ids += [f"{called[start + number]}:{label}" for label in labels.tolist()]
            counts = torch.bincount(own, minlength=len(labels))[:, None]
            for name in names:
                tokens = states[name][number, : len(groups)].float().cpu()[kept]
                sums = torch.zeros(len(labels), tokens.shape[1]).index_add_(0, own, tokens)
                rows[name].append(sums / counts)
    return FeatureSet.from_arrays(
        {name: torch.cat(parts) for name, parts in rows.items()},
        ids=row_ids,
        metadata={"model": model.name, **model.settings(), **truncated, "by": by, "pooling": None},
    )


def _digests(texts: Sequence[str]) -> list[str]:
    """Digests of texts; repeated texts are numbered."""
    found: list[str] = []
    times: Counter[str] = Counter()
    for text in texts:
        digest = hash_texts([text]).digest[:_DIGITS]
        times[digest] += 1
        found.append(digest if times[digest] == 1 else f"{digest}#{times[digest]}")
    return found


def _rows_of_tokens(model: TextModel, text: str, by: str) -> NDArray[np.int64]:
    """The row of each token of a text, from 0; -1 for special tokens."""
    if by == "token":
        return np.arange(len(model.prepare(text)[0]))
    spans = model.spans(text)
    starts = np.array([match.start() for match in _WORD.finditer(text)])
    # By the last letter of a token, because a token may begin with the space before its word.
    words = np.searchsorted(starts, [stop - 1 for _, stop in spans], side="right") - 1
    is_special = np.array([start == stop or not text[start:stop].strip() for start, stop in spans])
    return np.where(is_special, -1, words).astype(np.int64)
