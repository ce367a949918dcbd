"""Identity of a network besides its weights: a hash of its settings, hooks and live code.

Everything that a forward pass may read is followed from the model's attributes: instances,
containers, functions with their defaults, closures, and the globals that their bytecode names. Code
of installed packages is identified by the package's version. It fails closed: a network that refers
to any object whose state can't be read is unidentified.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import hashlib
import importlib
import importlib.util
import io
import json
import re
import sys
import types
import weakref
import zipfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from logging import Logger
from typing import Any

import numpy as np
import torch
from torch import nn

from relspace.errors import InvalidTypeError
from relspace.features.evaluation import unwrapped
from relspace.features.installed_code import (
    is_found_in_its_module,
    is_users,
    is_users_module,
    package_of,
    package_of_function,
    version_of,
)
from relspace.rows.identity import Identity, hash_array, identify_file

#: A network that refers to more objects is unidentified.
MOST_OBJECTS = 200_000

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented))
_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme)
_CONTAINERS = (list, tuple, torch.Size, dict, OrderedDict, defaultdict, types.MappingProxyType)
_BASES: tuple[Any, ...] = (OrderedDict, dict, list, tuple, set, frozenset, str, bytes, int, float)
_METHODS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_DESCRIPTORS = (*_METHODS, types.GetSetDescriptorType, types.MemberDescriptorType)
# Attributes of modules that are hashed with the weights, or are not used in a forward pass.
_NOT_OF_THE_PASS = frozenset({
    *("training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_compiled_call_impl"),
    *("_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
})  # fmt: skip
# Attributes that Python adds to a class.
_NOT_OF_A_CLASS = frozenset({
    *("__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__slotnames__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__firstlineno__", "__static_attributes__", "__type_params__", "__match_args__"),
    *("__abstractmethods__", "_abc_impl", "__orig_bases__", "__parameters__"),
    *("__dataclass_fields__", "__dataclass_params__"),
})  # fmt: skip
# Locations that transformers and diffusers loaded an object from; they don't change features.
_NOT_OF_AN_OBJECT = frozenset({
    *("_name_or_path", "name_or_path", "_commit_hash", "deprecation_warnings"),
    *("_use_default_values", "vocab_file", "merges_file", "tokenizer_file"),
})  # fmt: skip
_MAKES = ("__init__", "__new__")
_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_STORES = ("STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "STORE_NAME", "DELETE_GLOBAL")
# Code that uses these names may read any attribute, or run any code.
_READS_ANY = frozenset({"getattr", "hasattr", "vars", "__dict__", "attrgetter", "methodcaller"})
_RUNS_ANY = frozenset({"eval", "exec", "globals", "__import__"})
_MANGLED = re.compile(rb"[./]?___torch_mangle_\d+")


class _UnidentifiedError(Exception):
    """The network refers to an object whose state can't be read."""


def _unreadable(thing: object, label: str) -> _UnidentifiedError:
    kind = type(thing)
    return _UnidentifiedError(f"{label} is of type {kind.__module__}.{kind.__qualname__}")


def identify_network(
    kind: type, attributes: Mapping[str, object], network: nn.Module | None
) -> Identity:
    """Return the identity of a model without its weights, which is the same in any process.

    It covers the model's class and the given ``attributes``. Weights and buffers of the network
    (None if torch doesn't run it) are identified by their names.
    """
    weights: dict[str, torch.Tensor] = {}
    if network is not None:
        weights |= dict(network.named_parameters(remove_duplicate=False))
        weights |= dict(network.named_buffers(remove_duplicate=False))
    try:
        return _Walk({id(tensor): name for name, tensor in weights.items()}).run(kind, attributes)
    except _UnidentifiedError as error:
        return Identity.unidentified(str(error))
    except RecursionError:
        return Identity.unidentified("its containers are nested too deeply")


