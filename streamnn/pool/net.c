/* A tiny network that learns each event and then a few of the past again; see net.py for the formulas.

   Axes: D inputs used (the first of a feature row of `width`), H = 64 units, C outputs, B rows of a micro-batch.
   Sums over inputs run in their order, so inputs of 0 change no bit: room for more inputs does not matter. */

#if defined(__AVX__)
#include <immintrin.h>
#endif
#pragma GCC optimize("fp-contract=fast") /* fused multiply-add: each weight is always computed by the same code here */

#define H 64
#define EIGHTHS (H / 8)
#define SKIP 0.3f
#define EPSILON 1e-16f /* under the root: Adam's 1e-8 */

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4), may_alias));

enum { CLASSES = 0, LABELS = 1, HUBER = 2, ABSOLUTE = 3 };

typedef struct {
  float *w0, *b0, *wo, *bo, *ws;      /* [D, H], [H], [C, H], [C], [C, D] */
  float *v0, *vb0, *vo, *vbo, *vs;    /* second moments */
  double *left_in, *left_unit, *left_out; /* beta2^steps: [D], [1], [C] */
  int8_t *active;                     /* [C] classes that exist */
  double *level;                      /* [1] running mean of log sum exp */
  int64_t *count;                     /* [1] labels */
} Net;

typedef struct {
  int64_t D, C, width, again, stride, loss;
  float rate;
  double beta2;
} Plan;

typedef struct {
  float unit[H], normal[H], spread; /* after relu, after normalisation, 1 / deviation */
} Pass;

static inline float total(v8 s) { return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])); }

static __attribute__((noinline)) void forward(const Net *n, const Plan *p, const float *x, Pass *pass, double *out) {
  v8 a[EIGHTHS], s = {0};
  for (int j = 0; j < EIGHTHS; j++) a[j] = *(const v8 *)(n->b0 + 8 * j);
  for (int64_t d = 0; d < p->D; d++) {
    if (x[d] == 0.0f) continue;
    for (int j = 0; j < EIGHTHS; j++) a[j] += x[d] * *(const v8 *)(n->w0 + d * H + 8 * j);
  }
  for (int j = 0; j < EIGHTHS; j++) s += a[j];
  float mean = total(s) / H;
  s = (v8){0};
  for (int j = 0; j < EIGHTHS; j++) a[j] -= mean, s += a[j] * a[j];
  float spread = 1.0f / sqrtf(total(s) / H + 1e-5f);
  for (int j = 0; j < EIGHTHS; j++) *(v8 *)(pass->normal + 8 * j) = a[j] * spread;
  for (int j = 0; j < H; j++) pass->unit[j] = pass->normal[j] > 0.0f ? pass->normal[j] : 0.0f;
  pass->spread = spread;
  for (int64_t c = 0; c < p->C; c += 4) {
    int64_t many = p->C - c < 4 ? p->C - c : 4;
    const float *w[4];
    float skip[4] = {0};
    for (int64_t i = 0; i < 4; i++) w[i] = n->ws + (i < many ? c + i : c) * p->D;
    for (int64_t d = 0; d < p->D; d++)
      for (int64_t i = 0; i < 4; i++) skip[i] += w[i][d] * x[d];
    for (int64_t i = 0; i < many; i++) {
      s = (v8){0};
      for (int j = 0; j < EIGHTHS; j++) s += *(const v8 *)(n->wo + (c + i) * H + 8 * j) * *(const v8 *)(pass->unit + 8 * j);
      out[c + i] = (double)(n->bo[c + i] + total(s) + SKIP * skip[i]);
    }
  }
}

/* 1 / sqrt x: a guess, then Newton. Division and square root would take a third of the time of a step. */
static inline __attribute__((always_inline)) v8 inverse_root(v8 x) {
#if defined(__AVX__)
  v8 half = 0.5f * x, y = (v8)_mm256_rsqrt_ps((__m256)x); /* to 4e-4, then 3e-7 */
#else
  v8 half = 0.5f * x, y = (v8)(0x5f3759df - ((i8)x >> 1)); /* to 4e-2, then 2e-3, then 5e-6 */
  y *= 1.5f - half * y * y;
#endif
  y *= 1.5f - half * y * y;
  return y;
}

