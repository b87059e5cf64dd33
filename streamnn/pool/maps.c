/* Feature maps and the members that read the same tables; see maps.py for the formulas.

   Axes: F numeric inputs, P plain inputs (0/1 of a category), G = P + F key entries, C class capacity, D features.
   Feature row: [plain P][Z F][E.05 F][E.2 F][sin F][cos F][sin 2 F][cos 2 F][target F V]
   where V is 1 for two classes and C otherwise. Members: six neighbour counts, naive Bayes, OneR. */

#define RING 1104 /* values kept per input: the window and those that left it since the last refresh */

typedef struct {
  int64_t F, P, C, D, pending, targets;
} Sizes;

typedef struct {
  int64_t *counts; /* events observed, labels learned, observed at the last refresh of the ranks */
  double *n, *mean, *var;         /* [F] */
  double *ema_mean, *ema_var, *ema_left; /* [2, F] */
  double *ring, *sorted;          /* [F, RING], [F, WINDOW] */
  int64_t *filled;                /* [F] */
  float *keys_z, *keys_q;         /* [G, STRIDE] */
  int32_t *labels;                /* [STRIDE] */
  double *table, *table_total;    /* [F, BINS, C], [F, BINS] */
  double *totals, *scale;         /* [C], [1] weight of the next count */
  double *rule_loss, *rule_count; /* [F] */
  int8_t *active;                 /* [C] */
  int64_t *stored;                /* [S] event numbers + 1 */
  float *stored_row, *stored_q;   /* [S, D], [S, F] */
} State;

/* sin and cos of z, |z| <= 5: reduced by multiples of pi, then Taylor to 1e-14. */
static inline void sine(double z, double *s, double *c) {
  double t = z * 0.3183098861837907 + 6755399441055744.0;
  double k = t - 6755399441055744.0;
  double sign = from_bits(0x3ff0000000000000LL | (to_bits(t) << 63));
  double r = (z - k * 3.141592653589793) - k * 1.2246467991473532e-16, q = r * r;
  double a = -1.0 / 121645100408832000.0, b = -1.0 / 6402373705728000.0;
  a = 1.0 / 355687428096000.0 + q * a;
  a = -1.0 / 1307674368000.0 + q * a;
  a = 1.0 / 6227020800.0 + q * a;
  a = -1.0 / 39916800.0 + q * a;
  a = 1.0 / 362880.0 + q * a;
  a = -1.0 / 5040.0 + q * a;
  a = 1.0 / 120.0 + q * a;
  a = -1.0 / 6.0 + q * a;
  b = 1.0 / 20922789888000.0 + q * b;
  b = -1.0 / 87178291200.0 + q * b;
  b = 1.0 / 479001600.0 + q * b;
  b = -1.0 / 3628800.0 + q * b;
  b = 1.0 / 40320.0 + q * b;
  b = -1.0 / 720.0 + q * b;
  b = 1.0 / 24.0 + q * b;
  b = -0.5 + q * b;
  *s = sign * (r + r * (q * a));
  *c = sign * (1.0 + q * b);
}

static inline double limit(const State *s, int64_t f, double x) {
  if (s->n[f] < 30 || !(s->var[f] > 0)) return x;
  double reach = 10.0 * sqrt(s->var[f]), low = s->mean[f] - reach, high = s->mean[f] + reach;
  return x < low ? low : x > high ? high : x;
}

static inline double scaled(double x, double mean, double var) {
  /* a deviation below 1e-13 of the mean is rounding, not spread */
  if (!(var > 1e-26 * mean * mean)) return 0.0;
  return clip((x - mean) / sqrt(var), 5.0);
}

static const double ALPHA[2] = {0.05, 0.2};

