"""Products of matrices and vectors in C: what `streamnn.native.products` calls.

C = A B for one column-contiguous layout each, on vectors as wide as the compiler's own. All sizes and strides are
constants where they are called, so that the compiler unrolls what lies in registers.

`rows_T`: B's and C's columns are contiguous: C[m, :] += A[m, k] B[k, :], a tile of C held in registers.
`more_T`: the same for one row of C, added to it; row by row of B.
`dots_T`: A's and B's rows are contiguous along K: C[m, n] = A[m, :] . B[n, :], as many rows of B at a time as a register
has lanes, so that one transposition sums them all.
"""

_HEAD = """
#define INLINE static inline __attribute__((always_inline))
#define MUCH 131072 /* bytes: what does not stay in the nearest cache is read row by row, once */
#define UNROLL _Pragma("GCC unroll 64")
#if defined(__clang__)
#define SHUFFLE(V, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(V, a, b, ...) __builtin_shuffle(a, b, (V##_index){__VA_ARGS__})
#endif

#define VECTORS(T, V, I) \\
typedef T V __attribute__((vector_size(WIDE), aligned(sizeof(T)), may_alias)); \\
typedef I V##_index __attribute__((vector_size(WIDE)));

#define PRODUCTS(T, V, L) \\
INLINE void tile_##T(const int mt, const int nv, const int split, int64_t K, const T *a, int64_t sam, int64_t sak, \\
                     const T *b, int64_t sbk, T *c, int64_t scm) { \\
  V sum[8][4][8]; \\
  UNROLL for (int p = 0; p < split; p++) UNROLL for (int i = 0; i < mt; i++) UNROLL for (int j = 0; j < nv; j++) \\
    sum[p][i][j] = (V){0}; \\
  int64_t k = 0; \\
  for (; k + split <= K; k += split) \\
    UNROLL for (int p = 0; p < split; p++) UNROLL for (int i = 0; i < mt; i++) UNROLL for (int j = 0; j < nv; j++) \\
      sum[p][i][j] += a[i * sam + (k + p) * sak] * *(const V *)(b + (k + p) * sbk + j * L); \\
  for (; k < K; k++) \\
    UNROLL for (int i = 0; i < mt; i++) UNROLL for (int j = 0; j < nv; j++) \\
      sum[0][i][j] += a[i * sam + k * sak] * *(const V *)(b + k * sbk + j * L); \\
  UNROLL for (int i = 0; i < mt; i++) UNROLL for (int j = 0; j < nv; j++) { \\
    V total = sum[0][i][j]; \\
    UNROLL for (int p = 1; p < split; p++) total += sum[p][i][j]; \\
    *(V *)(c + i * scm + j * L) = total; \\
  } \\
} \\
INLINE void band_##T(const int nv, const int split, int64_t M, int64_t K, const T *a, int64_t sam, int64_t sak, \\
                     const T *b, int64_t sbk, T *c, int64_t scm) { \\
  int64_t m = 0; \\
  if (nv <= 2) for (; m + 4 <= M; m += 4) tile_##T(4, nv, 1, K, a + m * sam, sam, sak, b, sbk, c + m * scm, scm); \\
  for (; m < M; m++) tile_##T(1, nv, split, K, a + m * sam, sam, sak, b, sbk, c + m * scm, scm); \\
} \\
INLINE void more_##T(int64_t N, int64_t K, const T *a, int64_t sak, const T *b, int64_t sbk, T *c) { \\
  int64_t k = 0; \\
  for (; k + 4 <= K; k += 4) { \\
    const T *x = a + k * sak, *r = b + k * sbk; \\
    int64_t n = 0; \\
    for (; n + 2 * L <= N; n += 2 * L) { \\
      V s0 = *(const V *)(c + n), s1 = *(const V *)(c + n + L); \\
      UNROLL for (int p = 0; p < 4; p++) { \\
        s0 += x[p * sak] * *(const V *)(r + p * sbk + n); \\
        s1 += x[p * sak] * *(const V *)(r + p * sbk + n + L); \\
      } \\
      *(V *)(c + n) = s0; \\
      *(V *)(c + n + L) = s1; \\
    } \\
    for (; n < N; n++) \\
      UNROLL for (int p = 0; p < 4; p++) c[n] += x[p * sak] * r[p * sbk + n]; \\
  } \\
  for (; k < K; k++) \\
    for (int64_t n = 0; n < N; n++) c[n] += a[k * sak] * b[k * sbk + n]; \\
} \\
INLINE void rows_##T(int64_t M, int64_t N, int64_t K, const T *a, int64_t sam, int64_t sak, \\
                     const T *b, int64_t sbk, T *c, int64_t scm) { \\
  if (M == 1 && N * K * (int64_t)sizeof(T) >= MUCH) { \\
    for (int64_t n = 0; n < N; n++) c[n] = 0; \\
    more_##T(N, K, a, sak, b, sbk, c); \\
    return; \\
  } \\
  int64_t n = 0; \\
  const int most = M >= 4 ? 2 : 8; \\
  for (; n + most * L <= N; n += most * L) band_##T(most, 1, M, K, a, sam, sak, b + n, sbk, c + n, scm); \\
  if (M < 4 && n + 4 * L <= N) { band_##T(4, 2, M, K, a, sam, sak, b + n, sbk, c + n, scm); n += 4 * L; } \\
  if (M < 4 && n + 2 * L <= N) { band_##T(2, 4, M, K, a, sam, sak, b + n, sbk, c + n, scm); n += 2 * L; } \\
  if (n + L <= N) { band_##T(1, 8, M, K, a, sam, sak, b + n, sbk, c + n, scm); n += L; } \\
  if (n < N && N >= L) { band_##T(1, 8, M, K, a, sam, sak, b + N - L, sbk, c + N - L, scm); n = N; } \\
  for (int64_t m = 0; n < N && m < M; m++) \\
    for (int64_t j = n; j < N; j++) { \\
      T sum = 0; \\
      for (int64_t k = 0; k < K; k++) sum += a[m * sam + k * sak] * b[k * sbk + j]; \\
      c[m * scm + j] = sum; \\
    } \\
} \\
INLINE T across_##T(V v) { \\
  T sum = 0; \\
  UNROLL for (int j = 0; j < L; j++) sum += v[j]; \\
  return sum; \\
} \\
INLINE void dots_##T(int64_t M, int64_t N, int64_t K, const T *a, int64_t sam, const T *b, int64_t sbn, \\
                     T *c, int64_t scm, int64_t scn) { \\
  const int64_t whole = K / L * L; \\
  for (int64_t m = 0; m < M; m++) { \\
    int64_t n = 0; \\
    for (; n + L <= N; n += L) { \\
      V sum[L]; \\
      UNROLL for (int i = 0; i < L; i++) sum[i] = (V){0}; \\
      const T *w = b + n * sbn; \\
      for (int64_t k = 0; k < whole; k += L, w += L) { \\
        V x = *(const V *)(a + m * sam + k); \\
        __asm__("" : "+r"(w)); /* one pointer: gcc would keep one for each row, and not find room for them */ \\
        UNROLL for (int i = 0; i < L; i++) sum[i] += x * *(const V *)(w + i * sbn); \\
      } \\
      V total = fold_##T(sum); \\
      for (int64_t k = whole; k < K; k++) \\
        UNROLL for (int i = 0; i < L; i++) total[i] += a[m * sam + k] * b[(n + i) * sbn + k]; \\
      if (scn == 1) *(V *)(c + m * scm + n) = total; \\
      else UNROLL for (int i = 0; i < L; i++) c[m * scm + (n + i) * scn] = total[i]; \\
    } \\
    for (; n < N; n++) { \\
      V s0 = (V){0}, s1 = (V){0}, s2 = (V){0}, s3 = (V){0}; \\
      const T *x = a + m * sam, *w = b + n * sbn; \\
      int64_t k = 0; \\
      for (; k + 4 * L <= K; k += 4 * L) { \\
        s0 += *(const V *)(x + k) * *(const V *)(w + k); \\
        s1 += *(const V *)(x + k + L) * *(const V *)(w + k + L); \\
        s2 += *(const V *)(x + k + 2 * L) * *(const V *)(w + k + 2 * L); \\
        s3 += *(const V *)(x + k + 3 * L) * *(const V *)(w + k + 3 * L); \\
      } \\
      for (; k + L <= K; k += L) s0 += *(const V *)(x + k) * *(const V *)(w + k); \\
      T total = across_##T((s0 + s1) + (s2 + s3)); \\
      for (; k < K; k++) total += x[k] * w[k]; \\
      c[m * scm + n * scn] = total; \\
    } \\
  } \\
}
"""


