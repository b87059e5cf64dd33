"""Optimizers against torch's, and what torch's lack: weights of different age, and forgetting."""

import math

import pytest
import torch

from streamnn.growth import embed
from streamnn.optimizers import COCOB, OPTIMIZERS, SGD, Adadelta, Adagrad, Adam, NAdam, ObGD, RMSprop

STEPS = 1000
NONE = {}

PAIRS = [
    (SGD(), torch.optim.SGD, {}),
    (SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (
        SGD(momentum=0.8, nesterov=True, weight_decay=0.01),
        torch.optim.SGD, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    (Adagrad(), torch.optim.Adagrad, {}),
    (Adagrad(initial=0.1, eps=1e-6), torch.optim.Adagrad, {"initial_accumulator_value": 0.1, "eps": 1e-6}),
    (RMSprop(), torch.optim.RMSprop, {}),
    (RMSprop(decay=0.9, momentum=0.9, eps=1e-6), torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.9, "eps": 1e-6}),
    (RMSprop(decay=0.95, centered=True), torch.optim.RMSprop, {"alpha": 0.95, "centered": True}),
    (Adadelta(), torch.optim.Adadelta, {}),
    (Adadelta(decay=0.95, eps=1e-4), torch.optim.Adadelta, {"rho": 0.95, "eps": 1e-4}),
    (Adam(), torch.optim.Adam, {}),
    (Adam(beta1=0.0, beta2=0.99), torch.optim.Adam, {"betas": (0.0, 0.99)}),
    (Adam(beta1=0.5, beta2=0.9, eps=1e-3), torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
    (NAdam(), torch.optim.NAdam, {}),
    (
        NAdam(beta1=0.8, beta2=0.9, eps=1e-6, momentum_decay=0.1),
        torch.optim.NAdam, {"betas": (0.8, 0.9), "eps": 1e-6, "momentum_decay": 0.1},
    ),
]  # fmt: skip


def rate_of(optimizer):
    """A usual learning rate."""
    return 1.0 if isinstance(optimizer, Adadelta) else 0.01


def start_params(dtype=torch.float64, rows=4, columns=3):
    """A weight and a bias."""
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype),
        "bias": torch.randn(rows, generator=generator, dtype=torch.float64).to(dtype),
    }


def gradients(params, step, generator):
    """A gradient that pulls towards 1 and is noisy; the first steps have none, as a layer below output weights of 0."""
    if step < 3:
        return {name: torch.zeros_like(p) for name, p in params.items()}
    return {
        name: p - 1 + 3 * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        for name, p in params.items()
    }


def run(optimizer, params, steps, *, growing=NONE, clear_at=-1, rate=0.01, make=gradients):
    """Make steps; returns the parameters and slots after each."""
    generator = torch.Generator().manual_seed(1)
    slots = optimizer.init(params, growing=growing)
    rate = torch.tensor(rate, dtype=params["weight"].dtype)
    trace = []
    for step in range(steps):
        slots = optimizer.clear(slots, torch.tensor(step == clear_at))
        params, slots = optimizer.update(make(params, step, generator), slots, params, rate)
        trace.append((params, slots))
    return trace


