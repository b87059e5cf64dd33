"""Where arrays lie, for calls into C that are too short to ask NumPy for it."""

import ctypes
from typing import Any

import numpy.typing as npt

_NOTHING = ctypes.create_string_buffer(64)
NOWHERE = ctypes.addressof(_NOTHING)  # stands for an array without entries


def address(array: npt.NDArray[Any]) -> int:
    """Return where a contiguous array lies; `ctypes.data` takes several times as long as looking at the buffer.

    Raises:
        ValueError: it is not contiguous.
    """
    if not array.size:
        return NOWHERE
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # numpy does not say that it has one
    except TypeError:  # it is read-only, or not contiguous
        if not array.flags.c_contiguous:
            raise ValueError(f"an array of shape {array.shape} is not contiguous") from None
        return array.ctypes.data
