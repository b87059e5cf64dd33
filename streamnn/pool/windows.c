/* Shared by the parts that look back: the window of keys, its nearest neighbours, and bins of ranks. */

#define WINDOW 1000
#define STRIDE 1024 /* of the key window: whole blocks */
#ifndef NEAR
#define NEAR 15
#define BLOCK 32 /* at least NEAR */
#endif
#define BINS 16

static const int64_t NEIGHBOURS[3] = {1, 5, 15};

static inline double clip(double x, double most) { return x < -most ? -most : x > most ? most : x; }

static inline int64_t bin_of(float q) {
  int64_t b = (int64_t)(((double)q / 1.7 + 1.0) * (BINS / 2));
  return b < 0 ? 0 : b >= BINS ? BINS - 1 : b;
}

/* Find the nearest NEAR keys and their squared distances; ties go to the lower slot. Returns how many there are.

   The NEAR-th least of the minima of interleaved groups bounds the distance sought: few more keys than that pass it. */
static int64_t nearest(const float *keys, const float *q, int64_t G, int64_t stored, int64_t *near, float *far) {
  float d[STRIDE] __attribute__((aligned(64))), least[BLOCK], best[NEAR];
  int32_t pass[STRIDE + 1];
  int64_t found = 0, passed = 0;
  for (int64_t i = 0; i < BLOCK; i++) least[i] = INFINITY;
  for (int64_t start = 0; start < stored; start += BLOCK) {
    float sum[BLOCK] = {0};
    for (int64_t g = 0; g < G; g++) {
      const float *k = keys + g * STRIDE + start;
      float at = q[g];
      for (int64_t i = 0; i < BLOCK; i++) {
        float t = at - k[i];
        sum[i] += t * t;
      }
    }
    for (int64_t i = 0; i < BLOCK; i++) d[start + i] = sum[i];
    if (stored - start < BLOCK) break; /* the last keys are always looked at */
    for (int64_t i = 0; i < BLOCK; i++) least[i] = sum[i] < least[i] ? sum[i] : least[i];
  }
  for (int64_t i = 1; i < BLOCK; i++) {
    float x = least[i];
    int64_t j = i;
    for (; j > 0 && least[j - 1] > x; j--) least[j] = least[j - 1];
    least[j] = x;
  }
  float bound = least[NEAR - 1];
  for (int64_t i = 0; i < stored; i++) {
    pass[passed] = (int32_t)i;
    passed += d[i] <= bound;
  }
  for (int64_t c = 0; c < passed; c++) {
    int32_t i = pass[c];
    if (found == NEAR && d[i] >= best[NEAR - 1]) continue;
    int64_t at = found < NEAR ? found++ : NEAR - 1;
    for (; at > 0 && best[at - 1] > d[i]; at--) best[at] = best[at - 1], near[at] = near[at - 1];
    best[at] = d[i], near[at] = i;
  }
  memcpy(far, best, found * sizeof(float));
  return found;
}