/* Z and the two exponential scores of one input, its own value counted; `keep` writes the statistics. */
static inline void scores(State *s, int64_t F, int64_t f, double x, double *z, int keep) {
  double value = limit(s, f, x), w = 1.0 / (s->n[f] + 1.0), d = value - s->mean[f];
  double mean = s->mean[f] + w * d, var = (1.0 - w) * s->var[f] + w * (1.0 - w) * (d * d);
  if (z) z[0] = scaled(x, mean, var);
  if (keep) s->n[f] += 1.0, s->mean[f] = mean, s->var[f] = var;
  for (int64_t a = 0; a < 2; a++) {
    int64_t i = a * F + f;
    double left = s->ema_left[i] * (1.0 - ALPHA[a]);
    w = ALPHA[a] / (1.0 - left), d = x - s->ema_mean[i];
    mean = s->ema_mean[i] + w * d, var = (1.0 - w) * (s->ema_var[i] + w * (d * d));
    if (z) z[(1 + a) * F] = scaled(x, mean, var);
    if (keep) s->ema_left[i] = left, s->ema_mean[i] = mean, s->ema_var[i] = var;
  }
}

/* Mid-rank of x in the sorted window of input f, scaled to +-1.7. */
static inline double rank(const State *s, int64_t f, double x) {
  const double *v = s->sorted + f * WINDOW;
  int64_t n = s->filled[f], low = 0, high = 0;
  if (!n) return 0.0;
  for (int64_t step = 512; step; step >>= 1) {
    if (low + step <= n && v[low + step - 1] < x) low += step;
    if (high + step <= n && v[high + step - 1] <= x) high += step;
  }
  return 1.7 * ((double)(low + high) / (double)n - 1.0);
}

/* Votes of one key window: three members. */
static void vote(const State *s, const Sizes *z, const float *keys, const float *q, int64_t active, double *logp) {
  int64_t C = z->C, near[NEAR], votes[C];
  float far[NEAR];
  int64_t stored = s->counts[1] < WINDOW ? s->counts[1] : WINDOW;
  int64_t found = nearest(keys, q, z->P + z->F, stored, near, far), at = 0;
  memset(votes, 0, sizeof votes);
  for (int64_t i = 0; i < 3; i++) {
    int64_t k = NEIGHBOURS[i] < found ? NEIGHBOURS[i] : found;
    for (; at < k; at++) votes[s->labels[near[at]]]++;
    double smooth = active ? 0.5 / active : 0.0, den = k + 0.5;
    for (int64_t c = 0; c < C; c++) logp[i * C + c] = s->active[c] ? log_of((votes[c] + smooth) / den) : FLOOR;
  }
}

/* Class probabilities given each input's bin, from counts that forget: [F, C], and the log of the prior [C]. */
static void tables(const State *s, const Sizes *z, const float *q, double *p, double *log_prior, int64_t active) {
  int64_t F = z->F, C = z->C;
  double total = 0.0, prior[C], inverse = 1.0 / s->scale[0];
  for (int64_t c = 0; c < C; c++) total += s->totals[c];
  total = total * inverse + 0.5 * active;
  for (int64_t c = 0; c < C; c++) {
    prior[c] = s->active[c] ? (s->totals[c] * inverse + 0.5) / total : 0.0;
    log_prior[c] = s->active[c] ? log_of(prior[c]) : FLOOR;
  }
  for (int64_t f = 0; f < F; f++) {
    double *to = p + f * C;
    if (isnan(q[f])) {
      for (int64_t c = 0; c < C; c++) to[c] = prior[c];
      continue;
    }
    int64_t b = f * BINS + bin_of(q[f]);
    double den = 1.0 / (s->table_total[b] * inverse + 1.0);
    for (int64_t c = 0; c < C; c++) to[c] = (s->table[b * C + c] * inverse + prior[c]) * den;
  }
}

