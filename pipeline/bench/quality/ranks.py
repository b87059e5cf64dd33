"""Mean ranks of learners over streams, and how far apart they must lie to differ.

Source: J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).
Axes: L learners, S streams.
"""

import math

import numpy as np
from scipy import stats


def mean_ranks(values: dict[str, list[float]], *, high_is_good: bool) -> dict[str, float]:
    """Return each learner's mean rank, 1 = best; ties share the mean of their ranks.

    Args:
        values: learner -> [S], the same streams in the same order for all.
        high_is_good: accuracy; False for errors.
    """
    table = np.array(list(values.values()), dtype=np.float64)  # [L, S]
    ranks = stats.rankdata(-table if high_is_good else table, axis=0)
    return dict(zip(values, ranks.mean(axis=1).tolist(), strict=True))


def critical_difference(learners: int, streams: int, level: float = 0.05) -> float:
    """Return the Nemenyi distance: CD = q sqrt(L (L + 1) / (6 S)), q the studentised range over sqrt 2 (section 3.2.2)."""
    q = float(stats.studentized_range.ppf(1 - level, learners, np.inf)) / math.sqrt(2)
    return q * math.sqrt(learners * (learners + 1) / (6 * streams))


def alike(ranks: dict[str, float], distance: float) -> list[tuple[str, ...]]:
    """Return the longest groups of learners whose mean ranks lie within `distance`, best first."""
    ordered = sorted(ranks, key=ranks.__getitem__)
    groups: list[tuple[str, ...]] = []
    for first, name in enumerate(ordered):
        group = tuple(other for other in ordered[first:] if ranks[other] - ranks[name] < distance)
        if len(group) > 1 and not any(set(group) <= set(earlier) for earlier in groups):
            groups.append(group)
    return groups
