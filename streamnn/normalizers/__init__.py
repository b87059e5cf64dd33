"""Normalisers of hidden layers: modules called with the activations [B, H] and the pass's `Context`."""

from collections.abc import Callable, Mapping

from torch import nn

from streamnn.normalizers.online import OnlineNorm
from streamnn.normalizers.rowwise import LayerNorm, NoNorm, RMSNorm
from streamnn.normalizers.streaming import StreamingNorm

NORMALIZERS: Mapping[str, Callable[[int], nn.Module]] = {
    "none": lambda _: NoNorm(),
    "layer": lambda _: LayerNorm(),
    "rms": lambda _: RMSNorm(),
    "streaming": StreamingNorm,
    "online": OnlineNorm,
}


def make_normalizer(name: str, units: int) -> nn.Module:
    """Make a normaliser for a layer of `units`.

    Raises:
        ValueError: there is no normaliser of this name.
    """
    if name not in NORMALIZERS:
        raise ValueError(f"normalizer is {name!r}; use one of {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name](units)


__all__ = ["NORMALIZERS", "LayerNorm", "NoNorm", "OnlineNorm", "RMSNorm", "StreamingNorm", "make_normalizer"]
