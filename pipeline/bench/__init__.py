"""How fast is it here? The command `streamnn bench`, and what it shares with longer benchmarks."""

from pipeline.bench.command import bench

__all__ = ["bench"]
