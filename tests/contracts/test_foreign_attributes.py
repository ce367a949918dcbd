"""Attributes are asked for by name on objects of other libraries only, never on relspace's own.

What all objects of a kind have is declared by their class. ``getattr`` and ``hasattr`` are for
what another library may or may not have, as it differs by version and by kind of object.
"""

import ast
from pathlib import Path

import relspace

ROOT = Path(relspace.__file__).parent

#: For each module, the attributes it may ask for; a name that isn't constant is as it is written.
ALLOWED = {
    # Arrays, tables and ids of any library.
    "_core/arrays.py": {
        *("__array__", "__cuda_array_interface__", "__dlpack__", "shape"),
        *("isna", "to_numpy", "columns", "name", "kind", "numpy_dtype", "subtype"),
        *("column_names", "null_count"),
    },
    "_core/items.py": {"shape", "convert"},
    "_core/labelled_tables.py": {"compute", "nlevels", "one", "toarray"},
    "rows/registry.py": {"__array__", "one"},
    "similarity/model_layers.py": {"shape"},
    "rows/formats/dask.py": {"dask"},
    # A group of Zarr has no shape.
    "features/store/reading.py": {"shape"},
    # Lists of images and data sets of images.
    "features/decoding.py": {"tile"},
    "features/images.py": {"column_names", "features"},
    # Types and settings of torch by their names, and those that its versions differ in.
    "kernels/precision.py": {"fp32_precision"},
    "space/stored_sets.py": {"name"},
    "features/extraction_chunks.py": {"self.store_dtype"},
    # Networks, their configurations and outputs.
    "features/evaluation.py": {"name", "_compiled_call_impl", "_torchdynamo_orig_callable"},
    "features/hooks.py": {"_is_replica", "field.name"},
    "features/models/dino.py": {"num_register_tokens"},
    "features/models/exported.py": {"_schema", "id", "name"},
    "features/models/folders.py": {"architecture"},
    "features/models/loading.py": {"dtype"},
    "features/models/networks.py": {
        *("visual", "trunk", "patch_embed", "img_size", "grid_size", "image_size", "one"),
        *("preprocess_cfg", "pretrained_cfg", "dynamic_img_size", "value", "output_fmt"),
        *("num_prefix_tokens", "feature_info", "reroll", "unroll"),
    },
    "features/models/onnx.py": {"kind"},
    "features/models/processors.py": {"one", "value"},
    "features/models/sam.py": {"backbone_config"},
    "features/models/text.py": {
        *("num_hidden_layers", "num_layers", "is_fast", "num_embeddings", "weight", "offset"),
        *("max_position_embeddings", "padding_idx"),
    },
    "features/models/vision.py": {"image_size", "pooler_output"},
    # Code and objects of users, whose identity is taken.
    "features/network_identity.py": {
        *("__dict__", "__file__", "__module__", "name"),
    },
    "features/installed_code.py": {
        *("__file__", "__spec__", "__version__", "origin", "submodule_search_locations"),
    },
    # By names that are listed: parameters and results of what is fitted, what a package exports,
    # and the fields of a data class.
    "_core/fitting.py": {"name"},
    "__init__.py": {"name"},
    "features/preprocessing.py": {"name"},
}


def asked_for(code: str) -> set[str]:
    """The attributes that code asks for by getattr or hasattr."""
    calls = [
        node.args[1]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
    ]
    return {str(one.value) if isinstance(one, ast.Constant) else ast.unparse(one) for one in calls}


def test_attributes_are_asked_for_by_name_on_foreign_objects_only() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): asked_for(path.read_text("utf-8"))
        for path in ROOT.rglob("*.py")
    }
    new = {
        module: sorted(names - ALLOWED.get(module, set()))
        for module, names in found.items()
        if names - ALLOWED.get(module, set())
    }
    assert not new, (
        f"{new}: declare these attributes in a base class or protocol; if the objects are another "
        "library's, list them in ALLOWED."
    )


def test_an_attribute_asked_for_is_found() -> None:
    assert asked_for("hasattr(x, 'a') or getattr(y, name, None)") == {"a", "name"}