@pytest.fixture(params=[(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["float64", "float32"])
def precision(request):
    """A dtype and its tolerance. The dtype is torch's default as well: torch's NAdam keeps its products in that."""
    torch.set_default_dtype(request.param[0])
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("ours", "theirs", "settings"), PAIRS, ids=[repr(p[0]) for p in PAIRS])
def test_equals_torch_over_a_thousand_steps(ours, theirs, settings, precision):
    """Every torch optimizer of the same name makes the same steps, also where growth counts for each row and column."""
    dtype, tolerance = precision
    leaves = {name: p.clone().requires_grad_() for name, p in start_params(dtype).items()}
    generator = torch.Generator().manual_seed(1)
    other = theirs(leaves.values(), lr=rate_of(ours), **settings)
    growing = {"weight": (0, 1), "bias": (0,)}
    trace = run(ours, start_params(dtype), STEPS, growing=growing, rate=rate_of(ours))
    for step in range(STEPS):
        for name, g in gradients({n: p.detach() for n, p in leaves.items()}, step, generator).items():
            leaves[name].grad = g
        other.step()
        for name, leaf in leaves.items() if step < 10 or step % 50 == 49 else ():
            difference = (trace[step][0][name] - leaf.detach()).abs().max()
            assert difference <= tolerance * (1 + leaf.detach().abs().max()), f"{name} at step {step}"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_changes_none_of_its_arguments(name):
    """Steps are pure: parameters, gradients and slots handed in keep their bits."""
    optimizer, params = OPTIMIZERS[name](), start_params()
    slots = optimizer.init(params, growing={})
    grads = gradients(params, 5, torch.Generator().manual_seed(1))
    before = [{n: t.clone() for n, t in ts.items()} for ts in (params, grads, *slots.values())]
    optimizer.update(grads, optimizer.clear(slots, torch.tensor(True)), params, torch.tensor(0.1, dtype=torch.float64))
    for was, now in zip(before, (params, grads, *slots.values()), strict=True):
        assert all(torch.equal(was[n], now[n]) for n in was)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_have_the_shape_of_their_parameter_or_one(name):
    """Every slot can be grown with its parameter: each dimension is the parameter's, or 1 where it is shared."""
    params = start_params()
    growing = {"weight": (1,), "bias": (0,)}
    for slot, tensors in OPTIMIZERS[name]().init(params, growing=growing).items():
        assert tensors.keys() == params.keys()
        for n, t in tensors.items():
            assert t.dim() == params[n].dim(), slot
            assert all(a in (1, b) for a, b in zip(t.shape, params[n].shape, strict=True)), slot


def late_gradients(active):
    """Gradients of a weight of which only the first columns are in use; one more from step 40, one from step 90."""

    def make(params, step, generator):
        columns = active + (step >= 40) + (step >= 90)
        found = {}
        for name, p in params.items():
            g = torch.zeros_like(p)
            noise = torch.randn(4, 8, generator=generator, dtype=torch.float64)
            here = g[:, :columns] if name == "weight" else g
            here += noise[:, : here.shape[1]] if name == "weight" else noise[:, 0]
            found[name] = g
        return found

    return make


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_room_for_more_changes_nothing(name):
    """Weights that no input uses stay at 0; the others move as if there were no room for more, also after growth."""
    optimizer = OPTIMIZERS[name]()
    growing = {"weight": (1,)}
    params = start_params()
    wide = {**params, "weight": torch.cat([params["weight"], torch.zeros(4, 5, dtype=torch.float64)], dim=1)}
    roomy = run(optimizer, wide, 120, growing=growing, make=late_gradients(3))
    assert not roomy[39][0]["weight"][:, 3:].any()
    # the same with growth at step 40, by which time the optimizer has long begun
    tight = run(optimizer, params, 40, growing=growing, make=late_gradients(3))
    old, old_slots = tight[-1]
    grown = {**old, "weight": embed(old["weight"], torch.zeros(4, 8, dtype=torch.float64), {1: range(3)})}
    fresh = optimizer.init(grown, growing=growing)
    slots = {
        slot: {n: embed(old_slots[slot][n], t, {1: range(3)} if n == "weight" else {}) for n, t in tensors.items()}
        for slot, tensors in fresh.items()
    }
    generator, make = torch.Generator().manual_seed(1), late_gradients(3)
    for step in range(40):
        make(params, step, generator)
    for step in range(40, 120):
        grads = make(grown, step, generator)
        grown, slots = optimizer.update(grads, slots, grown, torch.tensor(0.01, dtype=torch.float64))
        torch.testing.assert_close(grown["weight"], roomy[step][0]["weight"], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(grown["bias"], roomy[step][0]["bias"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", [Adam(), Adam(beta1=0.0, beta2=0.99), NAdam()])
def test_late_weight_makes_no_wild_first_step(optimizer):
    """A weight that gets its first gradient after 400 steps moves as one did at the very first step."""

    def make(params, step, generator):
        g = torch.zeros_like(params["weight"])
        g[:, :2] = torch.randn(4, 2, generator=generator, dtype=torch.float64)
        g[:, 2] = 0.7 * (step == 400)
        return {"weight": g}

    params = {"weight": torch.zeros(4, 3, dtype=torch.float64)}
    trace = run(optimizer, params, 401, growing={"weight": (1,)}, make=make)
    first = trace[0][0]["weight"][:, :2].abs()
    late = trace[400][0]["weight"][:, 2].abs()
    torch.testing.assert_close(late, torch.full_like(late, first.mean().item()), rtol=1e-6, atol=0)
    shared = run(optimizer, params, 401, make=make)[400][0]["weight"][:, 2].abs()
    assert (shared > 1.5 * late).all()


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adadelta", "adam", "nadam"])
def test_cleared_optimizer_is_a_fresh_one(name):
    """After clearing, steps are those of a new optimizer that starts from the present weights."""
    optimizer = OPTIMIZERS[name]()
    growing = {"weight": (1,)}
    trace = run(optimizer, start_params(), 60, growing=growing, clear_at=50)
    generator, params = torch.Generator().manual_seed(1), start_params()
    for step in range(50):
        gradients(params, step, generator)
    params, slots = trace[49][0], optimizer.init(trace[49][0], growing=growing)
    for step in range(50, 60):
        grads = gradients(params, step, generator)
        params, slots = optimizer.update(grads, slots, params, torch.tensor(0.01, dtype=torch.float64))
        for n, p in params.items():
            torch.testing.assert_close(p, trace[step][0][n], rtol=0, atol=0)


def test_cleared_cocob_bets_again_from_the_present_weights():
    """Clearing keeps the weights, and the next step is a first one, 1 / alpha long."""
    trace = run(COCOB(), start_params(), 51, clear_at=50)
    moved = trace[50][0]["weight"] - trace[49][0]["weight"]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=1e-6, atol=0)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), ObGD()])
