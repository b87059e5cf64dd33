/* What past values of a target tell about the next: bases, lags, target encodings, neighbours; see values.py.

   Axes: F numeric inputs, P plain inputs, K fields of categories, G = P + F, D feature columns, L = 7 + 4 K lags,
   M members of the pool. A row is [plain P][Z F] ... [lags L][changes F][encodings 2 F + 2 K]; the lags begin at column
   `lags`.
   Members of this part: mean, last, two exponential means, last, mean and moved of each field's category (3 K), then for keys
   Z, Q and Z with lags and k = 1, 5, 15 the mean of y and of the residual on top of the base (18). */

#define CLEARLY 0.8 /* a base beats a simpler one by at least a fifth */
#define AGES 24     /* powers of 2 */
#define MOVES 64    /* remembered for each of them */
#define MOVERS 128  /* categories that have lists of them */

typedef struct {
  int64_t F, P, K, D, lags, M, pending, timed;
} Sizes;

typedef struct {
  int64_t *counts;      /* labels, labels since the statistics began, run of outliers */
  double *level;        /* mean, variance, last, last but one, two exponential means and their remaining weights */
  double *residual;     /* exponential mean of |r| and of r^2, their remaining weight */
  double *base_error;   /* [2 + K] exponential mean of each base's absolute error; [2 + K] its remaining weight */
  double *key_last, *key_mean, *key_left; /* [P] by category */
  double *bins;         /* [F, BINS, 3] weight, sum of y, sum of r */
  double *cells;        /* [P, 3] likewise by category */
  double *scale;        /* [1] weight of the next count */
  float *keys_z, *keys_q, *keys_l; /* [G, STRIDE] twice, [G + L, STRIDE] */
  double *past;         /* [STRIDE, 2] y and r of each key */
  double *before;       /* [F, 3] Z of the event before, mean square of its changes, how many events had it */
  int64_t *clock;       /* [1] number of the event after the last that was predicted */
  double *key_moment;   /* [P] when each category's last value was, in seconds or events */
  double *moves;        /* [MOVERS, AGES, MOVES] how far values were from their category's last, by its age: rings */
  int64_t *moved;       /* [MOVERS, AGES] how many there have been */
  int64_t *stored;      /* [S] event numbers + 1 */
  float *stored_row, *stored_rank; /* [S, D], [S, F] */
  double *stored_said;  /* [S, M + 1 + K] members, base and ages */
} State;

enum { MEAN, VAR, LAST, BEFORE, EMA05, EMA20, LEFT05, LEFT20 };

static const double EMA[2] = {0.05, 0.2};

static inline double in_deviations(const State *s, double y) {
  double var = s->level[VAR];
  return var > 0 ? clip((y - s->level[MEAN]) / sqrt(var), 5.0) : 0.0;
}

static inline double in_residuals(const State *s, double d) {
  double square = s->residual[1];
  return square > 0 ? clip(d / sqrt(square / (1.0 - s->residual[2])), 5.0) : 0.0;
}

/* The category of each field in this row: its plain input, or -1. */
static void categories(const Sizes *z, const double *plain, const int32_t *field, int64_t *at) {
  for (int64_t k = 0; k < z->K; k++) at[k] = -1;
  for (int64_t p = 0; p < z->P; p++)
    if (plain[p] == 1.0 && field[p] >= 0 && field[p] < z->K) at[field[p]] = p;
}

/* Write how far each input is from where it was; `moves` when this event is the one before the next. */
static void change(const State *s, const Sizes *z, float *row, const float *rank, int moves) {
  float *to = row + z->lags + 7 + 4 * z->K;
  for (int64_t f = 0; f < z->F; f++) {
    double *b = s->before + 3 * f, at = row[z->P + f], d = at - b[0];
    int known = !isnan(rank[f]);
    to[f] = 0.0f;
    if (known && b[2] > 0) {
      double w = b[2] < 1000.0 ? 1.0 / b[2] : 0.001, square = b[1] + w * (d * d - b[1]);
      if (square > 0) to[f] = (float)clip(d / sqrt(square), 5.0);
      if (moves) b[1] = square;
    }
    if (known && moves) b[0] = at, b[2] += 1.0;
  }
}

/* The list of moves of a category whose last value is as old as now, -1 = none. */
static int64_t list_of(const State *s, int64_t p, double now) {
  double age = now - s->key_moment[p];
  if (p >= MOVERS || isnan(age)) return -1;
  int64_t power = age < 1.0 ? 0 : ilogb(age);
  return p * AGES + (power < AGES ? power : AGES - 1);
}

