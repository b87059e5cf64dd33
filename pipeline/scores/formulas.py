"""The metrics' formulas, for all targets at once, from class counts and sums.

Counts may be whole or faded (weighted): every formula is a ratio, so a common factor cancels.

Axes: T targets, C classes (room for them; unused ones have count 0 and change nothing).
    row [T, C]: events whose truth is the class; col [T, C]: events for which it was decided; hit [T, C]:
    both.
Sums over classes run one after the other (`accumulate`), so that unused room does not change a single bit.

Where a ratio has nothing to divide by, the value is 0, as in river; where not one event was scored it is NaN.
"""

import numpy as np

from pipeline.scores.outcome import FloatArray


def over_classes(x: FloatArray) -> FloatArray:
    """Sum [T, C] over classes in their order: [T]."""
    total: FloatArray = np.add.accumulate(x, axis=-1)[..., -1]
    return total


def ratio(a: FloatArray, b: FloatArray, *, empty: float = 0.0) -> FloatArray:
    """Divide, with `empty` where the divisor is 0."""
    out = np.full(np.broadcast_shapes(a.shape, b.shape), empty)
    np.divide(a, b, out=out, where=b != 0)
    return out


def accuracy(row: FloatArray, hit: FloatArray) -> FloatArray:
    """Share of events decided rightly: [T]."""
    return ratio(over_classes(hit), over_classes(row), empty=np.nan)


def balanced_accuracy(row: FloatArray, hit: FloatArray) -> FloatArray:
    """Mean recall of the classes that occurred: [T]."""
    return ratio(over_classes(ratio(hit, row)), over_classes((row > 0).astype(np.float64)), empty=np.nan)


def kappa(row: FloatArray, col: FloatArray, hit: FloatArray) -> FloatArray:
    """Cohen's kappa (Cohen 1960): (p0 - pe) / (1 - pe), with pe = sum_c row_c/n * col_c/n: [T]."""
    n = over_classes(row)[..., None]
    chance = over_classes(ratio(row, n) * ratio(col, n))
    value = ratio(over_classes(hit) / np.where(n[..., 0] > 0, n[..., 0], 1.0) - chance, 1.0 - chance)
    return np.where(n[..., 0] > 0, value, np.nan)


def kappa_against(p: FloatArray, base: FloatArray) -> FloatArray:
    """Accuracy beyond a baseline's: (p - base) / (1 - base).

    Against the majority class this is kappa_m, against repeating the previous class kappa_temporal (Bifet, de
    Francisci Morales, Read, Holmes and Pfahringer 2015, "Efficient online evaluation of big data stream
    classifiers", section 4). If the baseline was never wrong it is 0 where `p` was not either, else undefined
    (NaN).
    """
    value = ratio(p - base, 1.0 - base, empty=np.nan)
    return np.where((base == 1.0) & (p == 1.0), 0.0, value)


def f1(row: FloatArray, col: FloatArray, hit: FloatArray) -> FloatArray:
    """F1 of each class, 2 hit / (row + col), element by element."""
    return ratio(2.0 * hit, row + col)


def f1_macro(row: FloatArray, col: FloatArray, hit: FloatArray) -> FloatArray:
    """Mean F1 of the classes that occurred or were decided: [T]."""
    used = ((row > 0) | (col > 0)).astype(np.float64)
    return ratio(over_classes(f1(row, col, hit)), over_classes(used), empty=np.nan)


def f1_micro(row: FloatArray, col: FloatArray, hit: FloatArray) -> FloatArray:
    """F1 of the pooled counts, 2 hits / (truths + decisions): [T].

    This is the accuracy unless some events were served nothing.
    """
    return ratio(2.0 * over_classes(hit), over_classes(row) + over_classes(col), empty=np.nan)


def mean_of(values: FloatArray) -> float:
    """Average the targets' values, leaving out the undefined ones; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(over_classes(known) / len(known)) if len(known) else float("nan")


def r2(count: FloatArray, squared: FloatArray, spread: FloatArray) -> FloatArray:
    """1 - squared errors / squared deviations of the truth from its mean; 0 for fewer than two events."""
    value = 1.0 - ratio(squared, spread)
    return np.where(count == 0, np.nan, np.where((count > 1) & (spread > 0), value, 0.0))
