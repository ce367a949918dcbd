"""Feature sets: several layers of one model over the same images or sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch

from relspace._core.arguments import check_choice, check_count, name_some
from relspace._core.arrays import tensor_from
from relspace._core.deprecation import warn_renamed
from relspace._core.items import ItemId, as_ids, ids_of_layers
from relspace._core.labelled_tables import without_labels
from relspace._core.matrices import as_features
from relspace._core.pairing import ItemContents
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError, UnknownNameError
from relspace.features.layer import LayerFeatures, MemorySource
from relspace.features.layouts import CLASS_SUFFIX, as_maps, check_layout
from relspace.features.positions import Positions, TokenGrid
from relspace.pictures.html import html_table
from relspace.rows.locations import locations_of_array

Images = Sequence[int] | Sequence[str] | slice | torch.Tensor


class FeatureSet:
    """Features of one model: layers by name, over the same images or sentences.

    Features on disk are read when they are asked for. Beside its layers a set may hold vectors,
    one for each item: the class token of a layer (``"layer_7.class"``) and the model's own pooled
    output (``"pooled"``).

    Parameters
    ----------
    layers : mapping of str to LayerFeatures
        The layers, in the model's order.
    vectors : mapping of str to LayerFeatures, optional
        One row for each item.
    ids : sequence of str or int, optional
        The items' ids, by which they are matched with those of other sets. Without ids they are
        matched by position.
    metadata : mapping, optional
        The origin of the features: model, preprocessing, versions.
    contents : ItemContents, optional
        The digests of the items' content. If two sets with digests are matched by position, rows of
        different content are refused; if they are matched by ids, there is a warning.
    lines : sequence of int, optional
        The line of each item in its file, from 1.

    Examples
    --------
    >>> import numpy as np
    >>> maps = np.zeros((5, 4, 4, 8), dtype="float32")
    >>> fs = FeatureSet.from_arrays({"early": maps, "late": maps[:, ::2, ::2]}, layout="bhwc")
    >>> fs
    FeatureSet(5 items; early 4 x 4 x 8, late 2 x 2 x 8)
    >>> fs["late"].shape
    (20, 8)
    >>> fs.pool("mean")["late"].shape
    (5, 8)
    """

    def __init__(
        self,
        layers: Mapping[str, LayerFeatures],
        *,
        vectors: Mapping[str, LayerFeatures] | None = None,
        ids: Sequence[ItemId] | None = None,
        metadata: Mapping[str, Any] | None = None,
        contents: ItemContents | None = None,
        lines: Sequence[int] | None = None,
    ) -> None:
        _check_layers(layers, "layers")
        if vectors is not None:
            _check_layers(vectors, "vectors")
        if not layers:
            raise InvalidInputError("layers is empty; a feature set has at least one layer.")
        self._layers = dict(layers)
        self._vectors = dict(vectors or {})
        every = self._layers | self._vectors
        counts = {name: one.n_items for name, one in every.items()}
        if len(set(counts.values())) > 1:
            raise ItemMismatchError(
                f"the layers hold different numbers of items: {counts}; they must be of the same "
                "images."
            )
        self._n_items = next(iter(counts.values()))
        self.ids = None if ids is None else as_ids(ids, "the feature set", self._n_items)
        self.metadata = MappingProxyType(dict(metadata or {}))
        self.contents = contents
        self.lines = None if lines is None else tuple(lines)
        digests = None if contents is None else contents.digests
        for known, what in ((self.lines, "lines"), (digests, "digests of their content")):
            if known is not None and len(known) != self._n_items:
                raise ItemMismatchError(
                    f"the feature set has {self._n_items} items and {len(known)} {what}."
                )

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, object],
        *,
        layout: str | Mapping[str, str] | None = None,
        ids: Sequence[ItemId] | None = None,
        n_prefix_tokens: int | None = None,
        grid_shape: tuple[int, int] | Mapping[str, tuple[int, int]] | None = None,
        image_sizes: object = None,
        boxes: object = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a feature set of arrays whose layout is declared.

        Parameters
        ----------
        arrays : mapping of str to array-like
            Features of each layer.
        layout : str, or mapping of str to str
            The axes: ``"nd"`` (items, features), ``"btd"`` (images, tokens, features),
            ``"bchw"`` (images, features, rows, columns) or ``"bhwc"`` (images, rows, columns,
            features); for all layers or for each. Only matrices need none.
        ids : sequence of str or int, optional
            The items' ids; by default the labels that tables of features bring.
        n_prefix_tokens : int, optional
            For ``"btd"``: how many tokens (class, registers) come before those of the grid. The
            first of them is kept as the class token, the others are left out.
        grid_shape : tuple of int, or mapping of str to tuple of int, optional
            For ``"btd"``: rows and columns of the grid.
        image_sizes : array-like of shape (n_images, 2), optional
            Heights and widths of the images; by default coordinates are fractions of the image.
        boxes : array-like of shape (n_images, 4), optional
            Top, left, bottom and right of the part of each image that the grid covers; by default
            the whole image.
        metadata : mapping, optional
            The origin of the features.

        Returns
        -------
        FeatureSet
            The set; features stay on their device and in their type, bfloat16 and whole numbers
            as float32.

        Raises
        ------
        InvalidInputError
            If a shape is ambiguous, or doesn't fit what is declared.
        NonFiniteError
            If features hold NaN or infinite values.
        """
        if not isinstance(arrays, Mapping):
            raise InvalidTypeError(
                f"arrays is of type {type(arrays).__name__}; it must be a mapping of layer names "
                'to features, such as {"layer_7": X}.'
            )
        layers: dict[str, LayerFeatures] = {}
        vectors: dict[str, LayerFeatures] = {}
        if ids is None:
            ids = ids_of_layers(arrays, "arrays")
        for name, given in arrays.items():
            if not isinstance(name, str):
                raise InvalidTypeError(f"arrays has the layer {name!r}; layers are named by text.")
            array, _ = tensor_from(without_labels(given, name), name)
            lies_at = locations_of_array(given)
            form = layout.get(name) if isinstance(layout, Mapping) else layout
            shape = grid_shape.get(name) if isinstance(grid_shape, Mapping) else grid_shape
            form = check_layout(name, tuple(array.shape), form)
            flat = as_features(array.reshape(len(array), -1), name)
            # float16 is checked in float32 and held as it came; arrays have no bfloat16. Whole
            # numbers are held in the float type that has all their digits.
            is_held = array.is_floating_point() and array.dtype != torch.bfloat16
            held = array.dtype if is_held else flat.tensor.dtype
            tensor = flat.tensor.to(held).reshape(tuple(array.shape))
            own_ids = None if ids is None else as_ids(ids, name, len(tensor))
            if form == "nd":
                layers[name] = LayerFeatures(name, MemorySource(tensor, lies_at), None, own_ids)
                continue
            found = as_maps(name, tensor, form, n_prefix_tokens, shape)
            tensor = found.pop(name)
            for vector, values in found.items():
                source = MemorySource(values, lies_at)
                vectors[vector] = LayerFeatures(vector, source, None, own_ids)
            grid = TokenGrid.whole(
                tensor.shape[1], tensor.shape[2], image_sizes=image_sizes, n_images=len(tensor)
            )
            if boxes is not None:
                grid = TokenGrid(grid.rows, grid.columns, torch.as_tensor(boxes), grid.image_sizes)
            if grid.n_images != len(tensor):
                raise ItemMismatchError(
                    f"{name} has {len(tensor)} images and image_sizes has {grid.n_images}."
                )
            layers[name] = LayerFeatures(name, MemorySource(tensor, lies_at), grid, None)
        return cls(layers, vectors=vectors, ids=ids, metadata=metadata)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the model's order."""
        return tuple(self._layers)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of what is held beside the layers, one row for each item."""
        return tuple(self._vectors)

    @property
    def grid(self) -> TokenGrid | None:
        """The grid of all the layers; None where there is one row for each item.

        Raises
        ------
        InvalidInputError
            If the layers have different grids: ask ``fs[layer].grid``.
        """
        grids = [layer.grid for layer in self._layers.values()]
        if any(grid != grids[0] for grid in grids[1:]):
            raise InvalidInputError(
                f"the layers have grids of their own ({self!r}): ask fs[layer].grid, or bring them "
                "to one with fs.pool((rows, columns))."
            )
        return grids[0]

    @property
    def image_sizes(self) -> torch.Tensor | None:
        """Heights and widths of the images, (n_images, 2); None where no layer has a grid."""
        grids = [layer.grid for layer in self._layers.values() if layer.grid is not None]
        return grids[0].image_sizes if grids else None

    def __len__(self) -> int:
        return self._n_items

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __contains__(self, name: object) -> bool:
        return name in self._layers or name in self._vectors

    def __getitem__(self, name: str) -> LayerFeatures:
        is_name = isinstance(name, str)
        found = (self._layers.get(name) or self._vectors.get(name)) if is_name else None
        if found is None:
            known = name_some(self.layers)
            if len(self) and self._vectors:
                known += f"; vectors: {name_some(self.vectors)}"
            raise UnknownNameError(f"there is no layer {name!r}; the layers are {known}.")
        return found

    def __repr__(self) -> str:
        model = self.metadata.get("model")
        shown = [
            f"{layer.name} "
            + ("" if layer.grid is None else f"{layer.grid.rows} x {layer.grid.columns} x ")
            + str(layer.shape[1])
            for layer in self._layers.values()
        ]
        if len(shown) > 4:
            shown[2:-1] = [f"{len(shown) - 3} more"]
        return f"FeatureSet({f'{model}: ' if model else ''}{len(self)} items; {', '.join(shown)})"

    def _repr_html_(self) -> str:
        """A table of the layers, which notebooks show."""
        rows = [
            [
                layer.name,
                *layer.shape,
                None if layer.grid is None else f"{layer.grid.rows} x {layer.grid.columns}",
                str(layer.dtype).removeprefix("torch."),
            ]
            for layer in self._layers.values()
        ]
        model = self.metadata.get("model")
        note = f"{len(self)} items, {'without ids' if self.ids is None else 'with ids'}"
        if self._vectors:
            note += f"; vectors: {', '.join(self._vectors)}"
        columns = ["layer", "rows", "features", "grid", "type"]
        return html_table(f"FeatureSet{f' of {model}' if model else ''}", columns, rows, note=note)

    def tokens(self, *, layer: str | None = None, images: Images | None = None) -> torch.Tensor:
        """Return tokens, image by image and row by row.

        Parameters
        ----------
        layer : str, optional
            The layer; optional if there is only one.
        images : sequence of int or str, slice, or tensor, optional
            Which images, by position or by id; all by default.

        Returns
        -------
        tensor of shape (n_tokens, d)
            In the dtype that they are stored in.
        """
        chosen = self[self._only_layer() if layer is None else layer]
        return chosen.tokens(None if images is None else self._positions(images))

    def read_positions(self, positions: Positions, *, layer: str | None = None) -> torch.Tensor:
        """Read a layer at positions of the images by bilinear interpolation.

        Parameters
        ----------
        positions : Positions
            Points of the images; see :func:`relspace.features.choose_positions`.
        layer : str, optional
            The layer; optional if there is only one.

        Returns
        -------
        tensor of shape (n_positions, d)
            In float32, or float64 where the features are.
        """
        return self[self._only_layer() if layer is None else layer].read_positions(positions)

    def read_places(self, places: Positions, *, layer: str | None = None) -> torch.Tensor:
        """Read a layer: the old name of :meth:`read_positions`."""
        warn_renamed("FeatureSet.read_places", "FeatureSet.read_positions")
        return self.read_positions(places, layer=layer)

    def select(
        self, *, images: Images | None = None, layers: Sequence[str] | str | None = None
    ) -> FeatureSet:
        """Return the set of some images, in the order given, or of some layers.

        Parameters
        ----------
        images : sequence of int or str, slice, or tensor, optional
            By position or by id.
        layers : str or sequence of str, optional
            Names of layers.
        """
        chosen, vectors = self._layers, self._vectors
        if layers is not None:
            names = [layers] if isinstance(layers, str) else list(layers)
            chosen = {name: self[name] for name in names}
            vectors = {
                name: vector
                for name, vector in self._vectors.items()
                if not name.endswith(CLASS_SUFFIX) or name.removesuffix(CLASS_SUFFIX) in chosen
            }
        ids, contents, lines = self.ids, self.contents, self.lines
        if images is not None:
            at = torch.arange(len(self))[self._positions(images)]
            if not len(at):
                raise InvalidInputError("images selects none of the images.")
            chosen = {name: layer.select(at) for name, layer in chosen.items()}
            vectors = {name: vector.select(at) for name, vector in vectors.items()}
            rows = at.tolist()
            ids = None if ids is None else tuple(ids[i] for i in rows)
            contents = None if contents is None else contents.select(rows)
            lines = None if lines is None else tuple(lines[i] for i in rows)
        return self._with(chosen, vectors=vectors, ids=ids, contents=contents, lines=lines)

    def _with(self, layers: Mapping[str, LayerFeatures], **changed: Any) -> FeatureSet:
        """Return a set of other layers, whose other attributes are this one's if not given."""
        own = {"ids": self.ids, "contents": self.contents, "lines": self.lines}
        return FeatureSet(layers, metadata=self.metadata, **(own | changed))

    def with_ids(self, ids: Sequence[ItemId] | None) -> FeatureSet:
        """Return the same set whose items have these ids, by which they are matched.

        Parameters
        ----------
        ids : sequence of str or int, or None
            One id for each item; with None they are matched by position, whatever their content.
        """
        named = None if ids is None else as_ids(ids, "the feature set", len(self))
        return self._with(
            {name: layer.with_ids(named) for name, layer in self._layers.items()},
            vectors={name: vector.with_ids(named) for name, vector in self._vectors.items()},
            ids=named,
            contents=None if ids is None else self.contents,
        )

    def pool(self, how: str | tuple[int, int]) -> FeatureSet:
        """Return the set with fewer tokens for each image.

        Parameters
        ----------
        how : "mean", "class" or (rows, columns)
            The mean of each image's tokens; the class token; or the maps brought to another
            resolution (bilinear, antialiased) over the same part of the image.

        Returns
        -------
        FeatureSet
            The same layers; features are read and pooled lazily.
        """
        pooled: dict[str, LayerFeatures]
        if not isinstance(how, str):
            if not isinstance(how, list | tuple) or len(how) != 2:
                raise InvalidTypeError(
                    f"how is {how!r}; it must be 'mean', 'class', or (rows, columns)."
                )
            rows, columns = (check_count(one, "how") for one in how)
            pooled = {name: one.resampled(rows, columns) for name, one in self._layers.items()}
        elif check_choice(how, "how", ("mean", "class")) == "mean":
            pooled = {name: one.averaged(self.ids) for name, one in self._layers.items()}
        else:
            without = [name for name in self._layers if name + CLASS_SUFFIX not in self._vectors]
            if without:
                raise InvalidInputError(
                    f"the layers {name_some(without)} have no class token; pool by 'mean'."
                )
            pooled = {name: self._vectors[name + CLASS_SUFFIX] for name in self._layers}
        return self._with(pooled)

    def _only_layer(self) -> str:
        if len(self._layers) > 1:
            raise InvalidInputError(
                f"there are {len(self._layers)} layers, {name_some(self.layers)}.",
                ways_out=["say which with {layer}"],
            )
        return next(iter(self._layers))

    def _positions(self, images: Images) -> slice | torch.Tensor:
        if isinstance(images, slice):
            return images
        if isinstance(images, str):
            raise InvalidTypeError(f"images is {images!r}; it must be a list of ids or positions.")
        if not isinstance(images, torch.Tensor) and any(isinstance(one, str) for one in images):
            return self._positions_of_ids([str(one) for one in images])
        try:
            at = torch.as_tensor(images)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidTypeError("images must be a list of positions or of ids.") from error
        if at.ndim != 1 or (len(at) and at.is_floating_point()) or at.dtype == torch.bool:
            raise InvalidTypeError("images must be a list of positions or of ids.")
        outside = at[(at < 0) | (at >= len(self))].tolist()
        if outside:
            raise InvalidInputError(
                f"images holds {name_some(outside)}; positions go from 0 to {len(self) - 1}."
            )
        return at.long()

    def _positions_of_ids(self, wanted: Sequence[str]) -> torch.Tensor:
        row_of = {item: row for row, item in enumerate(self.ids or ())}
        missing = [item for item in wanted if item not in row_of]
        if missing:
            held = f"its ids are {name_some(self.ids)}" if self.ids else "it has no ids"
            raise UnknownNameError(f"the set has no images {name_some(missing)}; {held}.")
        return torch.tensor([row_of[item] for item in wanted])


def _check_layers(layers: object, name: str) -> None:
    """Refuse anything but a mapping of names to features of layers."""
    if not isinstance(layers, Mapping):
        found = f"of type {type(layers).__name__}"
    else:
        odd = [key for key, one in layers.items() if not isinstance(one, LayerFeatures)]
        if not odd and all(isinstance(key, str) for key in layers):
            return
        of = type(layers[odd[0]]).__name__ if odd else ""
        found = f"a mapping whose {odd[0]!r} is of type {of}" if odd else "a mapping by other keys"
    raise InvalidTypeError(
        f"{name} is {found}; it must be a mapping of names to LayerFeatures. Of arrays, "
        "FeatureSet.from_arrays makes a set."
    )
