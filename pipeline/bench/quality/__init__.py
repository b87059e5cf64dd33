"""How good are predictions? The command `streamnn bench quality`, and what it shares with longer benchmarks."""

from pipeline.bench.quality.command import quality

__all__ = ["quality"]
