"""Text encoders and decoder language models: one vector for each text and layer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relspace._core.arguments import check_choice, name_some
from relspace._core.items import is_unicode
from relspace.errors import InvalidInputError, InvalidTypeError, RelspaceWarning
from relspace.features.evaluation import forward_pass, mixed_precision, unwrapped
from relspace.features.feature_model import Features, Inputs
from relspace.features.hooks import record_named
from relspace.features.models.blocks import BlockModel
from relspace.features.store.reading import Box

_POSITIONS = (
    "position_embeddings",
    "position_embedding",
    "positions_embed",
    "embed_positions",
    "wpe",
)
# Tokenizers without a limit have 1e30.
_NO_LIMIT = 10**9
_TOKENIZED_AT_ONCE = 1000
_NAMED_IN_RESULTS = 1000

#: How the tokens of a text become one vector.
POOLINGS = ("mean", "last", "first")

# Modules of attention and MLP in a block, by family: Llama and CLIP; BERT; DistilBERT; MPNet; T5.
# GPT-2 has none, because one layer projects to query, key and value at once.
TEXT_PARTS: Mapping[str, tuple[str, ...]] = {
    name: (
        f"self_attn.{name[0]}_proj",
        f"attention.self.{name}",
        f"attention.{name[0]}_lin",
        f"attention.attn.{name[0]}",
        f"layer.0.SelfAttention.{name[0]}",
    )
    for name in ("query", "key", "value")
} | {
    "attention": ("self_attn", "attn", "layer.0.SelfAttention"),
    "mlp": ("mlp", "ffn", "layer.1.DenseReluDense"),
}


class TruncatedTextWarning(RelspaceWarning):
    """Texts are longer than the model takes, and are cut."""


class TextModel(BlockModel):
    """A text network of transformers, whose tokens are pooled to one vector for each text.

    Layers are called as ``hidden_states`` counts them: ``layer_0`` goes into the first block and
    ``layer_i`` comes out of block i, before any final norm. ``layer_3.key`` is the key of the block
    that gives ``layer_3``.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
        The tokenizer of the network.
    pooling : {"mean", "last", "first"}
        The mean over the text's tokens (without padding), its last token, or its first (the class
        token of encoders that have one).
    """

    modality = "text"

    def __init__(
        self,
        name: str,
        module: nn.Module,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name = name
        self.module = unwrapped(module)
        self.device, self.dtype = device, dtype
        self.pooling = check_choice(pooling, "pooling", POOLINGS)
        self._tokenizer = tokenizer
        config: Any = self.module.config
        n_blocks = getattr(config, "num_hidden_layers", None) or getattr(config, "num_layers", None)
        if not isinstance(n_blocks, int):
            raise InvalidInputError(
                f"the configuration of {type(self.module).__name__} doesn't say how many blocks it "
                "has (num_hidden_layers); extract it as a module, with layers by name."
            )
        self._find_blocks(n_blocks, TEXT_PARTS, type(self.module).__name__)
        self._max_length = longest_text(self.module, tokenizer)

    def prepare(self, item: str) -> tuple[NDArray[np.int64], None]:
        check_text(item)
        tokens = self._cut(item)["input_ids"]
        if not tokens:
            raise InvalidInputError(f"the tokenizer of {self.name} makes no token of {item!r:.60}.")
        return np.asarray(tokens, dtype=np.int64), None

    def find_truncated(self, texts: Iterable[str]) -> dict[int, int]:
        """Return which texts are longer than the network takes, by position, and their tokens."""
        counts: dict[int, int] = {}
        for start, batch in _batches(texts, _TOKENIZED_AT_ONCE):
            for text in batch:
                check_text(text)
            if self._max_length is None:
                continue
            found = self._tokenizer(batch, verbose=False)["input_ids"]
            counts |= {
                start + i: len(tokens)
                for i, tokens in enumerate(found)
                if len(tokens) > self._max_length
            }
        return counts

    def describe_truncated(self, texts: Iterable[str], names: Sequence[str]) -> dict[str, Any]:
        """Warn of texts that are cut, and return the entries of a set's metadata on them.

        ``n_truncated`` is the number of these texts, ``n_tokens_cut`` the number of tokens that
        are dropped from them, and ``truncated`` the names of the first 1,000.
        """
        counts = self.find_truncated(texts)
        if not counts or self._max_length is None:
            return {"n_truncated": 0}
        cut = [names[i] for i in counts]
        lost = sum(counts.values()) - self._max_length * len(counts)
        warnings.warn(
            TruncatedTextWarning(
                f"{len(counts)} of {len(names)} texts are longer than the {self._max_length} "
                f"tokens that {self.name} takes, and are cut there: {name_some(cut)}. The longest "
                f"has {max(counts.values())} tokens; {lost} of all tokens are left out.",
                ways_out=["split long texts first"],
            ),
            stacklevel=3,
        )
        return {
            "n_truncated": len(counts),
            "n_tokens_cut": lost,
            "truncated": cut[:_NAMED_IN_RESULTS],
        }

    def forward(
        self, inputs: Inputs, names: Sequence[str], *, dtype: torch.dtype | None = None
    ) -> Features:
        """Return one vector for each text by layer, shape (b, d)."""
        states, mask = self.token_states(inputs, names)
        pooled = {name: self._pool(one, mask) for name, one in states.items()}
        return {name: one.to(dtype or one.dtype) for name, one in pooled.items()}

    def token_states(self, inputs: Inputs, names: Sequence[str]) -> tuple[Features, torch.Tensor]:
        """Return the tokens of a batch by layer, (b, t, d), and which are no padding, (b, t)."""
        lengths = torch.tensor([len(one) for one in inputs])
        tokens = torch.zeros(len(inputs), int(lengths.max()), dtype=torch.long)
        # Padded on the right, where causal attention doesn't see it.
        mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        for row, one in zip(tokens, inputs, strict=True):
            row[: len(one)] = torch.from_numpy(one)
        mask = mask.to(self.device)
        self._refuse_unknown_tokens(tokens)
        where = {name: self.hook(name) for name in names}
        with (
            forward_pass(self.module, self.device),
            record_named(self.module, where) as recorded,
        ):
            with mixed_precision(self.device, self.dtype):
                self.module(input_ids=tokens.to(self.device), attention_mask=mask.long())
            return {name: recorded(name) for name in names}, mask

    def spans(self, item: str) -> list[tuple[int, int]]:
        """Return where in a text each of its tokens begins and ends; special ones are empty."""
        if not getattr(self._tokenizer, "is_fast", False):
            raise InvalidInputError(
                f"the tokenizer of {self.name} doesn't say where its tokens are in a text."
            )
        cut = self._cut(item, return_offsets_mapping=True)
        return [(int(start), int(stop)) for start, stop in cut["offset_mapping"]]

    def _cut(self, item: str, **options: Any) -> Any:
        if self._max_length is None:
            return self._tokenizer(item, **options)
        return self._tokenizer(item, truncation=True, max_length=self._max_length, **options)

    def regions(
        self, features: Mapping[str, torch.Tensor], input_shape: tuple[int, ...]
    ) -> dict[str, Box]:
        return {}

    def blank(self) -> NDArray[np.int64]:
        return self.prepare("a")[0]

    def settings(self) -> dict[str, Any]:
        return {
            "family": "text",
            "architecture": type(self.module).__name__,
            "pooling": self.pooling,
            "max_tokens": self._max_length,
        }

    def _refuse_unknown_tokens(self, tokens: torch.Tensor) -> None:
        module: Any = self.module
        known = getattr(module.get_input_embeddings(), "num_embeddings", None)
        if known is not None and int(tokens.max()) >= known:
            raise InvalidInputError(
                f"the tokenizer of {self.name} makes tokens up to number {int(tokens.max())}, and "
                f"the network knows {known}: they are not of the same model."
            )

    def _pool(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "first":
            return tokens[:, 0]
        if self.pooling == "last":
            return tokens[torch.arange(len(tokens)), mask.sum(dim=1) - 1]
        weights = mask[..., None].to(torch.float32)
        return (tokens.float() * weights).sum(dim=1) / weights.sum(dim=1)


def check_text(item: object) -> None:
    """Refuse what is no text, or an empty one."""
    if not isinstance(item, str):
        raise InvalidTypeError(
            f"a text is of type {type(item).__name__} ({item!r:.60}); texts are strings."
        )
    if not item.strip():
        raise InvalidInputError(f"a text is {item!r}; texts must not be empty.")
    if not is_unicode(item):
        raise InvalidInputError(
            f"the text {item!a:.60} holds halves of characters (surrogates), which can't be "
            "written as UTF-8: decode it from its bytes again."
        )


def longest_text(module: nn.Module, tokenizer: Any) -> int | None:
    """Return how many tokens a network of transformers takes; None where there is no limit.

    That is the minimum of the tokenizer's limit, ``max_position_embeddings``, and the rows of the
    position embedding. RoBERTa's positions start after the padding index, so that 514 rows are
    enough for 512 tokens; OPT's start at ``offset``.
    """
    config: Any = module.config
    limits = [int(tokenizer.model_max_length)]
    limits += [int(one) for one in [getattr(config, "max_position_embeddings", None)] if one]
    for name, one in module.named_modules():
        called = name.rpartition(".")[2]
        rows = getattr(one, "weight", None)
        if called not in _POSITIONS or not isinstance(rows, torch.Tensor) or rows.ndim != 2:
            continue
        padding, offset = getattr(one, "padding_idx", None), getattr(one, "offset", None)
        first = int(offset) if offset is not None else 0 if padding is None else int(padding) + 1
        limits.append(rows.shape[0] - first)
    longest = min(limits)
    return None if longest >= _NO_LIMIT else longest


def _batches(texts: Iterable[str], size: int) -> Iterator[tuple[int, list[str]]]:
    left, start = iter(texts), 0
    while batch := list(islice(left, size)):
        yield start, batch
        start += len(batch)