def test_clearing_what_has_no_scale_changes_nothing(optimizer):
    """A velocity is no scale and stays."""
    plain, cleared = (run(optimizer, start_params(), 20, clear_at=at) for at in (-1, 10))
    assert torch.equal(plain[-1][0]["weight"], cleared[-1][0]["weight"])


def slow_cocob(w, gradient, steps, alpha):
    """COCOB of one weight in Python floats."""
    start, scale, total, summed, reward = w, 1e-8, 0.0, 0.0, 0.0
    path = []
    for t in range(steps):
        c = -gradient(w, t)
        scale = max(scale, abs(c))
        total += abs(c)
        reward = max(reward + (w - start) * c, 0.0)
        summed += c
        w = start + summed / (scale * max(total + scale, alpha * scale)) * (scale + reward)
        path.append(w)
    return path


@pytest.mark.parametrize("alpha", [100.0, 5.0])
def test_cocob_follows_its_recursion(alpha):
    """Each weight bets as the formulas say, and finds the minimum without a learning rate."""

    def gradient(w, t):
        return math.tanh(w - 3) + 0.1 * math.sin(t)

    want = slow_cocob(0.5, gradient, 2000, alpha)
    params = {"weight": torch.tensor([0.5], dtype=torch.float64)}
    slots = COCOB(alpha=alpha).init(params, growing={})
    for t in range(2000):
        g = {"weight": torch.tensor([gradient(params["weight"].item(), t)], dtype=torch.float64)}
        params, slots = COCOB(alpha=alpha).update(g, slots, params, torch.zeros((), dtype=torch.float64))
        assert params["weight"].item() == pytest.approx(want[t], rel=1e-10)
    assert abs(want[-1] - 3) < 0.2


def test_obgd_bounds_its_step():
    """The step is the rate, unless kappa times the sum of all absolute gradients asks for a smaller one."""
    params = {"a": torch.zeros(2, dtype=torch.float64), "b": torch.zeros(1, dtype=torch.float64)}
    small = {"a": torch.tensor([0.01, -0.02]).double(), "b": torch.tensor([0.03]).double()}
    large = {name: 100 * g for name, g in small.items()}
    one = torch.ones((), dtype=torch.float64)
    got, _ = ObGD(kappa=2.0).update(small, {}, params, one)
    torch.testing.assert_close(got["a"], -small["a"])
    got, _ = ObGD(kappa=2.0).update(large, {}, params, one)
    torch.testing.assert_close(got["a"], -large["a"] / (2 * 6))
    torch.testing.assert_close(got["b"], -large["b"] / (2 * 6))


def test_obgd_moves_at_most_one_over_kappa():
    """All weights together move by no more than 1 / kappa, however large the gradient."""
    generator = torch.Generator().manual_seed(3)
    for size in (0.01, 1.0, 100.0, 1e6):
        params = start_params()
        grads = {n: size * torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in params.items()}
        moved, _ = ObGD(kappa=3.0).update(grads, {}, params, torch.ones((), dtype=torch.float64))
        assert sum((moved[n] - p).abs().sum().item() for n, p in params.items()) <= 1 / 3 + 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), "momentum is 1.0, but must be at least 0 and below 1"),
        (lambda: SGD(nesterov=True), "give a momentum above 0"),
        (lambda: SGD(weight_decay=-1), "weight_decay is -1, but must be at least 0"),
        (lambda: Adagrad(initial=-0.1), "initial is -0.1"),
        (lambda: RMSprop(decay=1.5), "decay is 1.5"),
        (lambda: RMSprop(momentum=-0.5), "momentum is -0.5"),
        (lambda: Adadelta(eps=0), "eps is 0, but must be positive"),
        (lambda: Adam(beta1=-0.1), "beta1 is -0.1"),
        (lambda: Adam(beta2=1.0), "beta2 is 1.0"),
        (lambda: Adam(eps=math.nan), "eps is nan"),
        (lambda: NAdam(momentum_decay=-1), "momentum_decay is -1"),
        (lambda: COCOB(alpha=0), "alpha is 0"),
        (lambda: ObGD(kappa=-1), "kappa is -1"),
    ],
)
def test_constants_are_checked(make, message):
    """A constant outside its range is refused with its name, value and range."""
    with pytest.raises(ValueError, match=message):
        make()
