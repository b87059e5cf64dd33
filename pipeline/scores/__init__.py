"""Prequential scores: metrics of what was served, beside baselines, over blocks of scored events."""

from pipeline.scores.history import Point
from pipeline.scores.outcome import Outcome, Target, Task, higher_is_better, primary, sampled, task_of
from pipeline.scores.scores import Scores

__all__ = [
    "Outcome",
    "Point",
    "Scores",
    "Target",
    "Task",
    "higher_is_better",
    "primary",
    "sampled",
    "task_of",
]
