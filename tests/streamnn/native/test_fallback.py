"""A network with an operator that cannot be lowered: said once, with what to do about it, and learned eagerly."""

import re

import numpy as np
import pytest

from streamnn.native import UnsupportedOperatorError
from streamnn.native.operators import POINTWISE
from streamnn.networks import MLPSpec
from tests.streamnn.helpers import drive, labels_of, make_learner, numeric_stream, same_state

SAID = (
    r"operator aten\.tanh\.default has no native lowering; compute the same with other operators, or set engine to eager"
    r" \(model\.engine in a configuration\), and report it"
)


@pytest.fixture(autouse=True)
def _no_tanh(monkeypatch):
    """The native engine lacks an operator of the networks here."""
    monkeypatch.delitem(POINTWISE, "tanh")


def learned(engine):
    """A learner after a few calls, and what it served."""
    columns, score = numeric_stream(20)
    learner = make_learner("binary", network=MLPSpec(units=(4,), activation="tanh"), engine=engine)
    served, losses = drive(learner, columns, {"t0": labels_of("binary", score)}, cuts=[1, 9, 10])
    return learner, served, losses


def test_the_eager_engine_runs_and_one_warning_names_the_operator_and_a_remedy():
    """Engine auto gives the eager engine's bits, and warns once however often it is called."""
    eager, want, want_losses = learned("eager")
    with pytest.warns(RuntimeWarning) as warned:
        learner, served, losses = learned("auto")
    (warning,) = warned
    assert re.match(f"running eagerly, some hundred times slower: {SAID}", str(warning.message))
    assert learner.engine == "eager"
    np.testing.assert_array_equal(served, want)
    np.testing.assert_array_equal(losses, want_losses)
    assert same_state(learner, eager)


def test_the_native_engine_refuses_in_the_same_words():
    """Engine native is an error that names operator and remedy too."""
    with pytest.raises(UnsupportedOperatorError, match=SAID):
        learned("native")
