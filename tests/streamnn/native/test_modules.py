"""Layers of torch.nn, forward and backward, against torch: convolutions, pooling, recurrent cells, attention, losses."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as fn

from tests.streamnn.native.helpers import assert_same, native


def gradients(module, loss=None):
    """A function (x, *parameters) -> outputs, gradient of x, gradients of the parameters."""
    names = [n for n, _ in module.named_parameters()]

    def run(x, *values):
        leaves = [v.detach().requires_grad_() for v in values]
        start = x.detach().requires_grad_() if x.is_floating_point() else x
        out = functional_call(module, dict(zip(names, leaves, strict=True)), (start,))
        outs = list(out) if isinstance(out, tuple) else [out]
        total = sum((o * torch.arange(1, o.numel() + 1, dtype=o.dtype).reshape(o.shape).sin()).sum() for o in outs)
        wanted = [*([start] if x.is_floating_point() else []), *leaves]
        return [o.detach() for o in outs] + list(torch.autograd.grad(total, wanted))

    return run, [p.detach() for p in module.parameters()]


def check(module, x, tolerance=1e-12):
    """Compare a module's outputs and gradients with torch's, in float64."""
    run, values = gradients(module.double())
    assert_same(native(run, x, *values), run(x, *values), rtol=tolerance, atol=tolerance)


def numbers(*shape, seed=0):
    """Normal random numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONVOLUTIONS = {
    "1d": (nn.Conv1d(3, 4, 3), (2, 3, 9)),
    "1d stride and padding": (nn.Conv1d(2, 3, 3, stride=2, padding=1), (1, 2, 8)),
    "1d causal": (nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(2, 3, 3, dilation=2)), (1, 2, 7)),
    "2d": (nn.Conv2d(2, 3, 3, padding=1), (1, 2, 6, 5)),
    "2d stride, dilation": (nn.Conv2d(2, 4, (3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 0)), (2, 2, 7, 6)),
    "2d groups": (nn.Conv2d(4, 6, 3, groups=2, bias=False), (1, 4, 5, 5)),
    "depthwise": (nn.Conv2d(3, 3, 3, groups=3, padding=1), (1, 3, 4, 4)),
    "pointwise": (nn.Conv2d(4, 2, 1), (1, 4, 3, 3)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), (1, 2, 4, 4)),
    "transposed 1d": (nn.ConvTranspose1d(2, 3, 4, stride=2), (1, 2, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    """Convolutions of one and two dimensions, and all their gradients, are torch's."""
    module, shape = CONVOLUTIONS[name]
    check(module, numbers(*shape))


POOLS = {
    "max": nn.MaxPool2d(2), "overlapping": nn.MaxPool2d(3, stride=1, padding=1), "max 1d": nn.MaxPool1d(2),
    "dilated": nn.MaxPool2d(2, stride=1, dilation=2), "ceil": nn.MaxPool2d(2, stride=2, ceil_mode=True),
    "average": nn.AvgPool2d(2), "average padded": nn.AvgPool2d(3, stride=2, padding=1), "average 1d": nn.AvgPool1d(3, stride=1),
    "global": nn.AdaptiveAvgPool2d(1),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name):
    """Pooling and its gradient are torch's; of tied inputs the first one gets the gradient of a maximum."""
    module = POOLS[name]
    ties = torch.randint(0, 3, (2, 3, 6, 7), generator=torch.Generator().manual_seed(1)).double()
    x = ties[0] if "1d" in name else ties
    check(module, x)


CELLS = {
    "rnn": nn.RNNCell(3, 4), "gru": nn.GRUCell(3, 4), "lstm": nn.LSTMCell(3, 4),
}  # fmt: skip


class Unrolled(nn.Module):
    """A recurrent cell run over a window, started from 0."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        """[T, F] -> [H]."""
        state = None
        for row in x:
            state = self.cell(row[None], state)
        return (state[0] if isinstance(state, tuple) else state)[0]


@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells(name):
    """Cells run over a window, with the gradient through time, are torch's."""
    check(Unrolled(CELLS[name]), numbers(5, 3))


class Attention(nn.Module):
    """Self-attention written out."""

    def __init__(self):
        super().__init__()
        self.of = nn.Linear(6, 18)
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        """[T, 6] -> [T, 6]."""
        q, k, v = (p.reshape(-1, 2, 3).transpose(0, 1) for p in self.of(self.norm(x)).chunk(3, -1))
        return ((q @ k.transpose(1, 2) / 3**0.5).softmax(-1) @ v).transpose(0, 1).reshape(x.shape)


LAYERS = {
    "layer norm": (nn.LayerNorm(5), numbers(3, 5)),
    "group norm": (nn.GroupNorm(2, 4), numbers(2, 4, 3)),
    "rms norm": (nn.RMSNorm(5), numbers(3, 5)),
    "instance norm": (nn.InstanceNorm1d(3, affine=True), numbers(2, 3, 6)),
    "attention": (Attention(), numbers(4, 6)),
    "bilinear": (nn.Bilinear(3, 3, 2), None),
    "prelu": (nn.PReLU(4), numbers(3, 4)),
    "glu": (nn.GLU(), numbers(3, 4)),
    "embedding": (nn.Embedding(6, 3), torch.tensor([1, 5, 1, 0])),
    "embedding with padding": (nn.Embedding(6, 3, padding_idx=0), torch.tensor([[1, 5], [1, 0]])),
    "mlp": (nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3)), numbers(2, 4)),
    "residual": (nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1, bias=False)), numbers(1, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "bilinear"])