/* Adam without momentum, eight at a time: w -= rate g / sqrt(v / (1 - beta2^t) + epsilon). */
static inline __attribute__((always_inline)) void adam8(float *w, float *v, v8 g, float keep, v8 correct, float rate) {
  v8 m = keep * *(v8 *)v + (1.0f - keep) * (g * g);
  *(v8 *)v = m;
  *(v8 *)w -= (rate * g) * inverse_root(m * correct + EPSILON);
}

/* The same for n weights that lie together. */
static void adam(int64_t n, float *w, float *v, const float *g, float keep, const float *correct, float rate) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) adam8(w + i, v + i, *(const v8 *)(g + i), keep, *(const v8 *)(correct + i), rate);
  if (i == n) return;
  v8 a = {0}, b = {0}, c = {0}, d = (v8){0} + 1.0f;
  size_t rest = (n - i) * sizeof(float);
  memcpy(&a, w + i, rest), memcpy(&b, v + i, rest), memcpy(&c, g + i, rest), memcpy(&d, correct + i, rest);
  adam8((float *)&a, (float *)&b, c, keep, d, rate);
  memcpy(w + i, &a, rest), memcpy(v + i, &b, rest);
}

/* Gradient of one row's loss with respect to the outputs, and the loss. `said`: log-probabilities, of classes. */
static double slope(const Net *n, const Plan *p, const double *out, const double *said, int32_t label, const double *y,
                    const double *units, float *g) {
  if (p->loss == CLASSES) {
    for (int64_t c = 0; c < p->C; c++) g[c] = n->active[c] ? (float)(exp_of(said[c]) - (c == label)) : 0.0f;
    return -said[label];
  }
  double loss = 0.0;
  int64_t known = 0;
  for (int64_t c = 0; c < p->C; c++) known += !isnan(y[c]);
  for (int64_t c = 0; c < p->C; c++) {
    g[c] = 0.0f;
    if (isnan(y[c])) continue;
    if (p->loss == LABELS) {
      double e = exp_of(-fabs(out[c])), q = (out[c] > 0 ? 1.0 : e) / (1.0 + e);
      g[c] = (float)((q - y[c]) / known);
      loss += (out[c] > 0 ? out[c] : 0.0) - out[c] * y[c] + log_of(1.0 + e);
    } else {
      double target = (y[c] - units[0]) / units[1];
      target = target < -10.0 ? -10.0 : target > 10.0 ? 10.0 : target;
      double e = out[c] - target, size = fabs(e), sign = (e > 0) - (e < 0);
      int inner = p->loss == HUBER && size < 1.0;
      g[c] = (float)((inner ? e : sign) / known);
      loss += inner ? 0.5 * e * e : p->loss == HUBER ? size - 0.5 : size;
    }
  }
  return known ? loss / known : 0.0;
}

/* Gradient with respect to the units before normalisation. */
static void back(const Net *n, const Plan *p, const Pass *pass, const float *g, float *da) {
  v8 d[EIGHTHS] = {0}, s = {0}, t = {0};
  for (int64_t c = 0; c < p->C; c++)
    for (int j = 0; j < EIGHTHS; j++) d[j] += g[c] * *(const v8 *)(n->wo + c * H + 8 * j);
  for (int j = 0; j < EIGHTHS; j++) {
    v8 normal = *(const v8 *)(pass->normal + 8 * j);
    for (int i = 0; i < 8; i++) d[j][i] = normal[i] > 0.0f ? d[j][i] : 0.0f;
    s += d[j], t += d[j] * normal;
  }
  float mean = total(s) / H, along = total(t) / H;
  for (int j = 0; j < EIGHTHS; j++)
    *(v8 *)(da + 8 * j) = pass->spread * (d[j] - mean - *(const v8 *)(pass->normal + 8 * j) * along);
}

static inline float corrected(double left) { return (float)(1.0 / (1.0 - left)); }

