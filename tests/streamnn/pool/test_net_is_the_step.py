"""The hand-written network learns what the general step learns with the same network and optimizer."""

import numpy as np
import torch

from streamnn.features.standardizer import Standardizer
from streamnn.heads import Head, TargetSpec
from streamnn.networks import MLP, MLPSpec
from streamnn.optimizers import Adam
from streamnn.pool import net
from streamnn.pool.layout import Layout
from streamnn.step import Event, Step
from tests.streamnn.pool.helpers import batches, singles


def run_both(operations, events=80):
    """Learn a random stream by both: probabilities of each, and the states they end in."""
    rng = np.random.default_rng(0)
    layout = Layout(3, 0, 4, False)
    rows = rng.normal(size=(events, layout.width)).astype(np.float32)
    label = rng.integers(0, 3, events).astype(np.int32)
    state = net.init(net.NetSpec(name="n"), layout, 4, seed=0)
    network = MLP(MLPSpec(units=(64,)), layout.width, outputs=4, seed=0, dtype=torch.float32)
    head = Head([TargetSpec("t", "multiclass")], {"t": 4})
    step = Step(network, head, Adam(beta1=0.0), Standardizer(), torch.float32)
    params = {
        "linears.0.weight": torch.from_numpy(state["w0"].T.copy()),
        "linears.0.bias": torch.from_numpy(state["b0"].copy()),
        "output.weight": torch.zeros(4, 64),
        "output.bias": torch.zeros(4),
        "skip.weight": torch.zeros(4, layout.width),
    }
    general = step.init({name: params[name] for name, _ in network.named_parameters()}, {}, layout.width)
    # all classes but one exist already: how a new class starts differs (here at its own first step, in every weight)
    state["active"][:3], state["count"][0] = 1, 10
    general["head"]["active"][:3], general["head"]["labels"][0] = True, 10
    want = []
    for start, stop in zip(operations.start.tolist(), operations.stop.tolist(), strict=True):
        one_hot = np.zeros((stop - start, 4))
        one_hot[np.arange(stop - start), label[start:stop]] = 1
        event = Event(
            x=torch.from_numpy(rows[start:stop].astype(np.float64)),
            y=torch.from_numpy(one_hot),
            valid=torch.ones(stop - start, dtype=torch.bool),
            number=torch.arange(start, stop),
            plain=torch.ones(layout.width, dtype=torch.bool),
            rate=torch.tensor(0.003),
            clear=torch.tensor(False),
        )
        general, served, _ = step.predict_learn(general, event)
        want.append(served.numpy())
    out, loss = np.zeros((events, 1, 4)), np.full(events, np.nan)
    nothing = np.zeros((events, 0))
    data = net.NetRows(
        rows, label, nothing, nothing, np.zeros((events, 0), dtype=np.int32), (rows[:0], label[:0], nothing[:0])
    )
    net.run(net.NetSpec(name="n"), state, data, operations, out, loss, member=0, rate=0.003)
    return np.exp(out[:, 0]), np.concatenate(want), state, general


def test_single_events():
    """Probabilities, weights and moments agree to single precision over eighty events."""
    got, want, state, general = run_both(singles(80))
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_allclose(state["w0"], general["params"]["linears.0.weight"].numpy().T, atol=1e-3)
    np.testing.assert_allclose(state["wo"], general["params"]["output.weight"].numpy(), atol=1e-3)


def test_micro_batches_step_on_the_mean_gradient():
    """A micro-batch is one step on the mean of its rows' gradients, in both."""
    got, want, state, general = run_both(batches(80, 8))
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_allclose(state["w0"], general["params"]["linears.0.weight"].numpy().T, atol=1e-3)
