"""How good the predictions are, beside those of other online learners: `python -m tests.benchmarks.quality`."""
