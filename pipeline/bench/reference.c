/* Online learning of one network, written by hand: what a careful C programmer would write for exactly this case.

   Per event: standardise the inputs (float64, with the event's own values), predict class probabilities, learn the label
   by cross-entropy with SGD or Adam, update the input statistics and the head. The same formulas, in the same precision,
   as the step that the native engine compiles; no linear path beside the network, no dropout, one multi-class target.

   Sizes and methods are macros: F inputs, H1 and H2 units, C classes; ADAM or SGD; STREAMING or layer normalisation.
   It is the yardstick of the step benchmark and is not to be improved when the engine is. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define ALIGNED __attribute__((aligned(64)))
#define INLINE static inline __attribute__((always_inline))
#ifdef STREAMING
#define STATISTICS(H) struct { \
  double short_mean[H] ALIGNED, long_mean[H] ALIGNED, short_gradient_mean[H] ALIGNED, long_gradient_mean[H] ALIGNED, \
    gradient_mean[H] ALIGNED, short_power[H] ALIGNED, long_power[H] ALIGNED, short_gradient_power[H] ALIGNED, \
    long_gradient_power[H] ALIGNED, gradient_power[H] ALIGNED; int64_t passes, updates; }
#endif

typedef struct {
  float w1[F][H1] ALIGNED, b1[H1] ALIGNED; /* turned: a row for each input */
  float w2[H2][H1] ALIGNED, b2[H2] ALIGNED;
  float wo[C][H2] ALIGNED, bo[C] ALIGNED;
#ifdef ADAM
  float m1[F][H1] ALIGNED, mb1[H1] ALIGNED, m2[H2][H1] ALIGNED, mb2[H2] ALIGNED, mo[C][H2] ALIGNED, mbo[C] ALIGNED;
  float v1[F][H1] ALIGNED, vb1[H1] ALIGNED, v2[H2][H1] ALIGNED, vb2[H2] ALIGNED, vo[C][H2] ALIGNED, vbo[C] ALIGNED;
  double mass1[2][F] ALIGNED, masso[2][C] ALIGNED, massbo[2][C] ALIGNED; /* total weights of the averages, per slice */
  double mass[2][3], waiting[2][6];
#endif
#ifdef STREAMING
  STATISTICS(H1) norm1;
  STATISTICS(H2) norm2;
#endif
  int64_t count[F];
  double mean[F] ALIGNED, var[F] ALIGNED;
  int64_t labels;
  float entry[C], level;
  uint8_t active[C];
} State;

/* ---- small products ---- */

/* y = W^T x + b for W with a row per input */
INLINE void forward_turned(int64_t n_in, int64_t n_out, const float *restrict w, const float *restrict b,
                           const float *restrict x, float *restrict y) {
  for (int64_t j = 0; j < n_out; j++) y[j] = b[j];
  int64_t i = 0;
  for (; i + 4 <= n_in; i += 4) {
    const float *r = w + i * n_out;
    float x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
#pragma omp simd
    for (int64_t j = 0; j < n_out; j++)
      y[j] += (x0 * r[j] + x1 * r[n_out + j]) + (x2 * r[2 * n_out + j] + x3 * r[3 * n_out + j]);
  }
  for (; i < n_in; i++)
#pragma omp simd
    for (int64_t j = 0; j < n_out; j++) y[j] += x[i] * w[i * n_out + j];
}

/* y = W x + b for W with a row per output, eight rows at a time */
INLINE void forward(int64_t n_in, int64_t n_out, const float *restrict w, const float *restrict b,
                    const float *restrict x, float *restrict y) {
  int64_t i = 0;
  for (; i + 8 <= n_out; i += 8) {
    const float *r = w + i * n_in;
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3, s4, s5, s6, s7)
    for (int64_t j = 0; j < n_in; j++) {
      s0 += r[j] * x[j];
      s1 += r[n_in + j] * x[j];
      s2 += r[2 * n_in + j] * x[j];
      s3 += r[3 * n_in + j] * x[j];
      s4 += r[4 * n_in + j] * x[j];
      s5 += r[5 * n_in + j] * x[j];
      s6 += r[6 * n_in + j] * x[j];
      s7 += r[7 * n_in + j] * x[j];
    }
    y[i] = s0 + b[i];
    y[i + 1] = s1 + b[i + 1];
    y[i + 2] = s2 + b[i + 2];
    y[i + 3] = s3 + b[i + 3];
    y[i + 4] = s4 + b[i + 4];
    y[i + 5] = s5 + b[i + 5];
    y[i + 6] = s6 + b[i + 6];
    y[i + 7] = s7 + b[i + 7];
  }
  for (; i < n_out; i++) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < n_in; j++) s += w[i * n_in + j] * x[j];
    y[i] = s + b[i];
  }
}