/* The median of a list; of the two in the middle the one nearer to 0, which is a move that has been. */
static double median(const State *s, int64_t list) {
  int64_t n = s->moved[list] < MOVES ? s->moved[list] : MOVES;
  double move[MOVES];
  for (int64_t i = 0; i < n; i++) {
    int64_t j = i;
    double at = s->moves[list * MOVES + i];
    for (; j > 0 && move[j - 1] > at; j--) move[j] = move[j - 1];
    move[j] = at;
  }
  double low = move[(n - 1) / 2], high = move[n / 2];
  return fabs(low) <= fabs(high) ? low : high;
}

static void predict(const State *s, const Sizes *z, const double *plain, const int32_t *field, float *row, const float *rank,
                    double *said, double *now, int64_t *age, double moment) {
  int64_t F = z->F, P = z->P, K = z->K, G = P + F, L = 7 + 4 * K, at[K + 1];
  const double *v = s->level;
  categories(z, plain, field, at);
  said[0] = v[MEAN], said[1] = v[LAST], said[2] = v[EMA05], said[3] = v[EMA20];
  for (int64_t k = 0; k < K; k++) {
    int known = at[k] >= 0 && s->key_left[at[k]] < 1.0;
    said[4 + k] = known ? s->key_last[at[k]] : v[LAST];
    said[4 + K + k] = known ? s->key_mean[at[k]] : v[EMA20];
    age[k] = known ? list_of(s, at[k], z->timed ? moment : (double)s->clock[0]) : -1;
    said[4 + 2 * K + k] = said[4 + k] + (age[k] < 0 ? 0.0 : median(s, age[k]));
  }
  int64_t best = 0;
  double least = INFINITY;
  for (int64_t b = 0; b < 2 + K; b++) {
    double left = s->base_error[2 + K + b];
    double bad = left < 1.0 ? s->base_error[b] / (1.0 - left) : INFINITY;
    if (bad < CLEARLY * least) least = bad, best = b;
  }
  double base = best < 2 ? said[best] : said[4 + best - 2];
  now[0] = v[MEAN], now[1] = v[VAR] > 0 ? sqrt(v[VAR]) : 0.0, now[3] = base;
  now[2] = s->residual[2] < 1.0 ? s->residual[0] / (1.0 - s->residual[2]) : 0.0;

  float *lag = row + z->lags;
  lag[0] = (float)in_deviations(s, v[LAST]), lag[1] = (float)in_deviations(s, v[EMA05]);
  lag[2] = (float)in_deviations(s, v[EMA20]), lag[3] = (float)in_deviations(s, base);
  lag[4] = (float)in_residuals(s, v[LAST] - v[EMA20]), lag[5] = (float)in_residuals(s, v[LAST] - v[BEFORE]);
  lag[6] = (float)in_residuals(s, v[EMA20] - v[EMA05]);
  for (int64_t k = 0; k < K; k++) {
    float *to = lag + 7 + 4 * k;
    double last = said[4 + k], mean = said[4 + K + k];
    to[0] = (float)in_deviations(s, last), to[1] = (float)in_deviations(s, mean);
    to[2] = (float)in_residuals(s, last - mean), to[3] = (float)in_residuals(s, last - v[LAST]);
  }
  float *code = lag + L + F;
  double prior = s->scale[0]; /* one event at the mean */
  for (int64_t f = 0; f < F; f++) {
    const double *cell = s->bins + (f * BINS + (isnan(rank[f]) ? 0 : bin_of(rank[f]))) * 3;
    int some = !isnan(rank[f]);
    code[2 * f] = some ? (float)in_deviations(s, (cell[1] + prior * v[MEAN]) / (cell[0] + prior)) : 0.0f;
    code[2 * f + 1] = some ? (float)in_residuals(s, cell[2] / (cell[0] + prior)) : 0.0f;
  }
  for (int64_t k = 0; k < K; k++) {
    const double *cell = s->cells + (at[k] < 0 ? 0 : at[k]) * 3;
    int some = at[k] >= 0;
    code[2 * F + 2 * k] = some ? (float)in_deviations(s, (cell[1] + prior * v[MEAN]) / (cell[0] + prior)) : 0.0f;
    code[2 * F + 2 * k + 1] = some ? (float)in_residuals(s, cell[2] / (cell[0] + prior)) : 0.0f;
  }

  int64_t stored = s->counts[0] < WINDOW ? s->counts[0] : WINDOW, near[NEAR];
  float far[NEAR];
  float key[G + L];
  for (int which = 0; which < 3; which++) {
    for (int64_t g = 0; g < G; g++) key[g] = row[g];
    if (which == 1)
      for (int64_t f = 0; f < F; f++) key[P + f] = isnan(rank[f]) ? 0.0f : rank[f];
    for (int64_t l = 0; l < L; l++) key[G + l] = lag[l];
    const float *keys = which == 0 ? s->keys_z : which == 1 ? s->keys_q : s->keys_l;
    int64_t found = nearest(keys, key, which == 2 ? G + L : G, stored, near, far), i = 0;
    double y = 0.0, r = 0.0, *to = said + 4 + 3 * K + 6 * which;
    for (int64_t n = 0; n < 3; n++) {
      int64_t many = NEIGHBOURS[n] < found ? NEIGHBOURS[n] : found;
      for (; i < many; i++) y += s->past[2 * near[i]], r += s->past[2 * near[i] + 1];
      to[n] = many ? y / many : v[MEAN];
      to[3 + n] = base + (many ? r / many : 0.0);
    }
  }
}

