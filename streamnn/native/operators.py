"""The pointwise operators as C: one line each, with {0}, {1}, ... for the operands and {f} for the suffix of float.

Every operator treats NaN as torch does: comparisons that decide are written so that NaN falls through to itself.
`KEEP_TYPE` holds the operators that give bool and whose operands keep their own type; the operands of all others are
converted to the type of the result first.
"""

import math

import torch

C_TYPES = {
    torch.float32: "float", torch.float64: "double", torch.int64: "int64_t", torch.int32: "int32_t",
    torch.int16: "int16_t", torch.int8: "int8_t", torch.uint8: "uint8_t", torch.bool: "uint8_t",
}  # fmt: skip

# in inputs and scratch memory: among bytes, a loop over numbers would have to take 64 at a time
HELD_TYPES = C_TYPES | {torch.bool: "int32_t"}

POINTWISE = {
    "neg": "-{0}", "exp": "exp{f}({0})", "exp2": "exp2{f}({0})", "log": "log{f}({0})", "log1p": "log1p{f}({0})",
    "log2": "log2{f}({0})", "expm1": "expm1{f}({0})", "sqrt": "sqrt{f}({0})", "rsqrt": "1/sqrt{f}({0})",
    "tanh": "tanh{f}({0})", "sin": "sin{f}({0})", "cos": "cos{f}({0})", "erf": "erf{f}({0})",
    "sigmoid": "1/(1+exp{f}(-{0}))", "relu": "{0}<0?0:{0}", "abs": "{abs}({0})", "reciprocal": "1/{0}",
    "sign": "({0}>0)-({0}<0)", "floor": "floor{f}({0})", "ceil": "ceil{f}({0})", "trunc": "trunc{f}({0})",
    "round": "nearbyint{f}({0})", "square": "{0}*{0}", "atan2": "atan2{f}({0},{1})",
    "isnan": "{0}!={0}", "isinf": "isinf({0})", "logical_not": "!{0}", "bitwise_not": "{not}{0}", "_to_copy": "{0}",
    "add": "{0}+{1}", "sub": "{0}-{1}", "mul": "{0}*{1}", "div": "{0}/{1}",
    "maximum": "select_{t}(-({m})({0}>{1})|-({m})({0}!={0}),{0},{1})",
    "minimum": "select_{t}(-({m})({0}<{1})|-({m})({0}!={0}),{0},{1})",
    "ne": "{0}!={1}", "eq": "{0}=={1}", "gt": "{0}>{1}", "lt": "{0}<{1}", "ge": "{0}>={1}", "le": "{0}<={1}",
    "where": "{0}?{1}:{2}", "logical_and": "{0}&&{1}", "logical_or": "{0}||{1}", "logical_xor": "!{0}!=!{1}",
    "bitwise_and": "{0}&{1}", "bitwise_or": "{0}|{1}", "bitwise_xor": "{0}^{1}",
    "bitwise_left_shift": "{0}<<{1}", "bitwise_right_shift": "{0}>>{1}",
    "fmod": "rest_{t}({0},{1})", "remainder": "modulo_{t}({0},{1})", "div_trunc": "{trunc}", "div_floor": "floor_{t}({0},{1})",
    "__and__": "{0}&{1}", "__or__": "{0}|{1}", "__xor__": "{0}^{1}",
    "__lshift__": "{0}<<{1}", "__rshift__": "{0}>>{1}",
}  # fmt: skip

# a division by 0, which torch refuses for integers, gives 0
FUNCTIONS = """
static inline int64_t rest_int64_t(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
static inline int64_t quotient_int64_t(int64_t a, int64_t b) {
  return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}
static inline int64_t modulo_int64_t(int64_t a, int64_t b) {
  int64_t r = rest_int64_t(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static inline int64_t floor_int64_t(int64_t a, int64_t b) {
  int64_t r = rest_int64_t(a, b);
  return quotient_int64_t(a, b) - (r != 0 && (r < 0) != (b < 0));
}
#define REMAINDERS(T, f) \\
static inline T rest_##T(T a, T b) { return fmod##f(a, b); } \\
static inline T modulo_##T(T a, T b) { T r = fmod##f(a, b); return r != 0 && (r < 0) != (b < 0) ? r + b : r; } \\
static inline T floor_##T(T a, T b) { \\
  if (b == 0) return a / b; \\
  T r = fmod##f(a, b), q = (a - r) / b; \\
  if (r != 0 && (r < 0) != (b < 0)) q -= 1; \\
  if (q == 0) return copysign##f(0, a / b); \\
  T down = floor##f(q); \\
  return q - down > (T)0.5 ? down + 1 : down; \\
}
REMAINDERS(float, f)
REMAINDERS(double, )
#if defined(__x86_64__) && !defined(__AVX512DQ__)
/* no instruction does this for a register of them: the halves, as mantissas of 2^84 and 2^52, are rounded once, where they meet */
static inline double double_int64_t(int64_t a) {
  union { uint64_t bits; double value; } high = {((uint64_t)a >> 32) ^ UINT64_C(0x4530000080000000)};
  union { uint64_t bits; double value; } low = {((uint64_t)a & UINT64_C(0xffffffff)) | UINT64_C(0x4330000000000000)};
  return (high.value - 0x1.00000801p84) + low.value;
}
#else
static inline double double_int64_t(int64_t a) { return (double)a; }
#endif
"""

COMPARISONS = frozenset(("ne", "eq", "gt", "lt", "ge", "le"))
KEEP_TYPE = COMPARISONS | {"isnan", "isinf", "logical_and", "logical_or", "logical_xor", "logical_not"}

# start value, update of {0} by {1}, and the name of the OpenMP reduction (empty: not reassociated)
REDUCE = {
    "sum": ("0", "{0}+={1}", "+"),
    "mean": ("0", "{0}+={1}", "+"),
    "prod": ("1", "{0}*={1}", ""),
    "amax": ("-INFINITY", "{0}=({0}>{1}||{0}!={0})?{0}:{1}", ""),
    "amin": ("INFINITY", "{0}=({0}<{1}||{0}!={0})?{0}:{1}", ""),
    "any": ("0", "{0}|={1}!=0", "|"),
    "argmax": ("", "", ""),
    "all": ("1", "{0}&={1}!=0", "&"),
}


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """Write a number as C of the given type, exactly."""
    if not dtype.is_floating_point:
        whole = int(value)
        return f"INT64_C({whole})" if whole > -(1 << 63) else "INT64_MIN"
    number = float(value)
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    if dtype == torch.float32:
        number = float(torch.tensor(number, dtype=torch.float32))
        if math.isinf(number):
            return "INFINITY" if number > 0 else "(-INFINITY)"
        return f"({number!r}f)"
    return f"({number!r})"
