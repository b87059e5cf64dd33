"""The default pool: feature maps, small members of several kinds, and a mixer that learns whom to trust."""

from streamnn.pool.learner import PoolLearner, PoolSpec

__all__ = ["PoolLearner", "PoolSpec"]
