/* Shared by the native parts of the pool: elementary functions that the compiler can vectorise, the mode in which the parts
   run, and bits for draws.

   Each function is a fixed sequence of additions and multiplications, so a value does not depend on where in an array
   it is computed. Relative error is below 1e-13 over the ranges used. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum { PREDICT_LEARN = 0, PREDICT_OBSERVE = 1, LEARN = 2, PREDICT = 3 };

/* Denormal moments cost hundreds of cycles each: they count as 0 inside a call; the caller's mode is put back. */
static inline unsigned enter(void) {
#if defined(__x86_64__)
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
  return mode;
#else
  return 0;
#endif
}

static inline void leave(unsigned mode) {
#if defined(__x86_64__)
  _mm_setcsr(mode);
#else
  (void)mode;
#endif
}

static inline double from_bits(int64_t bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

static inline int64_t to_bits(double x) {
  int64_t bits;
  memcpy(&bits, &x, 8);
  return bits;
}

/* log x for normal x > 0: x = 2^k m with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)). */
static inline double log_of(double x) {
  int64_t bits = to_bits(x) - 0x3fe6a09e667f3bcdLL;
  /* arithmetic shift by way of a bias: AVX2 has no 64-bit one */
  int64_t k = (int64_t)((uint64_t)(bits + 0x4000000000000000LL) >> 52) - 1024;
  double m = from_bits(to_bits(x) - (k << 52));
  /* small integer to double without a 64-bit conversion instruction */
  double e = from_bits(0x4330000000000000LL + (k + 4096)) - 4503599627374592.0;
  double s = (m - 1.0) / (m + 1.0), q = s * s;
  double p = 1.0 / 15 + q * (1.0 / 17 + q * (1.0 / 19));
  p = 1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13 + q * p));
  p = 1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * p));
  return e * 0.6931471805599453 + 2.0 * (s + s * (q * p));
}

/* exp x for x clipped to [-700, 700]: 2^k e^r with |r| <= log(2) / 2. */
static inline double exp_of(double x) {
  x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
  double t = x * 1.4426950408889634 + 6755399441055744.0; /* rounds to an integer in the low bits */
  int64_t k = to_bits(t) << 52;
  double n = t - 6755399441055744.0;
  double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  p = 1.0 / 479001600.0 + r * p;
  p = 1.0 / 39916800.0 + r * p;
  p = 1.0 / 3628800.0 + r * p;
  p = 1.0 / 362880.0 + r * p;
  p = 1.0 / 40320.0 + r * p;
  p = 1.0 / 5040.0 + r * p;
  p = 1.0 / 720.0 + r * p;
  p = 1.0 / 120.0 + r * p;
  p = 1.0 / 24.0 + r * p;
  p = 1.0 / 6.0 + r * p;
  p = 0.5 + r * p;
  p = 1.0 + r * (1.0 + r * p);
  return from_bits(to_bits(p) + k);
}

static inline uint64_t mix(uint64_t z) { /* splitmix64, Steele, Lea and Flood 2014 */
  z += 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

#define FLOOR (-30.0)

/* The logarithm of a probability, FLOOR at least and where the class does not exist. */
static inline double log_chance(int8_t active, double p) {
  double l = active ? log_of(p > 1e-300 ? p : 1e-300) : FLOOR;
  return l < FLOOR ? FLOOR : l;
}

/* Turn scores into log-probabilities over the classes that exist; the others get FLOOR. Returns log sum exp. */
static inline double log_softmax(int64_t C, const int8_t *active, const double *score, double *out) {
  double top = -INFINITY, sum = 0.0;
  for (int64_t c = 0; c < C; c++)
    if (active[c] && score[c] > top) top = score[c];
  for (int64_t c = 0; c < C; c++)
    if (active[c]) sum += exp_of(score[c] - top);
  double shift = top + log_of(sum);
  for (int64_t c = 0; c < C; c++) {
    double l = active[c] ? score[c] - shift : FLOOR;
    out[c] = l < FLOOR ? FLOOR : l;
  }
  return shift;
}
