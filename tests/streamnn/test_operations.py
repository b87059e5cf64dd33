"""Operations that do not fit their rows are refused before anything is read or learned."""

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.operations import Kind, Operations
from streamnn.pool import PoolLearner, PoolSpec
from tests.streamnn.helpers import labels_of, make_learner, numeric_stream


@pytest.mark.parametrize(("start", "stop"), [(7, 9), (-1, 1), (3, 3), (5, 4), (2**40, 2**40 + 1)])
@pytest.mark.parametrize("learner", ["single", "pool"])
def test_an_operation_outside_the_rows_is_refused(learner, start, stop):
    """It is told by number, with its rows and those that are there."""
    made = (
        make_learner("binary") if learner == "single" else PoolLearner(PoolSpec(targets=(TargetSpec("t0", "binary"),)))
    )
    columns, score = numeric_stream(8)
    encoded = made.encode(columns, {"t0": labels_of("binary", score)}, np.arange(8))
    listed = Operations.of([(Kind.PREDICT_LEARN, 0, 1), (Kind.PREDICT_LEARN, start, stop)])
    with pytest.raises(
        ValueError, match=rf"operation 1 concerns rows \[{start}, {stop}\), expected .* within the 8 given"
    ):
        made.run(encoded.rows, listed, rate=0.003)
