"""From named fields to network inputs: positions that never change, and streaming standardisation."""

from streamnn.features.index import FeatureIndex
from streamnn.features.standardizer import Standardizer

__all__ = ["FeatureIndex", "Standardizer"]
