"""The C parts of the pool: built once a machine, sizes given at each call, so that growth never compiles."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from streamnn.native.build import STRICT, load
from streamnn.native.memory import address
from streamnn.operations import Operations
from streamnn.pool.layout import Array

FOLDER = Path(__file__).parent
SHARED = {
    **dict.fromkeys(("maps", "values"), ("common.c", "windows.c")),
    "votes": ("common.c", "wide.c", "windows.c"),
    **dict.fromkeys(("forest", "value_forest"), ("common.c", "trees.c")),
}


@cache
def library(name: str) -> ctypes.CDLL:
    """Build or load the part NAME.c, with what it shares with others in front of it.

    Raises:
        CompilerError: there is no C compiler, or it failed.
    """
    sources = [(FOLDER / file).read_text(encoding="ascii") for file in (*SHARED.get(name, ("common.c",)), f"{name}.c")]
    loaded, _ = load("\n".join(sources), flags=STRICT)
    return loaded


def call(
    name: str, operations: Operations, sizes: Sequence[int], arrays: Sequence[Array], reals: Sequence[float] = ()
) -> None:
    """Run a part over operations. Arrays must be contiguous and of the types the part expects; it writes into them."""
    pointers = (ctypes.c_void_p * len(arrays))(*map(address, arrays))
    numbers = (ctypes.c_int64 * len(sizes))(*sizes)
    values = (ctypes.c_double * len(reals))(*reals)
    kind, start, stop = (np.ascontiguousarray(a) for a in (operations.kind, operations.start, operations.stop))
    run_of(name)(
        len(operations), address(kind), address(start), address(stop),
        ctypes.addressof(numbers), ctypes.addressof(pointers), ctypes.addressof(values),
    )  # fmt: skip


@cache
def run_of(name: str) -> Callable[..., None]:
    """Return the function of a part; the lock of the interpreter is released while it runs."""
    run = library(name).run
    run.restype = None
    run.argtypes = [ctypes.c_int64] + [ctypes.c_void_p] * 6
    return run
