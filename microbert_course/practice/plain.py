"""Values as bytes and back, for talking to a process that nobody trusts: numbers, text, lists, tensors, and nothing that can run.

A JSON tree says what is where, raw arrays follow. Reading checks every length before it believes it."""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

MAGIC = b"MBV1"
MAX_TREE = 4_000_000       # bytes of the JSON tree
MAX_BYTES = 256_000_000    # bytes of all arrays together
MAX_ARRAYS = 10_000        # so many are read within a second
MAX_ALIKE = 8              # keys of a dict that share a hash: a dict of many takes hours to build
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64)}
NUMPY_DTYPES = {name: np.dtype(name) for name in DTYPES if name != "bfloat16"}


class NotPlain(ValueError):
    "A value that has no plain form, or bytes that are no plain value; the text says which."


def dump(value: Any) -> bytes:
    """Bytes from which `load` gives an equal value: None, bool, int, float, str, list, tuple, dict, tensors and NumPy arrays.

    Raises: NotPlain naming the type that has no plain form."""
    arrays: list[bytes] = []
    tree = json.dumps(_tree(value, arrays, 0)).encode()
    return MAGIC + struct.pack("<I", len(tree)) + tree + b"".join(arrays)


def _tree(value: Any, arrays: list[bytes], depth: int) -> Any:
    "The JSON of a value; its arrays are appended to `arrays`."
    if depth > 20:
        raise NotPlain("lists within lists, more than 20 deep")
    if value is None or type(value) in (bool, str):
        return value
    if isinstance(value, torch.Tensor):
        name, flat = str(value.dtype).removeprefix("torch."), value.detach().cpu().contiguous().reshape(-1)
        if name not in DTYPES:
            raise NotPlain(f"a tensor of {value.dtype}")
        arrays.append(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
        return {"a": ["torch", name, list(value.shape)]}
    if isinstance(value, np.ndarray):
        if value.dtype.name not in NUMPY_DTYPES:
            raise NotPlain(f"an array of {value.dtype}")
        arrays.append(np.ascontiguousarray(value).tobytes())
        return {"a": ["numpy", value.dtype.name, list(value.shape)]}
    if isinstance(value, np.generic):
        return _tree(value.item(), arrays, depth)
    if isinstance(value, int):
        return {"i": str(int(value))} if abs(int(value)) < 2**256 else {"f": str(math.copysign(math.inf, value))}
    if isinstance(value, float):
        return {"f": float(value).hex()}
    if isinstance(value, Mapping):
        return {"d": [[_tree(key, arrays, depth + 1), _tree(item, arrays, depth + 1)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"t" if isinstance(value, tuple) else "l": [_tree(item, arrays, depth + 1) for item in value]}
    raise NotPlain(f"a {type(value).__name__}")


def load(content: bytes) -> Any:
    """The value that `dump` wrote.

    Raises: NotPlain for anything else, whatever it is."""
    if content[:4] != MAGIC or len(content) < 8:
        raise NotPlain("no plain value")
    size = struct.unpack("<I", content[4:8])[0]
    if size > MAX_TREE or 8 + size > len(content) or len(content) - 8 - size > MAX_BYTES:
        raise NotPlain("too large, or cut short")
    rest = _Arrays(content[8 + size:])
    try:
        value = _value(json.loads(content[8:8 + size]), rest)
    except NotPlain:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, AttributeError, RuntimeError) as error:
        raise NotPlain(f"damaged ({type(error).__name__})") from None
    if rest.position != len(rest.content):
        raise NotPlain("more bytes than it says")
    return value


class _Arrays:
    "The raw bytes behind the tree, taken from front to back."

    def __init__(self, content: bytes):
        self.content, self.position, self.num_taken = content, 0, 0

    def take(self, size: int) -> bytearray:
        start, self.position, self.num_taken = self.position, self.position + size, self.num_taken + 1
        if self.num_taken > MAX_ARRAYS:
            raise NotPlain(f"more than {MAX_ARRAYS} arrays")
        if size < 0 or self.position > len(self.content):
            raise NotPlain("an array is cut short")
        return bytearray(self.content[start:self.position])


def _value(tree: Any, rest: _Arrays) -> Any:
    if tree is None or type(tree) in (bool, str):
        return tree
    (kind, inside), = tree.items()
    if kind == "i":
        return int(inside) if len(inside) < 90 else _refuse()
    if kind == "f":
        return float.fromhex(inside)
    if kind in ("l", "t"):
        items = [_value(item, rest) for item in inside]
        return tuple(items) if kind == "t" else items
    if kind == "d":
        keys = [_value(key, rest) for key, _ in inside]
        if len(set(map(hash, keys))) + MAX_ALIKE < len(keys):
            raise NotPlain("a dict whose keys share their hashes")
        return {key: _value(item, rest) for key, (_, item) in zip(keys, inside, strict=True)}
    if kind == "a":
        library, name, shape = inside
        if not all(type(size) is int and 0 <= size < 2**31 for size in shape) or len(shape) > 16 or library not in ("torch", "numpy"):
            _refuse()
        dtype = DTYPES[name]
        flat = torch.frombuffer(content, dtype=dtype) if (content := rest.take(math.prod(shape) * dtype.itemsize)) else torch.empty(0, dtype=dtype)
        array = flat.reshape(shape)
        if dtype == torch.bool:  # any byte but 0 or 1 would be a bool that no other bool is equal to
            array = array.view(torch.uint8) != 0
        return array if library == "torch" else array.numpy().astype(NUMPY_DTYPES[name])
    return _refuse()


def _refuse():
    raise NotPlain("no plain value")