/* Learn a value; returns it as it counts (an outlier is pulled in) and its residual. */
static void learn(State *s, const Sizes *z, const double *plain, const int32_t *field, const float *row, const float *rank,
                  const double *said, double base, const int64_t *age, double moment, double y, double *used) {
  int64_t F = z->F, P = z->P, K = z->K, G = P + F, L = 7 + 4 * K, at[K + 1];
  double *v = s->level;
  categories(z, plain, field, at);
  if (s->counts[1] >= 30 && v[VAR] > 0) {
    double reach = 10.0 * sqrt(v[VAR]);
    if (fabs(y - v[MEAN]) > reach) {
      if (++s->counts[2] >= 3) { /* not an outlier but another scale */
        s->counts[1] = 0, v[MEAN] = v[VAR] = 0.0;
        s->residual[0] = s->residual[1] = 0.0, s->residual[2] = 1.0;
      } else {
        double far = (y - v[MEAN]) / (10.0 * reach); /* in hundreds of deviations */
        y = v[MEAN] + (far > 1.0 || far < -1.0 ? reach / far : far > 0 ? reach : -reach);
      }
    } else {
      s->counts[2] = 0;
    }
  }
  double r = s->counts[0] ? y - base : 0.0;
  used[0] = y, used[1] = s->counts[0] ? r : NAN;
  int64_t slot = s->counts[0] % WINDOW;
  for (int64_t g = 0; g < G; g++) {
    float q = g < P ? row[g] : isnan(rank[g - P]) ? 0.0f : rank[g - P];
    s->keys_z[g * STRIDE + slot] = s->keys_l[g * STRIDE + slot] = row[g];
    s->keys_q[g * STRIDE + slot] = q;
  }
  for (int64_t l = 0; l < L; l++) s->keys_l[(G + l) * STRIDE + slot] = row[z->lags + l];
  s->past[2 * slot] = y, s->past[2 * slot + 1] = r;
  double w = s->scale[0];
  for (int64_t f = 0; f < F; f++) {
    if (isnan(rank[f])) continue;
    double *cell = s->bins + (f * BINS + bin_of(rank[f])) * 3;
    cell[0] += w, cell[1] += w * y, cell[2] += w * r;
  }
  for (int64_t k = 0; k < K; k++) {
    if (at[k] < 0) continue;
    double *cell = s->cells + at[k] * 3;
    cell[0] += w, cell[1] += w * y, cell[2] += w * r;
    double left = s->key_left[at[k]] * 0.8;
    s->key_last[at[k]] = y;
    s->key_moment[at[k]] = moment;
    if (age[k] >= 0) s->moves[age[k] * MOVES + s->moved[age[k]]++ % MOVES] = y - said[4 + k];
    s->key_mean[at[k]] += 0.2 / (1.0 - left) * (y - s->key_mean[at[k]]);
    s->key_left[at[k]] = left;
  }
  s->scale[0] /= 0.999;
  if (s->counts[0]) {
    for (int64_t b = 0; b < 2 + K; b++) {
      double e = fabs(y - (b < 2 ? said[b] : said[4 + b - 2]));
      s->base_error[b] += 0.01 * (e - s->base_error[b]);
      s->base_error[2 + K + b] *= 0.99;
    }
    s->residual[0] += 0.005 * (fabs(r) - s->residual[0]);
    s->residual[1] += 0.005 * (r * r - s->residual[1]);
    s->residual[2] *= 0.995;
  }
  double n = ++s->counts[1], part = 1.0 / n, d = y - v[MEAN];
  v[MEAN] += part * d;
  v[VAR] = (1.0 - part) * (v[VAR] + part * (d * d));
  v[BEFORE] = s->counts[0] ? v[LAST] : y;
  v[LAST] = y;
  for (int e = 0; e < 2; e++) {
    double left = v[LEFT05 + e] * (1.0 - EMA[e]);
    v[EMA05 + e] += EMA[e] / (1.0 - left) * (y - v[EMA05 + e]);
    v[LEFT05 + e] = left;
  }
  if (++s->counts[0] % 4096 == 0) {
    double inverse = 1.0 / s->scale[0];
    for (int64_t i = 0; i < F * BINS * 3; i++) s->bins[i] *= inverse;
    for (int64_t i = 0; i < P * 3; i++) s->cells[i] *= inverse;
    s->scale[0] = 1.0;
  }
}

