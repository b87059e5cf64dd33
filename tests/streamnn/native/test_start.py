"""What the first step of a process waits for."""

import subprocess
import sys

import pytest

LEARN = """
import sys
import numpy as np
from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.operations import Kind, Operations

learner = Learner(LearnerSpec(targets=(TargetSpec("y", sys.argv[1]),), engine="native"))
label = np.array(["a"], dtype=object) if sys.argv[1] == "multiclass" else np.ones(1)
rows = learner.encode({"x": np.ones(1)}, {"y": label}, np.zeros(1, dtype=np.int64)).rows
learner.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, 1)]), rate=0.01)
print(*sorted({"sympy", "torch._dynamo"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_nothing_slow_is_loaded(kind: str) -> None:
    """Tracing the usual networks loads neither torch's compiler nor SymPy, which take half a second and more."""
    done = subprocess.run([sys.executable, "-c", LEARN, kind], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
