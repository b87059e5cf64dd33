"""Heads: losses, masks, serving, classes that appear late."""

import math

import pytest
import torch
from torch.nn import functional as fn

from streamnn.heads import Head, TargetSpec

NAN = math.nan
ONE = torch.ones(1, dtype=torch.bool)


def row(*values):
    """A label or output row [1, W] in float64."""
    return torch.tensor([values], dtype=torch.float64)


def seen(head, *labels, outputs=None):
    """The head's state after some labels, all outputs 0 unless given."""
    state = head.init(torch.float64)
    for y in labels:
        out = torch.zeros(1, head.width, dtype=torch.float64) if outputs is None else outputs
        state = head.observe(state, out, y, ONE)
    return state


def test_multiclass_loss_is_cross_entropy():
    """With all classes known and no entry offset the loss is torch's cross-entropy."""
    head = Head([TargetSpec("t", "multiclass")], {"t": 4})
    state = head.init(torch.float64) | {"active": torch.ones(4, dtype=torch.bool)}
    out = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3, 2, 1, 3])
    got = head.loss(state, out, fn.one_hot(labels, 4).double(), torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(got, fn.cross_entropy(out, labels, reduction="none"))


def test_soft_labels_are_learned_as_distributions():
    """A soft label's loss is the cross-entropy against it, for multi-class and binary targets."""
    head = Head([TargetSpec("t", "multiclass"), TargetSpec("b", "binary")], {"t": 2})
    state = head.init(torch.float64) | {"active": torch.ones(3, dtype=torch.bool)}
    out = row(0.3, 1.0, -0.5)
    got = head.loss(state, out, row(0.25, 0.7, 0.3), ONE)
    binary = fn.binary_cross_entropy_with_logits(out[:, 0], torch.tensor([0.25], dtype=torch.float64))
    multi = fn.cross_entropy(out[:, 1:], row(0.7, 0.3))
    assert got.item() == pytest.approx((binary + multi).item() / 2)


def test_multilabel_loss_is_the_mean_over_known_labels():
    """Unknown labels add nothing, and the mean is over the known ones."""
    head = Head([TargetSpec(n, "binary") for n in "abc"])
    state = head.init(torch.float64) | {"active": torch.ones(3, dtype=torch.bool)}
    out = row(0.2, -1.0, 2.0)
    got = head.loss(state, out, row(1.0, NAN, 0.0), ONE).item()
    want = fn.binary_cross_entropy_with_logits(out[0, [0, 2]], torch.tensor([1.0, 0.0], dtype=torch.float64)).item()
    assert got == pytest.approx(want)


@pytest.mark.parametrize(
    ("loss", "function"),
    [("huber", fn.huber_loss), ("squared", lambda a, b: fn.mse_loss(a, b) / 2), ("absolute", fn.l1_loss)],
)
def test_regression_losses_equal_torch_in_deviations(loss, function):
    """The loss is torch's, on labels standardised by the running mean and deviation that count this label."""
    head = Head([TargetSpec("v", "regression")], regression_loss=loss)
    state = seen(head, row(10.0), row(14.0), row(30.0))
    mean, std = 18.0, (((10 - 18) ** 2 + (14 - 18) ** 2 + (30 - 18) ** 2) / 3) ** 0.5
    got = head.loss(state, row(-0.4), row(30.0), ONE).item()
    assert got == pytest.approx(function(row(-0.4), row((30 - mean) / std)).item())


def test_regression_is_served_in_its_own_units():
    """An output of one deviation is mean plus deviation; before any label there is nothing to serve."""
    head = Head([TargetSpec("v", "regression")])
    assert math.isnan(head.serve(head.init(torch.float64), row(1.0)).item())
    state = seen(head, row(10.0), row(20.0))
    assert head.serve(state, row(1.0)).item() == pytest.approx(20.0)


def test_unlabelled_row_has_no_loss_and_moves_nothing():
    """A row whose labels are all unknown has loss 0 and leaves the head's state as it was."""
    head = Head([TargetSpec("b", "binary"), TargetSpec("v", "regression"), TargetSpec("t", "multiclass")])
    state = seen(head, row(1.0, 2.0, 1.0, 0.0))
    unknown = torch.full((1, head.width), NAN, dtype=torch.float64)
    assert head.loss(state, torch.ones(1, head.width, dtype=torch.float64), unknown, ONE).item() == 0
    after = head.observe(state, torch.ones(1, head.width, dtype=torch.float64), unknown, ONE)
    assert all(torch.equal(after[name], t) for name, t in state.items())


def test_padded_row_moves_nothing():
    """A labelled row that is marked invalid is not counted."""
    head = Head([TargetSpec("v", "regression"), TargetSpec("t", "multiclass")])
    state = seen(head, row(2.0, 1.0, 0.0))
    outputs, invalid = torch.ones(1, head.width, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    after = head.observe(state, outputs, row(9.0, 0.0, 1.0), invalid)
    assert all(torch.equal(after[name], t) for name, t in state.items())


def test_class_does_not_exist_before_its_first_label():
    """Its probability is exactly 0, and nothing at all is served before the first label."""
    head = Head([TargetSpec("t", "multiclass")], {"t": 4})
    assert torch.isnan(head.serve(head.init(torch.float64), row(1.0, 2.0, 3.0, 4.0))).all()
    state = seen(head, row(1.0, 0.0, 0.0, 0.0))
    assert head.serve(state, row(1.0, 2.0, 3.0, 4.0)).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_late_class_enters_at_its_prior_and_leaves_other_logits_alone():
    """After n labels a new class starts at probability max(class_prior, 1 / (n + 2)), on the average event."""
    head = Head([TargetSpec("t", "multiclass")], {"t": 4}, class_prior=0.01)
    outputs = row(1.0, -1.0, 0.0, 0.0)
    a, b, c = row(1.0, 0.0, 0.0, 0.0), row(0.0, 1.0, 0.0, 0.0), row(0.0, 0.0, 1.0, 0.0)
    state = seen(head, a, *[b] * 9, outputs=outputs)
    before = head.logits(state, outputs)
    after = head.observe(state, outputs, c, ONE)
    torch.testing.assert_close(head.logits(after, outputs)[:, :2], before[:, :2], rtol=0, atol=0)
    # `level` is a running mean of the log-sum-exp, which has settled only roughly
    assert head.serve(after, outputs)[0, 2].item() == pytest.approx(1 / 12, rel=0.5)
    many = seen(head, a, *[b] * 1000, outputs=outputs)
    late = head.observe(many, outputs, c, ONE)
    assert head.serve(late, outputs)[0, 2].item() == pytest.approx(0.01, rel=0.1)


def test_capacity_does_not_change_loss_or_probabilities():
    """Room for 8 or 16 classes gives the same results."""
    small, large = (Head([TargetSpec("t", "multiclass")], {"t": n}) for n in (8, 16))
    outputs = torch.randn(1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    y = torch.zeros(1, 16, dtype=torch.float64)
    y[0, 2] = 1.0
    first = torch.zeros(1, 16, dtype=torch.float64)
    first[0, 0] = 1.0
    states = [seen(h, first[:, : h.width], y[:, : h.width], outputs=outputs[:, : h.width]) for h in (small, large)]
    for s, h in zip(states, (small, large), strict=True):
        p = h.serve(s, outputs[:, : h.width])
        torch.testing.assert_close(p[:, :8], small.serve(states[0], outputs[:, :8]), rtol=1e-12, atol=0)
        assert h.loss(s, outputs[:, : h.width], y[:, : h.width], ONE).item() == pytest.approx(
            small.loss(states[0], outputs[:, :8], y[:, :8], ONE).item(), rel=1e-12
        )


def test_gradient_is_finite_with_absent_classes():
    """Classes that do not exist take no gradient and make none NaN."""
    head = Head([TargetSpec("t", "multiclass"), TargetSpec("b", "binary")], {"t": 4})
    state = seen(head, row(0.0, 1.0, 0.0, 0.0, 0.0))
    outputs = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    head.loss(state, outputs, row(0.0, 1.0, 0.0, 0.0, 0.0), ONE).sum().backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[0, 2:].tolist() == [0.0, 0.0, 0.0]


def test_mixed_targets_lie_side_by_side():
    """Binary targets come first, then regression, then multi-class blocks; growth keeps each output's meaning."""
    head = Head([TargetSpec("t", "multiclass"), TargetSpec("v", "regression"), TargetSpec("b", "binary")], {"t": 2})
    assert [b.target.name for b in head.blocks] == ["b", "v", "t"]
    two = Head([TargetSpec("t", "multiclass"), TargetSpec("u", "multiclass")], {"t": 2, "u": 2})
    assert two.positions(two.grown({"t": 4, "u": 2})) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Head([]), "at least one target"),
        (lambda: Head([TargetSpec("a", "binary"), TargetSpec("a", "regression")]), "names must differ"),
        (lambda: Head([TargetSpec("a", "binary")], class_prior=1.5), "class_prior is 1.5"),
        (lambda: Head([TargetSpec("a", "regression")], regression_loss="cubic"), "regression_loss is 'cubic'"),
        (lambda: TargetSpec("a", "ordinal"), "kind 'ordinal'"),
    ],
)
def test_wrong_settings_are_named(make, message):
    """Each error names the value and what is legal."""
    with pytest.raises(ValueError, match=message):
        make()