/* sizes as in Sizes; arrays: State in its order, then plain [K, P], field [P] (of each plain input), y [K], number [K],
   row [K, D] and rank [K, F] (from the maps), said [K, M], now [K, 4] (mean, deviation, residual scale, base as served),
   then [K, 3] (mean, deviation, residual scale when learned), used [K, 2] (y and residual as they count), age [K, fields]
   (lists of moves, -1 = none), moment [K] (none where it is not timed). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  Sizes z = {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]};
  int64_t S = z.pending, F = z.F, M = z.M;
  State s = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15],
             a[16], a[17], a[18], a[19], a[20], a[21], a[22]};
  const double *plain = a[23], *y = a[25], *moment = a[34];
  const int32_t *field = a[24];
  const int64_t *number = a[26];
  float *row = a[27], *rank = a[28];
  double *said = a[29], *now = a[30], *then = a[31], *used = a[32];
  int64_t *age = a[33], wide = M + 1 + z.K; /* what is stored of an event */
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int64_t slot = S ? number[r] % S : 0;
      if (kind[o] == LEARN && S && s.stored[slot] == number[r] + 1) {
        const double *from = s.stored_said + slot * wide;
        memcpy(row + r * z.D, s.stored_row + slot * z.D, z.D * sizeof(float));
        memcpy(rank + r * F, s.stored_rank + slot * F, F * sizeof(float));
        memcpy(said + r * M, from, M * sizeof(double));
        now[4 * r + 3] = from[M];
        for (int64_t k = 0; k < z.K; k++) age[r * z.K + k] = (int64_t)from[M + 1 + k];
        continue;
      }
      predict(&s, &z, plain + r * z.P, field, row + r * z.D, rank + r * F, said + r * M, now + 4 * r, age + r * z.K,
              z.timed ? moment[r] : 0.0);
      int observed = kind[o] == PREDICT_LEARN || kind[o] == PREDICT_OBSERVE;
      change(&s, &z, row + r * z.D, rank + r * F, observed);
      if (observed) s.clock[0] = number[r] + 1;
      if (S && (kind[o] == PREDICT_OBSERVE || (kind[o] == PREDICT_LEARN && isnan(y[r])))) {
        double *to = s.stored_said + slot * wide;
        s.stored[slot] = number[r] + 1;
        memcpy(s.stored_row + slot * z.D, row + r * z.D, z.D * sizeof(float));
        memcpy(s.stored_rank + slot * F, rank + r * F, F * sizeof(float));
        memcpy(to, said + r * M, M * sizeof(double));
        to[M] = now[4 * r + 3];
        for (int64_t k = 0; k < z.K; k++) to[M + 1 + k] = (double)age[r * z.K + k];
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    double mean = s.level[MEAN], deviation = s.level[VAR] > 0 ? sqrt(s.level[VAR]) : 0.0;
    double residual = s.residual[2] < 1.0 ? s.residual[0] / (1.0 - s.residual[2]) : 0.0;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      then[3 * r] = mean, then[3 * r + 1] = deviation, then[3 * r + 2] = residual;
      if (!isnan(y[r]))
        learn(&s, &z, plain + r * z.P, field, row + r * z.D, rank + r * F, said + r * M, now[4 * r + 3], age + r * z.K,
              z.timed ? moment[r] : (double)number[r], y[r], used + 2 * r);
    }
  }
  leave(mode);
}
