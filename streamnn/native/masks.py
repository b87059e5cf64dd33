"""Truth values inside loops: integers of 0 or -1, as wide as what they choose between.

With `c ? a : b` gcc first writes branches, moves other computations into them, and then cannot take them apart again into
registers of many lanes. Masks are plain arithmetic, which it always can.
"""

import torch

from streamnn.native.operators import C_TYPES

# the bits of the one or of the other, so that NaN and the sign of 0 pass as they are
SELECTS = """
#define SELECT(T, I) \\
static inline __attribute__((always_inline)) T select_##T(I mask, T a, T b) { \\
  union { T value; I bits; } x = {a}, y = {b}; \\
  x.bits = (x.bits & mask) | (y.bits & ~mask); \\
  return x.value; \\
}
#define SELECT_WHOLE(T, I) \\
static inline __attribute__((always_inline)) T select_##T(I mask, T a, T b) { return (T)((a & mask) | (b & ~mask)); }
SELECT(float, int32_t)
SELECT(double, int64_t)
SELECT_WHOLE(int64_t, int64_t)
SELECT_WHOLE(int32_t, int32_t)
SELECT_WHOLE(int16_t, int32_t)
SELECT_WHOLE(int8_t, int32_t)
SELECT_WHOLE(uint8_t, int32_t)
"""

# of masks: what these operators do to truth values
LOGIC = {
    "logical_and": "{0}&{1}", "bitwise_and": "{0}&{1}", "__and__": "{0}&{1}", "mul": "{0}&{1}",
    "logical_or": "{0}|{1}", "bitwise_or": "{0}|{1}", "__or__": "{0}|{1}", "add": "{0}|{1}",
    "logical_xor": "{0}^{1}", "bitwise_xor": "{0}^{1}", "__xor__": "{0}^{1}", "ne": "{0}^{1}", "eq": "~({0}^{1})",
    "logical_not": "~{0}", "bitwise_not": "~{0}", "where": "({0}&{1})|(~{0}&{2})", "_to_copy": "{0}",
}  # fmt: skip


def mask_type(dtype: torch.dtype) -> str:
    """Return the type of masks as wide as values of this type; 4 bytes at least."""
    return "int64_t" if dtype.itemsize == 8 else "int32_t"


def widest(kinds: list[str]) -> str:
    """Return the wider of the types of masks."""
    return "int64_t" if "int64_t" in kinds else "int32_t"


def number(mask: str, dtype: torch.dtype) -> str:
    """Write a mask as a number: 0 or 1. The mask of a floating-point number has to be as wide as it."""
    kind = C_TYPES[dtype]
    return f"select_{kind}({mask}, 1, 0)" if dtype.is_floating_point else f"(({kind})-{mask})"