def test_layers(name):
    """Normalisation, attention, embeddings and small stacks, with gradients, are torch's."""
    check(*LAYERS[name], tolerance=1e-10)


LOSSES = {
    "cross entropy": lambda x, c, y: fn.cross_entropy(x, c),
    "smoothed": lambda x, c, y: fn.cross_entropy(x, c, label_smoothing=0.1),
    "weighted": lambda x, c, y: fn.cross_entropy(x, c, weight=torch.arange(1.0, 11.0, dtype=x.dtype)),
    "ignored": lambda x, c, y: fn.cross_entropy(x, torch.where(c == 3, -100, c)),
    "soft": lambda x, c, y: fn.cross_entropy(x, y.softmax(-1)),
    "nll": lambda x, c, y: fn.nll_loss(x.log_softmax(-1), c, reduction="none").sum(),
    "bce": lambda x, c, y: fn.binary_cross_entropy_with_logits(x, y.sigmoid(), pos_weight=y[0].exp()),
    "bce of p": lambda x, c, y: fn.binary_cross_entropy(x.sigmoid(), y.sigmoid()),
    "huber": lambda x, c, y: fn.huber_loss(x, y), "smooth l1": lambda x, c, y: fn.smooth_l1_loss(x, y),
    "l1": lambda x, c, y: fn.l1_loss(x, y), "mse": lambda x, c, y: fn.mse_loss(x, y),
    "kl": lambda x, c, y: fn.kl_div(x.log_softmax(-1), y.softmax(-1), reduction="batchmean"),
    "hinge": lambda x, c, y: (1 - x * y.sign()).clamp(min=0).mean(), "poisson": lambda x, c, y: fn.poisson_nll_loss(x, y.exp()),
    "amax": lambda x, c, y: x.amax(-1).sum(), "max": lambda x, c, y: x.max(-1)[0].sum(), "median": lambda x, c, y: x.std(-1).sum(),
    "norm": lambda x, c, y: x.norm(dim=-1).sum(), "logsumexp": lambda x, c, y: x.logsumexp(-1).sum(),
}  # fmt: skip


@pytest.mark.parametrize(("ties", "dtype"), [(False, torch.float64), (True, torch.float64), (True, torch.float32)])
def test_losses_with_integer_classes_and_tied_inputs(ties, dtype):
    """Losses and their gradients over 10 classes are torch's, also where several logits are equal."""
    x = numbers(4, 10).to(dtype)
    if ties:
        x = x.round()
        x[0] = 1.0
    c, y = torch.tensor([3, 0, 9, 3]), numbers(4, 10, seed=2).to(dtype)

    def run(x, c, y):
        found = []
        for loss in LOSSES.values():
            leaf = x.detach().requires_grad_()
            value = loss(leaf, c, y)
            found += [value.detach(), *torch.autograd.grad(value, [leaf])]
        return found

    names, tight = [n for name in LOSSES for n in (name, name)], dtype == torch.float64
    rtol, atol = (1e-11, 1e-12) if tight else (1e-5, 1e-6)
    assert_same(native(run, x, c, y), run(x, c, y), rtol=rtol, atol=atol, names=names)