/* One update from B rows: the mean of their gradients. `rows` point to feature rows. */
static inline __attribute__((always_inline)) void update_of(Net *n, const Plan *p, int64_t B, const float **rows, const Pass *pass,
                                                            const float *g) {
  float keep = (float)p->beta2, rate = p->rate, da[B * H], part = 1.0f / B, fresh[p->D];
  int64_t C = p->C, D = p->D;
  for (int64_t b = 0; b < B; b++) {
    back(n, p, pass + b, g + b * C, da + b * H);
    for (int j = 0; j < H; j++) da[b * H + j] *= part;
  }
  n->left_unit[0] *= p->beta2;
  for (int64_t c = 0; c < C; c++) n->left_out[c] *= n->active[c] ? p->beta2 : 1.0;
  for (int64_t d = 0; d < D; d++) {
    v8 many, sum[EIGHTHS] = {0};
    int some = 0;
    for (int64_t b = 0; b < B; b++) {
      float x = rows[b][d];
      if (x == 0.0f) continue;
      some = 1;
      for (int j = 0; j < EIGHTHS; j++) sum[j] += x * *(const v8 *)(da + b * H + 8 * j);
    }
    fresh[d] = 1.0f;
    if (!some && n->left_in[d] == 1.0) continue; /* steps of an input are counted from its first value on */
    n->left_in[d] *= p->beta2;
    fresh[d] = corrected(n->left_in[d]);
    many = fresh[d] - (v8){0};
    if (some)
      for (int j = 0; j < EIGHTHS; j++) adam8(n->w0 + d * H + 8 * j, n->v0 + d * H + 8 * j, sum[j], keep, many, rate);
    else
      for (int j = 0; j < EIGHTHS; j++) *(v8 *)(n->v0 + d * H + 8 * j) *= keep;
  }
  v8 unit = corrected(n->left_unit[0]) - (v8){0};
  for (int j = 0; j < EIGHTHS; j++) {
    v8 sum = {0};
    for (int64_t b = 0; b < B; b++) sum += *(const v8 *)(da + b * H + 8 * j);
    adam8(n->b0 + 8 * j, n->vb0 + 8 * j, sum, keep, unit, rate);
  }
  for (int64_t c = 0; c < C; c++) {
    if (!n->active[c]) continue;
    float correct = corrected(n->left_out[c]), sum = 0.0f;
    v8 many = correct - (v8){0};
    for (int j = 0; j < EIGHTHS; j++) {
      v8 all = {0};
      for (int64_t b = 0; b < B; b++) all += (part * g[b * C + c]) * *(const v8 *)(pass[b].unit + 8 * j);
      adam8(n->wo + c * H + 8 * j, n->vo + c * H + 8 * j, all, keep, many, rate);
    }
    for (int64_t b = 0; b < B; b++) sum += part * g[b * C + c];
    adam(1, n->bo + c, n->vbo + c, &sum, keep, &correct, rate);
    float slope[D], most[D];
    for (int64_t d = 0; d < D; d++) slope[d] = 0.0f;
    for (int64_t b = 0; b < B; b++)
      for (int64_t d = 0; d < D; d++) slope[d] += (part * SKIP * g[b * C + c]) * rows[b][d];
    /* a weight has taken as many steps as the younger of its two ends */
    for (int64_t d = 0; d < D; d++) most[d] = fresh[d] > correct ? fresh[d] : correct;
    adam(D, n->ws + c * D, n->vs + c * D, slope, keep, most, rate);
  }
}

static __attribute__((noinline)) void update(Net *n, const Plan *p, int64_t B, const float **rows, const Pass *pass,
                                             const float *g) {
  if (B == 1) update_of(n, p, 1, rows, pass, g); /* without the loops over rows */
  else update_of(n, p, B, rows, pass, g);
}

/* Count a label; a class that is new enters at probability max(.01, 1 / (labels + 2)) on an average event. `all`: log sum exp
   of the row's outputs. */
