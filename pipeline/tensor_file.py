"""Tensors and a text as a safetensors file.

In: tensors and arrays by name, and texts by name. Out: the bytes of a file that any safetensors reader opens.

The library's own writer (safetensors 0.8.0) is not used: for every size in bytes that it has not met it has ctypes make two
types, which are never freed: 4.5 kB each time something that grows is saved.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# name of a dtype -> what the format calls it
DTYPES = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}
_ALIGNED = 8  # bytes


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor on its way into a file: the name of its dtype, its shape, its values in C order, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def pack_array(array: np.ndarray[Any, np.dtype[Any]]) -> Packed:
    """Take the values out of an array of one of `DTYPES`."""
    return Packed(array.dtype.name, array.shape, array.tobytes())


def pack_tensor(tensor: Tensor) -> Packed:
    """Take the values out of a dense tensor of one of `DTYPES`."""
    dtype, values = str(tensor.dtype).removeprefix("torch."), tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which NumPy has not
        values = values.view(torch.uint16)
    return Packed(dtype, tuple(tensor.shape), values.numpy().tobytes())


def lay_out(tensors: Mapping[str, Packed], texts: Mapping[str, str]) -> bytearray:
    """Return the bytes of a file: the length of the header, the header with the texts first, the values.

    Wider dtypes come first, so that all values are aligned.
    """
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    widest_first = sorted(tensors.items(), key=lambda item: (-_width(item[1].dtype), item[0]))
    at = 0
    for name, packed in widest_first:
        end = at + len(packed.data)
        header[name] = {"dtype": DTYPES[packed.dtype], "shape": packed.shape, "data_offsets": (at, end)}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return bytearray().join([len(text).to_bytes(8, "little"), text, *(packed.data for _, packed in widest_first)])


def _width(dtype: str) -> int:
    """Count the bytes of one value."""
    return int(getattr(torch, dtype).itemsize)
