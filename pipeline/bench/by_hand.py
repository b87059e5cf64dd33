"""The yardstick of one step: a C program written by hand for one network alone (reference.c), compiled here.

Its flags are those of the native engine. It computes what our step computes, from our start weights.
"""

import ctypes
from pathlib import Path

import numpy as np

from pipeline.bench.steps import RATE, Case, Run
from streamnn.learner import Learner
from streamnn.native.build import load
from streamnn.native.memory import address
from streamnn.native.program import aligned
from streamnn.operations import FloatArray, IntArray

SOURCE = Path(__file__).with_name("reference.c")


def by_hand(case: Case, begun: Learner, x: FloatArray, y: IntArray) -> Run:
    """Compile the program for a network of two hidden layers.

    Args:
        case: the network.
        begun: the learner whose weights it begins with.
        x: [K, F] float64.
        y: [K] classes.

    Returns:
        What runs the next events: [events, C] float64, the classes in the order in which they appear.

    Raises:
        CompilerError: there is no compiler, or it failed.
    """
    sizes = {"F": case.inputs, "H1": case.units[0], "H2": case.units[1], "C": case.classes}
    methods = [word for word in (case.normalizer, case.optimizer) if word in ("streaming", "adam")]
    defined = [f"{name} {size}" for name, size in sizes.items()] + [word.upper() for word in methods]
    heading = "".join(f"#define {words}\n" for words in defined)
    library, _ = load(heading + SOURCE.read_text(encoding="ascii"))
    library.state_bytes.restype = ctypes.c_int64
    state = aligned(library.state_bytes())
    p = {name: t.numpy() for name, t in begun.state["params"].items()}
    weights = [
        p["linears.0.weight"][:, : case.inputs], p["linears.0.bias"], p["linears.1.weight"], p["linears.1.bias"],
        p["output.weight"][: case.classes], p["output.bias"][: case.classes],
    ]  # fmt: skip
    weights = [np.ascontiguousarray(w, dtype=np.float32) for w in weights]
    library.begin(ctypes.c_void_p(state.data_ptr()), *(ctypes.c_void_p(address(w)) for w in weights))
    order = list(dict.fromkeys(y.tolist()))
    onehot = np.zeros((len(y), case.classes))
    onehot[np.arange(len(y)), [order.index(v) for v in y.tolist()]] = 1.0
    at = 0

    def run(events: int) -> FloatArray:
        nonlocal at
        now, labels = np.ascontiguousarray(x[at : at + events]), np.ascontiguousarray(onehot[at : at + events])
        at = (at + events) % (len(y) - events + 1)
        served, losses = np.empty((events, case.classes)), np.empty(events, dtype=np.float32)
        given, found = ([ctypes.c_void_p(address(a)) for a in pair] for pair in ((now, labels), (served, losses)))
        library.run(ctypes.c_int64(events), ctypes.c_void_p(state.data_ptr()), *given, ctypes.c_float(RATE), *found)
        return served

    return run