/* ---- updates ---- */

#ifdef ADAM
#define BETA1 0.9f
#define BETA2 0.999f
INLINE void adam(int64_t n, float *restrict p, float *restrict m, float *restrict v, const float *restrict x, float g0,
                 float scale, float root) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    float g = g0 * x[j];
    float mean = BETA1 * m[j] + (1 - BETA1) * g, square = BETA2 * v[j] + (float)(1 - 0.999) * (g * g);
    m[j] = mean;
    v[j] = square;
    p[j] -= scale * (mean / (sqrtf(square) * root + 1e-8f));
  }
}

/* the total weights of one slice: returns the factors of the step */
INLINE void weigh(double *m, double *v, const double *wait, int begins, int before, float rate, float *scale, float *root) {
  int begun = *v > 0 || begins;
  double bm = before ? *m : wait[0], bv = before ? *v : wait[1];
  *m = begun ? 0.9 * bm + (1 - 0.9) : 0.0;
  *v = begun ? 0.999 * bv + (1 - 0.999) : 0.0;
  *scale = (float)((double)rate / (begun ? *m : 1.0));
  *root = (float)(1 / sqrt(begun ? *v : 1.0));
}

INLINE void wait_on(double *wait, int before) {
  wait[0] = before ? wait[0] : 0.9 * wait[0] + (1 - 0.9);
  wait[1] = before ? wait[1] : 0.999 * wait[1] + (1 - 0.999);
}
#endif

INLINE float total(int64_t n, const float *restrict x) {
  float s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t j = 0; j < n; j++) s += fabsf(x[j]);
  return s;
}

/* ---- hidden layers ---- */

#ifndef STREAMING
INLINE float normalize(int64_t n, const float *restrict a, float *restrict y, float *restrict h) {
  float s = 0, q = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t j = 0; j < n; j++) s += a[j];
  float mean = s / n;
#pragma omp simd reduction(+ : q)
  for (int64_t j = 0; j < n; j++) {
    float d = a[j] - mean;
    q += d * d;
  }
  float r = 1 / sqrtf(q / n + 1e-5f);
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    y[j] = (a[j] - mean) * r;
    h[j] = y[j] < 0 ? 0 : y[j];
  }
  return r;
}

