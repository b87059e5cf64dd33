"""Networks that predict and learn one event at a time."""

from streamnn.networks.mlp import MLP, Activation, MLPSpec

__all__ = ["MLP", "Activation", "MLPSpec"]