static void count_label(Net *n, const Plan *p, double all, int32_t label) {
  int some = 0;
  for (int64_t c = 0; c < p->C; c++) some |= n->active[c];
  double labels = n->count[0], level = n->level[0];
  if (some) {
    double w = 1.0 / (labels + 1.0);
    n->level[0] += (w < 0.01 ? 0.01 : w) * (all - level);
  }
  if (!n->active[label]) {
    double enter = 1.0 / (labels + 2.0);
    enter = enter < 0.01 ? 0.01 : enter;
    if (some) n->bo[label] = (float)(level + log_of(enter / (1.0 - enter)));
    n->active[label] = 1;
  }
  n->count[0]++;
}

static int has_label(const Plan *p, int32_t label, const double *y, const double *units) {
  if (p->loss == CLASSES) return label >= 0;
  if (p->loss != LABELS && !(units[1] > 0)) return 0; /* no scale yet */
  for (int64_t c = 0; c < p->C; c++)
    if (!isnan(y[c])) return 1;
  return 0;
}

/* sizes: D C width again stride loss; reals: rate beta2; arrays: Net in its order, then rows [K, width], label [K],
   y [K, C] (other losses), units [K, 2] (offset and scale of values when the row is learned), draws [K, again], kept rows [S, width], kept label [S], kept y [S, C],
   out [K, M, C] (log-probabilities, or raw outputs for other losses), loss [K]. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a,
         const double *reals) {
  unsigned mode = enter();
  Plan p = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], (float)reals[0], reals[1]};
  Net n = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]};
  const float *rows = a[16], *kept = a[21];
  const int32_t *label = a[17], *draws = a[20], *kept_label = a[22];
  const double *y = a[18], *units = a[19], *kept_y = a[23];
  double *out = a[24], *loss = a[25];
  int64_t C = p.C;
  for (int64_t o = 0; o < ops; o++) {
    int64_t B = stop[o] - start[o], many = 0;
    Pass pass[B];
    double raw[B * C], said[B * C], all[B];
    const float *used[B];
    float g[B * C];
    for (int64_t b = 0; b < B; b++) {
      int64_t r = start[o] + b;
      forward(&n, &p, rows + r * p.width, pass + b, raw + b * C);
      if (p.loss == CLASSES) all[b] = log_softmax(C, n.active, raw + b * C, said + b * C);
      if (kind[o] != LEARN) memcpy(out + r * p.stride, (p.loss == CLASSES ? said : raw) + b * C, C * sizeof(double));
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t b = 0; b < B; b++) {
      int64_t r = start[o] + b;
      if (p.loss != CLASSES || !has_label(&p, label[r], y + r * C, units + 2 * r)) continue;
      int8_t was = n.active[label[r]];
      count_label(&n, &p, all[b], label[r]);
      if (!was) /* its logit is there only now */
        for (int64_t i = 0; i < B; i++) {
          raw[i * C + label[r]] += n.bo[label[r]];
          all[i] = log_softmax(C, n.active, raw + i * C, said + i * C);
        }
    }
    for (int64_t b = 0; b < B; b++) {
      int64_t r = start[o] + b;
      if (!has_label(&p, label[r], y + r * C, units + 2 * r)) continue;
      loss[r] = slope(&n, &p, raw + b * C, said + b * C, label[r], y + r * C, units + 2 * r, g + many * C);
      used[many] = rows + r * p.width;
      if (many < b) pass[many] = pass[b];
      many++;
    }
    if (!many) continue;
    update(&n, &p, many, used, pass, g);
    for (int64_t i = 0; i < p.again; i++) {
      int64_t drawn = 0;
      for (int64_t b = 0; b < B; b++) {
        int32_t at = draws[(start[o] + b) * p.again + i];
        if (at == INT32_MIN) continue;
        used[drawn] = at >= 0 ? rows + at * p.width : kept + (-1 - (int64_t)at) * p.width;
        forward(&n, &p, used[drawn], pass + drawn, raw);
        int32_t mine = at >= 0 ? label[at] : kept_label[-1 - (int64_t)at];
        if (p.loss == CLASSES) log_softmax(C, n.active, raw, said);
        slope(&n, &p, raw, said, mine, at >= 0 ? y + at * C : kept_y + (-1 - (int64_t)at) * C, units + 2 * start[o],
              g + drawn * C);
        drawn++;
      }
      if (drawn) update(&n, &p, drawn, used, pass, g);
    }
  }
  leave(mode);
}