def _fold(kind: str, lanes: int) -> str:
    """Write fold_T, which sums each of L registers over its lanes: L sums in one register, by log2(L) rounds of shuffles."""
    lines = [f"INLINE v{kind} fold_{kind}(const v{kind} *s) {{\n"]
    names = [f"s[{i}]" for i in range(lanes)]
    width = 1
    while len(names) > 1:
        even = ", ".join(str(j if j // width % 2 == 0 else lanes + j - width) for j in range(lanes))
        odd = ", ".join(str(j + width if j // width % 2 == 0 else lanes + j) for j in range(lanes))
        joined = []
        for i in range(0, len(names), 2):
            a, b, name = names[i], names[i + 1], f"t{width}_{i // 2}"
            lines.append(f"v{kind} {name} = SHUFFLE(v{kind}, {a}, {b}, {even}) + SHUFFLE(v{kind}, {a}, {b}, {odd});\n")
            joined.append(name)
        names, width = joined, 2 * width
    return "".join([*lines, f"return {names[0]};\n}}\n"])


def _kernels() -> str:
    text = _HEAD
    # what two stores of 32 bytes wrote, a load of 64 has to wait for: kernels and the compiler's own loops have one width
    for symbol, width in (("#if defined(BROAD)", 64), ("#elif defined(__AVX__)", 32), ("#else", 16)):
        text += f"{symbol}\n#define WIDE {width}\n"
        for kind, index, size in (("float", "int32_t", 4), ("double", "int64_t", 8)):
            text += f"VECTORS({kind}, v{kind}, {index})\n" + _fold(kind, width // size)
    return text + "#endif\nPRODUCTS(float, vfloat, (WIDE / 4))\nPRODUCTS(double, vdouble, (WIDE / 8))\n"


KERNELS = _kernels()