static void transform(State *s, const Sizes *z, const double *x, const double *plain, float *row, float *q, double *logp) {
  int64_t F = z->F, P = z->P, C = z->C, V = C == 2 ? 1 : C, G = P + F, active = 0;
  double score[3 * F + 1];
  float key[G + 1];
  for (int64_t c = 0; c < C; c++) active += s->active[c];
  for (int64_t p = 0; p < P; p++) row[p] = key[p] = isnan(plain[p]) ? 0.0f : (float)plain[p];
  for (int64_t f = 0; f < F; f++) {
    if (isnan(x[f])) {
      score[f] = score[F + f] = score[2 * F + f] = 0.0;
      q[f] = NAN, key[P + f] = 0.0f;
      continue;
    }
    scores(s, F, f, x[f], score + f, 0);
    q[f] = key[P + f] = (float)rank(s, f, x[f]);
  }
  float *at = row + P;
  for (int64_t i = 0; i < 3 * F; i++) at[i] = (float)score[i];
  float *wave = at + 3 * F;
#pragma omp simd
  for (int64_t f = 0; f < F; f++) {
    double si, co;
    sine(score[f], &si, &co);
    wave[f] = (float)si, wave[F + f] = (float)co;
    wave[2 * F + f] = (float)(2.0 * si * co), wave[3 * F + f] = (float)(1.0 - 2.0 * si * si);
  }
  for (int64_t f = 0; f < F; f++)
    if (isnan(x[f])) wave[f] = wave[F + f] = wave[2 * F + f] = wave[3 * F + f] = 0.0f;
  if (!C) return; /* a pool without classes has no votes and no tables here */
  vote(s, z, s->keys_z, row, active, logp);
  vote(s, z, s->keys_q, key, active, logp + 3 * C);

  double p[F * C + 1], ratio[F * C + 1], log_prior[C], bayes[C], rule[C];
  tables(s, z, q, p, log_prior, active);
#pragma omp simd
  for (int64_t i = 0; i < F * C; i++) ratio[i] = log_of(p[i] > 1e-300 ? p[i] : 1e-300);
  double least = INFINITY, weights = 0.0;
  for (int64_t f = 0; f < F; f++)
    if (!isnan(q[f]) && s->rule_loss[f] < least) least = s->rule_loss[f];
  for (int64_t c = 0; c < C; c++) bayes[c] = log_prior[c], rule[c] = 0.0;
  for (int64_t f = 0; f < F; f++) {
    if (isnan(q[f])) continue;
    double w = exp_of(-20.0 * (s->rule_loss[f] - least));
    weights += w;
    for (int64_t c = 0; c < C; c++) {
      if (!s->active[c]) continue;
      bayes[c] += ratio[f * C + c] - log_prior[c];
      rule[c] += w * p[f * C + c];
    }
  }
  log_softmax(C, s->active, bayes, logp + 6 * C);
  for (int64_t c = 0; c < C; c++) {
    double r = s->active[c] ? (weights > 0 ? log_of(rule[c] / weights) : log_prior[c]) : FLOOR;
    logp[7 * C + c] = r < FLOOR ? FLOOR : r;
  }
  if (!z->targets) return;
  float *target = wave + 4 * F;
  for (int64_t f = 0; f < F; f++)
    for (int64_t v = 0; v < V; v++) {
      int64_t c = C == 2 ? 1 : v;
      int some = s->active[c] && !isnan(q[f]);
      target[f * V + v] = some ? (float)(0.7 * clip(ratio[f * C + c] - log_prior[c], 3.0)) : 0.0f;
    }
}

static void sort(double *v, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    double x = v[i];
    int64_t j = i;
    for (; j > 0 && v[j - 1] > x; j--) v[j] = v[j - 1];
    v[j] = x;
  }
}

/* Bring the sorted windows up to date: one merge that leaves out what has left the window. */
static void refresh(State *s, int64_t F) {
  int64_t count = s->counts[0], before = s->counts[2];
  int64_t gone = before > WINDOW ? before - WINDOW : 0, keep = count > WINDOW ? count - WINDOW : 0;
  for (int64_t f = 0; f < F; f++) {
    const double *ring = s->ring + f * RING;
    double *v = s->sorted + f * WINDOW, old[RING], come[RING], go[RING];
    int64_t n = s->filled[f], comes = 0, goes = 0, a = 0, b = 0, c = 0, out = 0;
    for (int64_t e = before; e < count; e++)
      if (!isnan(ring[e % RING])) come[comes++] = ring[e % RING];
    for (int64_t e = gone; e < keep; e++)
      if (!isnan(ring[e % RING])) go[goes++] = ring[e % RING];
    sort(come, comes);
    sort(go, goes);
    memcpy(old, v, n * sizeof(double));
    while (a < n || b < comes) {
      if (a < n && c < goes && old[a] == go[c]) a++, c++;
      else if (a < n && (b >= comes || old[a] <= come[b])) v[out++] = old[a++];
      else v[out++] = come[b++];
    }
    s->filled[f] = out;
  }
  s->counts[2] = count;
}