/* g: gradient of h in, of a out */
INLINE void back(int64_t n, const float *restrict y, float r, float *restrict g) {
  float s = 0, q = 0;
#pragma omp simd reduction(+ : s, q)
  for (int64_t j = 0; j < n; j++) {
    float k = y[j] > 0 ? g[j] : 0;
    g[j] = k;
    s += k;
    q += k * y[j];
  }
  s /= n;
  q /= n;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) g[j] = r * (g[j] - s - y[j] * q);
}
#else
#define STREAMING_LAYER(N, H) \
INLINE void evaluate_##N(State *restrict s, const float *restrict a, float *restrict h) { \
  int some = s->norm##N.passes + s->norm##N.updates > 0, begun = s->norm##N.updates > 0; \
  for (int64_t j = 0; j < H; j++) { \
    double sm = s->norm##N.short_mean[j], sp = s->norm##N.short_power[j]; \
    double mean = 0.7 * (begun ? s->norm##N.long_mean[j] : sm) + 0.3 * sm; \
    double power = 0.7 * (begun ? s->norm##N.long_power[j] : sp) + 0.3 * sp; \
    float y = (a[j] - (float)mean) * (float)(1 / sqrt(power + 1e-5)); \
    y = some ? y : a[j]; \
    h[j] = y < 0 ? 0 : y; \
  } \
} \
INLINE void begin_##N(State *restrict s) { \
  int64_t n = s->norm##N.passes; \
  int some = n > 0, first = s->norm##N.updates == 0; \
  double many = n > 1 ? n : 1; \
  for (int64_t j = 0; some && j < H; j++) { \
    double gm = s->norm##N.short_gradient_mean[j], gp = s->norm##N.short_gradient_power[j]; \
    gm += (s->norm##N.gradient_mean[j] - gm) / many; \
    gp += (s->norm##N.gradient_power[j] - gp) / many; \
    double sm = s->norm##N.short_mean[j], sp = s->norm##N.short_power[j]; \
    s->norm##N.long_mean[j] = first ? sm : 0.7 * s->norm##N.long_mean[j] + 0.3 * sm; \
    s->norm##N.long_power[j] = first ? sp : 0.7 * s->norm##N.long_power[j] + 0.3 * sp; \
    s->norm##N.long_gradient_mean[j] = first ? gm : 0.7 * s->norm##N.long_gradient_mean[j] + 0.3 * gm; \
    s->norm##N.long_gradient_power[j] = first ? gp : 0.7 * s->norm##N.long_gradient_power[j] + 0.3 * gp; \
    s->norm##N.short_mean[j] = s->norm##N.short_power[j] = 0; \
    s->norm##N.short_gradient_mean[j] = s->norm##N.short_gradient_power[j] = 0; \
  } \
  s->norm##N.updates += some; \
  s->norm##N.passes = 0; \
} \
INLINE void train_##N(State *restrict s, const float *restrict a, float *restrict y, float *restrict h, \
                      double *restrict mean, double *restrict scale) { \
  begin_##N(s); \
  int begun = s->norm##N.updates > 0; \
  for (int64_t j = 0; j < H; j++) { \
    double x = a[j]; \
    s->norm##N.short_mean[j] = x; \
    double m = 0.7 * (begun ? s->norm##N.long_mean[j] : x) + 0.3 * x; \
    double p = (x - m) * (x - m); \
    s->norm##N.short_power[j] = p; \
    double power = 0.7 * (begun ? s->norm##N.long_power[j] : p) + 0.3 * p; \
    mean[j] = m; \
    scale[j] = 1 / sqrt(power + 1e-5); \
    y[j] = (a[j] - (float)m) * (float)scale[j]; \
    h[j] = y[j] < 0 ? 0 : y[j]; \
  } \
  s->norm##N.passes += 1; \
} \
INLINE void back_##N(State *restrict s, const float *restrict a, const float *restrict y, const double *restrict mean, \
                     const double *restrict scale, float *restrict g) { \
  int begun = s->norm##N.updates > 0; \
  double of = 0.3 + (begun ? 0.0 : 0.7); \
  for (int64_t j = 0; j < H; j++) { \
    float k = y[j] > 0 ? g[j] : 0; \
    double r = scale[j], d = (double)a[j] - mean[j]; \
    double dp = (double)(k * (a[j] - (float)mean[j])) * -0.5 * (r * r * r); \
    double dm = -(double)(k * (float)r); \
    double past_m = begun ? 0.7 * s->norm##N.long_gradient_mean[j] : 0; \
    double past_p = begun ? 0.7 * s->norm##N.long_gradient_power[j] : 0; \
    double sp = of * dp + past_p; \
    dm -= 2 * d * sp; \
    s->norm##N.gradient_mean[j] = dm; \
    s->norm##N.gradient_power[j] = dp; \
    g[j] = k * (float)r + (float)(2 * d * sp + of * dm + past_m); \
  } \
}
STREAMING_LAYER(1, H1)
STREAMING_LAYER(2, H2)
#endif

INLINE void softmax(const float *restrict out, const State *restrict s, float *restrict p, float *log_total, float *most) {
  float top = -INFINITY, sum = 0;
  float logit[C];
  for (int c = 0; c < C; c++) {
    logit[c] = s->active[c] ? out[c] + s->entry[c] : -1e30f;
    top = logit[c] > top ? logit[c] : top;
  }
  for (int c = 0; c < C; c++) {
    p[c] = expf(logit[c] - top);
    sum += p[c];
  }
  for (int c = 0; c < C; c++) p[c] /= sum;
  *log_total = logf(sum);
  *most = top;
}

int64_t state_bytes(void) { return sizeof(State); }

/* begin with given weights (as torch has them); everything else is 0 */
void begin(State *s, const float *w1, const float *b1, const float *w2, const float *b2, const float *wo, const float *bo) {
  memset(s, 0, sizeof *s);
  for (int i = 0; i < H1; i++)
    for (int j = 0; j < F; j++) s->w1[j][i] = w1[i * F + j];
  memcpy(s->b1, b1, sizeof s->b1);
  memcpy(s->w2, w2, sizeof s->w2);
  memcpy(s->b2, b2, sizeof s->b2);
  memcpy(s->wo, wo, sizeof s->wo);
  memcpy(s->bo, bo, sizeof s->bo);
}

void run(int64_t events, State *restrict s, const double *restrict xs, const double *restrict ys, float rate,
         double *restrict served, float *restrict losses) {
#if defined(__x86_64__)
  unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
#endif
  for (int64_t e = 0; e < events; e++) {
    const double *restrict x = xs + e * F, *restrict y = ys + e * C;
    float z[F] ALIGNED, a1[H1] ALIGNED, y1[H1] ALIGNED, h1[H1] ALIGNED, g1[H1] ALIGNED;
    float a2[H2] ALIGNED, y2[H2] ALIGNED, h2[H2] ALIGNED, g2[H2] ALIGNED, out[C], p[C], go[C];
    float log_total, most;

    /* inputs: statistics with the event's own values are those that are kept */
    for (int64_t j = 0; j < F; j++) {
      int known = x[j] == x[j];
      double mean = s->mean[j], var = s->var[j], value = known ? x[j] : mean, reach = 10 * sqrt(var);
      double low = mean - reach, high = mean + reach;
      double pulled = value > low ? value : low;
      pulled = pulled < high ? pulled : high;
      double use = s->count[j] >= 30 && var > 0 ? pulled : value;
      double w = 1 / (double)(s->count[j] + 1), d = use - mean;
      double m = mean + w * d, v = (1 - w) * var + w * (1 - w) * (d * d);
      double t = ((known ? x[j] : m) - m) * (1 / sqrt(v > 0 ? v : 1.0));
      t = v > 0 ? t : 0.0;
      t = t < -5 ? -5 : t;
      z[j] = (float)(t > 5 ? 5 : t);
      s->mean[j] = known ? m : mean;
      s->var[j] = known ? v : var;
      s->count[j] += known;
    }

    /* predict */
    forward_turned(F, H1, &s->w1[0][0], s->b1, z, a1);
#ifdef STREAMING
    evaluate_1(s, a1, h1);
    forward(H1, H2, &s->w2[0][0], s->b2, h1, a2);
    evaluate_2(s, a2, h2);
    forward(H2, C, &s->wo[0][0], s->bo, h2, out);
    softmax(out, s, p, &log_total, &most);
    for (int c = 0; c < C; c++) served[e * C + c] = s->labels ? (s->active[c] ? p[c] : 0.0) : NAN;
    double mean1[H1] ALIGNED, scale1[H1] ALIGNED, mean2[H2] ALIGNED, scale2[H2] ALIGNED;
    train_1(s, a1, y1, h1, mean1, scale1);
    forward(H1, H2, &s->w2[0][0], s->b2, h1, a2);
    train_2(s, a2, y2, h2, mean2, scale2);
    forward(H2, C, &s->wo[0][0], s->bo, h2, out);
    softmax(out, s, p, &log_total, &most);
#else
    float r1 = normalize(H1, a1, y1, h1);
    forward(H1, H2, &s->w2[0][0], s->b2, h1, a2);
    float r2 = normalize(H2, a2, y2, h2);
    forward(H2, C, &s->wo[0][0], s->bo, h2, out);
    softmax(out, s, p, &log_total, &most);
    for (int c = 0; c < C; c++) served[e * C + c] = s->labels ? (s->active[c] ? p[c] : 0.0) : NAN;
#endif

    /* head: a class that this label names for the first time enters */
    int was = 0, known = y[0] == y[0], fresh = 0;
    for (int c = 0; c < C; c++) was |= s->active[c];
    float least = 1 / ((float)s->labels + 2), prior = least > 0.01f ? least : 0.01f;
    for (int c = 0; c < C; c++)
      if (known && y[c] > 0 && !s->active[c]) {
        s->active[c] = 1;
        s->entry[c] = was ? s->level + logf(prior / (1 - prior)) : 0;
        fresh = 1;
      }
    if (known && was) {
      float w = 1 / (float)(s->labels + 1);
      w = w > 0.01f ? w : 0.01f;
      s->level += w * (most + log_total - s->level);
    }
    s->labels += known;
    if (fresh) softmax(out, s, p, &log_total, &most);

    /* loss and its gradient */
    float loss = 0;
    for (int c = 0; c < C; c++) {
      float t = known ? (float)y[c] : 0;
      if (t > 0) loss -= t * (out[c] + s->entry[c] - most - log_total);
      go[c] = known && s->active[c] ? p[c] - t : 0;
    }
    losses[e] = loss;

    /* back, and learn */
#ifdef ADAM
    float size2 = total(H1, h1), size3 = total(H2, h2);
    int before[6] = {0};
    double sum = 0, sumo = 0, sumb = 0;
    for (int64_t j = 0; j < F; j++) sum += s->mass1[1][j];
    for (int c = 0; c < C; c++) sumo += s->masso[1][c], sumb += s->massbo[1][c];
    before[0] = sum > 0;
    before[1] = s->mass[1][0] > 0;
    before[2] = s->mass[1][1] > 0;
    before[3] = s->mass[1][2] > 0;
    before[4] = sumo > 0;
    before[5] = sumb > 0;
#define WAIT(i) double now##i[2] = {s->waiting[0][i], s->waiting[1][i]};
    WAIT(0) WAIT(1) WAIT(2) WAIT(3) WAIT(4) WAIT(5)
    float scale, root;
    for (int64_t j = 0; j < H2; j++) g2[j] = 0;
    for (int c = 0; c < C; c++) {
#pragma omp simd
      for (int64_t j = 0; j < H2; j++) g2[j] += go[c] * s->wo[c][j];
      weigh(&s->masso[0][c], &s->masso[1][c], now4, fabsf(go[c]) * size3 != 0, before[4], rate, &scale, &root);
      adam(H2, s->wo[c], s->mo[c], s->vo[c], h2, go[c], scale, root);
      weigh(&s->massbo[0][c], &s->massbo[1][c], now5, go[c] != 0, before[5], rate, &scale, &root);
      const float one = 1;
      adam(1, s->bo + c, s->mbo + c, s->vbo + c, &one, go[c], scale, root);
    }
#else
    for (int64_t j = 0; j < H2; j++) g2[j] = 0;
    for (int c = 0; c < C; c++) {
      float step = rate * go[c];
#pragma omp simd
      for (int64_t j = 0; j < H2; j++) {
        g2[j] += go[c] * s->wo[c][j];
        s->wo[c][j] -= step * h2[j];
      }
      s->bo[c] -= step;
    }
#endif
#ifdef STREAMING
    back_2(s, a2, y2, mean2, scale2, g2);
#else
    back(H2, y2, r2, g2);
#endif
    for (int64_t j = 0; j < H1; j++) g1[j] = 0;
    for (int64_t i = 0; i + 4 <= H2; i += 4) {
      float *r = s->w2[i], k0 = g2[i], k1 = g2[i + 1], k2 = g2[i + 2], k3 = g2[i + 3];
#pragma omp simd
      for (int64_t j = 0; j < H1; j++) g1[j] += (k0 * r[j] + k1 * r[H1 + j]) + (k2 * r[2 * H1 + j] + k3 * r[3 * H1 + j]);
#ifndef ADAM
      for (int64_t k = 0; k < 4; k++) { /* while the rows are near */
        float step = rate * g2[i + k];
#pragma omp simd
        for (int64_t j = 0; j < H1; j++) r[k * H1 + j] -= step * h1[j];
      }
#endif
    }
#ifdef ADAM
    float sized = total(H2, g2);
    const float one = 1;
    weigh(&s->mass[0][1], &s->mass[1][1], now2, sized * size2 != 0, before[2], rate, &scale, &root);
    for (int64_t i = 0; i < H2; i++) adam(H1, s->w2[i], s->m2[i], s->v2[i], h1, g2[i], scale, root);
    weigh(&s->mass[0][2], &s->mass[1][2], now3, sized != 0, before[3], rate, &scale, &root);
    adam(H2, s->b2, s->mb2, s->vb2, g2, one, scale, root);
#else
#pragma omp simd
    for (int64_t i = 0; i < H2; i++) s->b2[i] -= rate * g2[i];
#endif
#ifdef STREAMING
    back_1(s, a1, y1, mean1, scale1, g1);
#else
    back(H1, y1, r1, g1);
#endif
#ifdef ADAM
    float sizea = total(H1, g1);
    for (int64_t j = 0; j < F; j++) {
      weigh(&s->mass1[0][j], &s->mass1[1][j], now0, fabsf(z[j]) * sizea != 0, before[0], rate, &scale, &root);
      adam(H1, s->w1[j], s->m1[j], s->v1[j], g1, z[j], scale, root);
    }
    weigh(&s->mass[0][0], &s->mass[1][0], now1, sizea != 0, before[1], rate, &scale, &root);
    adam(H1, s->b1, s->mb1, s->vb1, g1, one, scale, root);
    for (int i = 0; i < 6; i++) {
      double wait[2] = {s->waiting[0][i], s->waiting[1][i]};
      wait_on(wait, before[i]);
      s->waiting[0][i] = wait[0];
      s->waiting[1][i] = wait[1];
    }
#else
    for (int64_t j = 0; j < F; j++) {
      float step = rate * z[j];
#pragma omp simd
      for (int64_t i = 0; i < H1; i++) s->w1[j][i] -= step * g1[i];
    }
#pragma omp simd
    for (int64_t i = 0; i < H1; i++) s->b1[i] -= rate * g1[i];
#endif
  }
#if defined(__x86_64__)
  _mm_setcsr(mode);
#endif
}