def what_changed_in_network(before: Identity, now: Identity) -> str:
    """Say what differs between two known identities of networks."""
    old, new = (one.detail.get("packages", {}) for one in (before, now))
    updated = [
        f"{name} was {old.get(name, 'not used')} and is {new.get(name, 'not used')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    names = {"code": "the code that it runs", "state": "its settings or hooks"}
    changed = [said for key, said in names.items() if before.detail.get(key) != now.detail.get(key)]
    return ", ".join(updated or changed)


@dataclass(frozen=True)
class _Attribute:
    """An attribute of a user's module, which is part of the identity if code uses its name."""

    digest: str
    number: int
    name: str
    value: object
    label: str
    owner: type | None = None


class _Walk:
    """One walk over a network; objects are numbered when they are found, so that cycles end."""

    def __init__(self, weights: Mapping[int, str]) -> None:
        self._weights = weights
        self._digests = {name: hashlib.blake2b(digest_size=16) for name in ("state", "code")}
        self._packages: dict[str, str] = {}
        # With the objects themselves, because ids of deleted objects are reused.
        self._met: dict[int, tuple[int, object]] = {}
        self._queue: deque[tuple[object, str]] = deque()
        self._open: set[int] = set()
        self._waiting: list[_Attribute] = []
        self._named: set[str] = set()
        self._all_are_named = False
        self._made: set[type] = set()
        self._looked_through: set[str] = set()

    def run(self, kind: type, attributes: Mapping[str, object]) -> Identity:
        """Walk over a model, and return its identity."""
        self._write("state", "model", self._number(kind, "the model"))
        for name, value in sorted(attributes.items()):
            self._write("state", name, self._token(value, name))
        for name in ("_global_forward_pre_hooks", "_global_forward_hooks"):
            hooks = vars(nn.modules.module)[name].values()
            self._write("state", *(self._token(one, "a hook of all modules") for one in hooks))
        self._write("state", str(torch.get_default_dtype()), torch.get_float32_matmul_precision())
        for module in ("torch", "torch.nn.functional"):
            self._write("code", *self._replaced_in(module))
        self._token(torch.Tensor, "tensors")
        self._empty_queue()
        while ready := [one for one in self._waiting if self._is_named(one)]:
            self._waiting = [one for one in self._waiting if not self._is_named(one)]
            for one in ready:
                token = self._token(one.value, one.label)
                self._write(one.digest, f"#{one.number}", one.name, token)
            self._empty_queue()
        detail = {name: one.hexdigest() for name, one in self._digests.items()}
        whole = json.dumps([detail, self._packages], sort_keys=True)
        digest = hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
        return Identity("content", digest, {**detail, "packages": self._packages})

    def _is_named(self, one: _Attribute) -> bool:
        return self._all_are_named or one.name in self._named or one.owner in self._made

    def _write(self, digest: str, *tokens: str) -> None:
        self._digests[digest].update("\0".join((*tokens, "\n")).encode("utf-8", "backslashreplace"))

    def _empty_queue(self) -> None:
        while self._queue:
            thing, label = self._queue.popleft()
            number = self._met[id(thing)][0]
            is_code = isinstance(thing, type | types.FunctionType)
            content = self._content(thing, label, number)
            self._write("code" if is_code else "state", f"#{number}", *content)

    def _of_package(self, module: str) -> str | None:
        """The package of a module, whose version is then part of the identity."""
        package = package_of(module)
        if package is not None:
            self._packages[package] = version_of(package)
        return package

    # A value as text; objects that refer to others get a number and are queued.

    def _token(self, value: Any, label: str) -> str:
        kind = type(value)
        if kind in _ATOMS:
            return f"{kind.__name__} {value!r}"
        if kind in _NAMED:
            return f"{kind.__name__} {value}"
        if kind in _CONTAINERS:
            return self._token_of_container(value, label)
        if kind in (set, frozenset):
            return f"{kind.__name__} {sorted(self._token_in_set(one, label) for one in value)}"
        if isinstance(value, torch.Tensor):
            return self._token_of_tensor(value, label)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return f"{self._number(kind, label)} {value.shape} {hash_array(value).digest}"
        if isinstance(value, types.MethodType):
            return f"{self._token(value.__func__, label)} of {self._token(value.__self__, label)}"
        if isinstance(value, types.BuiltinMethodType | types.MethodWrapperType):
            return self._token_of_builtin(value, label)
        if isinstance(value, types.ModuleType):
            if self._of_package(value.__name__) is None:
                raise _UnidentifiedError(f"{label} is the Python module {value.__name__}")
            return f"module {value.__name__}"
        if isinstance(value, type):
            # Code that can use a class can make instances of it.
            self._made |= {*value.__mro__}
            return self._number(value, label)
        return self._number(unwrapped(value) if isinstance(value, nn.Module) else value, label)

    def _number(self, thing: object, label: str) -> str:
        if id(thing) not in self._met:
            if len(self._met) >= MOST_OBJECTS:
                raise _UnidentifiedError(
                    f"it leads to more than {MOST_OBJECTS} objects, as {label}"
                )
            self._met[id(thing)] = len(self._met), thing
            self._queue.append((thing, label))
        return f"#{self._met[id(thing)][0]}"

    def _token_of_container(self, value: Any, label: str) -> str:
        is_mapping = isinstance(value, Mapping)
        if not is_mapping and {*map(type, value)}.issubset(_ATOMS):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._open:
            return "a container that it is in"
        self._open.add(id(value))
        if is_mapping:
            found = [
                f"{self._token(key, label)}: {self._token(one, f'{label}[{key!r:.40}]')}"
                for key, one in value.items()
                if not (isinstance(key, str) and key in _NOT_OF_AN_OBJECT)
            ]
        else:
            found = [self._token(one, f"{label}[{i}]") for i, one in enumerate(value)]
        if isinstance(value, defaultdict):
            found.append(self._token(value.default_factory, label))
        self._open.discard(id(value))
        return f"{type(value).__name__} {found}"

    def _token_in_set(self, value: Any, label: str) -> str:
        # A set has no fixed order, so that objects in it can't be numbered.
        if type(value) in (*_ATOMS, *_NAMED):
            return self._token(value, label)
        if type(value) in (tuple, frozenset):
            found = [self._token_in_set(one, label) for one in value]
            return str(found if type(value) is tuple else sorted(found))
        if isinstance(value, type | types.FunctionType) and is_found_in_its_module(value):
            name = f"{value.__module__}.{value.__qualname__}"
            if self._of_package(value.__module__) is not None:
                return name
        raise _unreadable(value, f"what is in the set {label}")

    def _token_of_tensor(self, tensor: torch.Tensor, label: str) -> str:
        if id(tensor) in self._weights:
            return f"weight {self._weights[id(tensor)]}"
        plain = tensor.detach()
        if plain.is_meta:
            return f"tensor without values {plain.dtype} {tuple(plain.shape)}"
        try:
            plain = plain.dequantize() if plain.is_quantized else plain
            digest = hash_array(plain if plain.layout == torch.strided else plain.to_dense()).digest
        except (InvalidTypeError, RuntimeError, TypeError) as error:
            raise _unreadable(tensor, label) from error
        kind = "" if type(tensor) is torch.Tensor else self._number(type(tensor), label)
        own = self._token(dict(vars(tensor)), label) if getattr(tensor, "__dict__", None) else ""
        return f"tensor {kind} {tensor.dtype} {digest} {own}"

    def _token_of_builtin(self, function: Any, label: str) -> str:
        owner = function.__self__
        if owner is not None and not isinstance(owner, types.ModuleType):
            return f"{function.__name__} of {self._token(owner, label)}"
        module = function.__module__ if owner is None else owner.__name__
        return f"{self._name_compiled(module, function, label)} {function.__qualname__}"

    def _name_compiled(self, module: str | None, thing: object, label: str) -> str:
        """Name a module of compiled code, with a hash of its file if it isn't installed."""
        name = module or "builtins"
        if self._of_package(name) is not None:
            return name
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or file.endswith(".py"):
            raise _unreadable(thing, label)
        return f"{name} {identify_file(file).digest}"

    # The content of a numbered object.

    def _content(self, thing: Any, label: str, number: int) -> list[str]:
        if isinstance(thing, types.FunctionType):
            return self._content_of_function(thing, label)
        if isinstance(thing, type):
            return self._content_of_class(thing, label, number)
        if isinstance(thing, torch.jit.ScriptModule):
            return ["script", _digest_of_script(thing), *self._hooks_of(thing, label)]
        if isinstance(thing, nn.Module):
            return self._content_of_module(thing, label, number)
        return self._content_of_object(thing, label)

    def _content_of_module(self, module: nn.Module, label: str, number: int) -> list[str]:
        found = [self._number(type(module), label)]
        for tensors in (module._parameters, module._buffers):
            found += [f"{name} {self._token(one, label)}" for name, one in tensors.items()]
        for name, one in module._modules.items():
            found.append(f"{name} {self._token(one, f'{label}.{name}')}")
        found += self._hooks_of(module, label)
        is_users = is_users_module(type(module))
        for name, value in sorted(vars(module).items()):
            if name in _NOT_OF_THE_PASS or name in _NOT_OF_AN_OBJECT:
                continue
            own = f"{label}.{name}"
            if is_users and not hasattr(nn.Module, name):
                self._waiting.append(_Attribute("state", number, name, value, own))
            else:
                found.append(f"{name} {self._token(value, own)}")
        return found

    def _hooks_of(self, module: nn.Module, label: str) -> Iterator[str]:
        for kind in ("_forward_pre_hooks", "_forward_hooks"):
            with_kwargs = vars(module).get(f"{kind}_with_kwargs", {})
            for key, hook in vars(module)[kind].items():
                if not _is_of_recording(hook):
                    yield f"{kind} {key in with_kwargs} {self._token(hook, f'a hook of {label}')}"

    def _content_of_function(self, function: types.FunctionType, label: str) -> list[str]:
        package = package_of_function(function)
        if package is not None:
            module = str(function.__globals__["__name__"])
            self._of_package(module)
            if is_found_in_its_module(function):
                return ["function", module, function.__qualname__]
        original = vars(function).get("_torchdynamo_orig_callable")
        if original is not None:
            # Compiled functions run as Python.
            return ["compiled", self._token(original, label)]
        own = f"function {function.__qualname__}"
        found = self._content_of_code(
            function.__code__, function.__globals__ if package is None else None, own
        )
        for value in (function.__defaults__, function.__kwdefaults__, dict(vars(function))):
            found.append(self._token(value, f"a default of {own}"))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                found.append(self._token(cell.cell_contents, f"{name!r} in {own}"))
            except ValueError:
                found.append("a variable without a value")
        return found

    def _content_of_code(
        self, code: types.CodeType, namespace: Mapping[str, Any] | None, label: str
    ) -> list[str]:
        """Bytecode and constants; of the user's code (with a namespace) also its globals."""
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_freevars, code.co_cellvars
        found = [str(counts), str(names), code.co_code.hex(), code.co_exceptiontable.hex()]
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                found += self._content_of_code(constant, namespace, label)
            else:
                found.append(self._token(constant, label))
        return found + (self._follow_names(code, namespace, label) if namespace is not None else [])

    def _follow_names(
        self, code: types.CodeType, namespace: Mapping[str, Any], label: str
    ) -> list[str]:
        names = {*code.co_names}
        loaded: set[str] = set()
        imported: set[tuple[int, str]] = set()
        before: list[Any] = [0, 0]
        for one in dis.get_instructions(code):
            if one.opname in _GLOBALS:
                loaded.add(one.argval)
            elif one.opname == "IMPORT_NAME":
                imported.add((before[0], one.argval))
            if one.opname not in _STORES and one.argval.__hash__ is not None:
                self._named |= names & {one.argval}
            before = [before[1], one.argval]
        self._all_are_named |= bool(names & _READS_ANY)
        found = []
        for name in sorted(loaded):
            own = f"{name!r}, which {label} names,"
            if name not in namespace:
                if name in _RUNS_ANY:
                    raise _UnidentifiedError(f"{label} calls {name}(), which may run any code")
                found.append(f"{name} {hasattr(builtins, name)}")
            elif isinstance(namespace[name], types.ModuleType):
                found += self._follow_python_module(namespace[name], names, own)
            else:
                found.append(f"{name} {self._token(namespace[name], own)}")
        for level, name in sorted(imported):
            full = name
            if level:
                package = str(namespace.get("__package__") or "")
                full = importlib.util.resolve_name("." * level + name, package)
            if self._of_package(full) is None or full in sys.modules:
                # The pass would import it, too.
                try:
                    found += self._follow_python_module(
                        importlib.import_module(full), names, f"{full!r}, which {label} imports,"
                    )
                except ImportError:
                    found.append(f"no module {full}")
        return found

    def _follow_python_module(
        self, module: types.ModuleType, names: set[str], label: str
    ) -> list[str]:
        """The attributes of a Python module that code may read: those whose names it uses."""
        is_installed = self._of_package(module.__name__) is not None
        named = sorted(name for name in names if name in vars(module))
        if not is_installed and (not named or names & _READS_ANY):
            raise _UnidentifiedError(f"{label} is a Python module that may be read by any name")
        if "import_module" in named:
            raise _UnidentifiedError(f"{label} imports modules whose names are made as it runs")
        found = [f"module {module.__name__}"]
        for name in named:
            value = vars(module)[name]
            if is_installed and not is_users(value):
                continue
            if isinstance(value, types.ModuleType):
                inside = names - {name}
                found += self._follow_python_module(value, inside, f"{label} with its {name}")
            else:
                found.append(f"{name} {self._token(value, f'{name!r} of {label}')}")
        return found

    def _content_of_class(self, kind: type, label: str, number: int) -> list[str]:
        title = f"class {kind.__qualname__}"
        if _is_compiled(kind):
            return [title, self._name_compiled(kind.__module__, kind, label)]
        bases = [self._number(base, label) for base in kind.__bases__]
        package = self._of_package(kind.__module__) if is_found_in_its_module(kind) else None
        if package is not None:
            found = [title, kind.__module__, *bases]
            if package == "relspace":
                return found
            if issubclass(kind, nn.Module) and kind is not nn.Module:
                for one in vars(kind).values():
                    if isinstance(one, types.FunctionType):
                        self._named |= {*one.__code__.co_names}
                found += self._replaced_in(kind.__module__)
            return found + self._users_values(vars(kind), title)
        found = [title, *bases, self._number(type(kind), label)]
        if issubclass(kind, Enum):
            members = {name: one._value_ for name, one in kind.__members__.items()}
            return [*found, self._token(members, title), *self._users_values(vars(kind), title)]
        is_users = issubclass(kind, nn.Module) and is_users_module(kind)
        for name, value in sorted(vars(kind).items()):
            if name in _NOT_OF_A_CLASS:
                continue
            own = f"{title}.{name}"
            if is_users and name in _MAKES:
                self._waiting.append(_Attribute("code", number, name, value, own, kind))
            elif is_users and not name.startswith("__") and not hasattr(nn.Module, name):
                self._waiting.append(_Attribute("code", number, name, value, own))
            else:
                found.append(f"{name} {self._token(value, own)}")
        return found

    def _replaced_in(self, module: str) -> list[str]:
        """Attributes that the user replaced in an installed Python module."""
        if module in self._looked_through or module not in sys.modules:
            return []
        self._looked_through.add(module)
        return self._users_values(vars(sys.modules[module]), module)

    def _users_values(self, values: Mapping[str, object], label: str) -> list[str]:
        return [
            f"{name} {self._token(value, f'{label}.{name}')}"
            for name, value in sorted(values.items())
            if name not in _NOT_OF_A_CLASS and is_users(value)
        ]

    def _content_of_object(self, thing: Any, label: str) -> list[str]:
        kind = type(thing)
        found = [self._number(kind, label)]
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(thing, Logger):
            return [*found, thing.name]
        if name in ("_thread.lock", "_thread.RLock"):
            return found
        if isinstance(thing, Enum):
            return [*found, thing._name_]
        if isinstance(thing, torch.Generator):
            return [*found, self._token(thing.get_state(), label)]
        if isinstance(thing, _DESCRIPTORS):
            owner = self._number(thing.__objclass__, label)
            return [*found, owner, thing.__name__]
        if isinstance(thing, property):
            return found + [self._token(one, label) for one in (thing.fget, thing.fset, thing.fdel)]
        if isinstance(thing, staticmethod | classmethod):
            return [*found, self._token(thing.__func__, label)]
        if name == "functools._lru_cache_wrapper":
            return [*found, self._token(thing.__wrapped__, label)]
        if isinstance(thing, weakref.ref):
            return [*found, self._token(thing(), label)]
        if name == "tokenizers.Tokenizer":
            # Truncation and padding depend on the last call.
            state = json.loads(thing.to_str()) | {"truncation": None, "padding": None}
            return [*found, json.dumps(state, sort_keys=True)]
        for base in _BASES:
            if isinstance(thing, base) and _has_no_hidden_state(kind, base):
                # Without the methods of the subclass.
                plain = dict(dict.items(thing)) if isinstance(thing, dict) else base(thing)
                return [*found, self._token(plain, label), *self._attributes_of(thing, label)]
        if _has_no_hidden_state(kind, object):
            return [*found, *self._attributes_of(thing, label)]
        return found + self._content_by_pickling(thing, label)

    def _attributes_of(self, thing: Any, label: str) -> Iterator[str]:
        own = dict(getattr(thing, "__dict__", {}))
        for name in copyreg._slotnames(type(thing)):  # type: ignore[attr-defined]
            if hasattr(thing, name):
                own[name] = getattr(thing, name)
        for name, value in sorted(own.items()):
            if name not in _NOT_OF_AN_OBJECT:
                yield f"{name} {self._token(value, f'{label}.{name}')}"

    def _content_by_pickling(self, thing: Any, label: str) -> list[str]:
        """The content of an object of compiled code, by the pickle protocol."""
        reduce = copyreg.dispatch_table.get(type(thing))
        try:
            found = thing.__reduce_ex__(4) if reduce is None else reduce(thing)
        except Exception as error:
            # Pickling may raise nearly anything.
            raise _unreadable(thing, label) from error
        if isinstance(found, str):
            if self._of_package(str(getattr(thing, "__module__", ""))) is None:
                raise _unreadable(thing, label)
            return [found]
        make, given, state, items, entries = (*found, None, None, None)[:5]
        listed = [None if one is None else [*one] for one in (items, entries)]
        return [self._token(one, label) for one in (make, given, state, *listed)]


def _is_compiled(kind: type) -> bool:
    """Whether a class is written in another language than Python."""
    return any(
        (isinstance(one, _METHODS) and one.__objclass__ is kind)
        or type(one).__name__ == "instancemethod"
        for one in vars(kind).values()
    )


def _has_no_hidden_state(kind: type, base: type) -> bool:
    """Whether instances add nothing but attributes and slots to the state of a base."""
    size = base.__basicsize__ + 8 * len(copyreg._slotnames(kind))  # type: ignore[attr-defined]
    # Negative offsets are before the instance, and not part of its size.
    size += 8 * (kind.__dictoffset__ > 0) + 8 * (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ <= size and kind.__itemsize__ == base.__itemsize__


def _is_of_recording(hook: object) -> bool:
    """Whether a hook records layers, which doesn't change features."""
    namespace = hook.__globals__ if isinstance(hook, types.FunctionType) else {}
    return str(namespace.get("__name__", "")).startswith("relspace.features.")


def _digest_of_script(module: torch.jit.ScriptModule) -> str:
    """A digest of saved TorchScript, without the running numbers of its classes."""
    file = io.BytesIO()
    torch.jit.save(module, file)
    with zipfile.ZipFile(file) as archive:
        found = sorted(
            [_MANGLED.sub(b"", part) for part in (name.encode(), archive.read(name))]
            for name in archive.namelist()
            if not name.endswith((".debug_pkl", "serialization_id"))
        )
    return hashlib.blake2b(repr(found).encode(), digest_size=16).hexdigest()