static void observe(State *s, const Sizes *z, const double *x) {
  int64_t F = z->F, slot = s->counts[0] % RING;
  for (int64_t f = 0; f < F; f++) {
    s->ring[f * RING + slot] = x[f];
    if (!isnan(x[f])) scores(s, F, f, x[f], 0, 1);
  }
  int64_t count = ++s->counts[0];
  if (count <= 10 || (count <= 200 && count % 10 == 0) || count % 50 == 0) refresh(s, F);
}

static void learn(State *s, const Sizes *z, const float *row, const float *q, int32_t label) {
  int64_t F = z->F, P = z->P, C = z->C, active = 0, slot = s->counts[1] % WINDOW;
  double p[F * C + 1], log_prior[C];
  s->active[label] = 1;
  for (int64_t c = 0; c < C; c++) active += s->active[c];
  tables(s, z, q, p, log_prior, active);
  for (int64_t f = 0; f < F; f++) {
    if (isnan(q[f])) continue;
    double w = 1.0 / (s->rule_count[f] + 1.0), mine = p[f * C + label];
    w = w < 0.01 ? 0.01 : w;
    s->rule_loss[f] += w * (-log_of(mine > 1e-300 ? mine : 1e-300) - s->rule_loss[f]);
    s->rule_count[f] += 1.0;
    int64_t b = f * BINS + bin_of(q[f]);
    s->table[b * C + label] += s->scale[0];
    s->table_total[b] += s->scale[0];
  }
  s->totals[label] += s->scale[0];
  s->scale[0] /= 0.999;
  for (int64_t p = 0; p < P; p++) s->keys_z[p * STRIDE + slot] = s->keys_q[p * STRIDE + slot] = row[p];
  for (int64_t f = 0; f < F; f++) {
    s->keys_z[(P + f) * STRIDE + slot] = row[P + f];
    s->keys_q[(P + f) * STRIDE + slot] = isnan(q[f]) ? 0.0f : q[f];
  }
  s->labels[slot] = label;
  if (++s->counts[1] % 4096 == 0) { /* counts are kept relative to a growing weight, brought back now and then */
    double inverse = 1.0 / s->scale[0];
    for (int64_t i = 0; i < F * BINS * C; i++) s->table[i] *= inverse;
    for (int64_t i = 0; i < F * BINS; i++) s->table_total[i] *= inverse;
    for (int64_t c = 0; c < C; c++) s->totals[c] *= inverse;
    s->scale[0] = 1.0;
  }
}

/* sizes: F P C D pending targets; arrays: State in its order, then x [K, F], plain [K, P], label [K], number [K],
   row [K, D], q [K, F], logp [K, M, C] (this part fills the first members), and M. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  Sizes z = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]};
  int64_t F = z.F, S = z.pending, stride = sizes[6] * z.C;
  State s = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
             a[12], a[13], a[14], a[15], a[16], a[17], a[18], a[19], a[20], a[21], a[22]};
  const double *x = a[23], *plain = a[24];
  const int32_t *label = a[25];
  const int64_t *number = a[26];
  float *row = a[27], *q = a[28];
  double *logp = a[29];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int late = kind[o] == LEARN, known = 0;
      int64_t slot = S ? number[r] % S : 0;
      if (late && S && s.stored[slot] == number[r] + 1) {
        memcpy(row + r * z.D, s.stored_row + slot * z.D, z.D * sizeof(float));
        memcpy(q + r * F, s.stored_q + slot * F, F * sizeof(float));
        known = 1;
      }
      if (!known) transform(&s, &z, x + r * F, plain + r * z.P, row + r * z.D, q + r * F, logp + r * stride);
      if (kind[o] != PREDICT_LEARN && kind[o] != PREDICT_OBSERVE) continue;
      observe(&s, &z, x + r * F);
      /* a row without a label yet is kept as it was served, for the label that may come */
      if (S && (kind[o] == PREDICT_OBSERVE || label[r] < 0)) {
        s.stored[slot] = number[r] + 1;
        memcpy(s.stored_row + slot * z.D, row + r * z.D, z.D * sizeof(float));
        memcpy(s.stored_q + slot * F, q + r * F, F * sizeof(float));
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o] && z.C; r++)
      if (label[r] >= 0) learn(&s, &z, row + r * z.D, q + r * F, label[r]);
  }
  leave(mode);
}
