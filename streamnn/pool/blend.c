/* Mix values: two hedges, two gradient stacks, two recursive ones (least squares, least absolute errors), inverse powers of
   error and the leader, and a hedge over these eight, served in one of five ways; see blend.py.

   Axes: M members, N = M + 1. */

#define MIXES 8
#define FINALS 5
#define GRID 256 /* different values remembered; a target of more is no grid */
#define OFTEN 4  /* times that each of them has to have come on average */
#define FIRST 12 /* values from which only the past's own members are served */
#define NEAR 0.1 /* an error that counts as none: the stack of least absolute errors weighs others by their size */
static const double ETA[2] = {0.1, 0.3}, SHARE[2] = {0.01, 0.003}, CUT[2] = {1.5, 2.0};

typedef struct {
  double *range;   /* least and largest value learned */
  double *error;   /* [2, M] means of each member's absolute error, quick and slow */
  double *own;     /* the mixture's, and the remaining weight of both */
  double *hedge;   /* [2, M] */
  double *stack;   /* [2, M] by the sign and by the size of the error */
  double *squares; /* [2, M] weights: least squares, and least absolute errors */
  double *spread;  /* [2, M, M] */
  double *top;     /* [MIXES] hedge over the mixtures */
  double *finals;  /* [FINALS] mean of the absolute error of each way to serve them, slow */
  int64_t *count;  /* [1] */
  double *grid;    /* [GRID] the different values learned, ascending */
  int64_t *known;  /* [1] how many; GRID + 1 = there are more */
} State;

static double inside(const State *s, double p) {
  if (!s->count[0]) return p;
  double room = 0.1 * (s->range[1] - s->range[0]), low = s->range[0] - room, high = s->range[1] + room;
  return !(p > low) ? low : p > high ? high : p;
}

/* Where a value stands, or would stand, among those known. */
static int64_t place(const State *s, double y) {
  int64_t low = 0, high = s->known[0];
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (s->grid[middle] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void remember(State *s, double y) {
  if (s->known[0] > GRID) return;
  int64_t at = place(s, y), after = s->known[0] - at;
  if (after && s->grid[at] == y) return;
  if (++s->known[0] > GRID) return;
  memmove(s->grid + at + 1, s->grid + at, after * sizeof(double));
  s->grid[at] = y;
}

/* The value nearest to p that has come, the lesser of two; p itself where values do not repeat. */
static double nearest(const State *s, double p) {
  int64_t known = s->known[0];
  if (!known || known > GRID || known * OFTEN > s->count[0]) return p;
  int64_t at = place(s, p);
  if (at == known) return s->grid[known - 1];
  if (!at) return s->grid[0];
  return s->grid[at] - p < p - s->grid[at - 1] ? s->grid[at] : s->grid[at - 1];
}

/* The median of the mixtures under the weights of the hedge over them. */
static double median(const State *s, const double *mix) {
  int order[MIXES];
  double all = 0.0, below = 0.0;
  for (int i = 0; i < MIXES; i++) {
    int j = i;
    for (; j > 0 && mix[order[j - 1]] > mix[i]; j--) order[j] = order[j - 1];
    order[j] = i;
    all += s->top[i];
  }
  for (int i = 0; i < MIXES; i++) {
    below += s->top[order[i]];
    if (below >= 0.5 * all) return mix[order[i]];
  }
  return mix[order[MIXES - 1]];
}

/* The ways to serve the mixtures: mean, median, leader alone, and the values that have come nearest to mean and median.
   Returns the one that was nearest of late. */
static double serve(const State *s, const double *mix, double *ways) {
  ways[0] = 0.0;
  for (int i = 0; i < MIXES; i++) ways[0] += s->top[i] * mix[i];
  ways[1] = median(s, mix), ways[2] = mix[6];
  ways[3] = nearest(s, ways[0]), ways[4] = nearest(s, ways[1]);
  int best = 0;
  for (int f = 1; f < FINALS; f++) if (s->finals[f] < s->finals[best]) best = f;
  return ways[best];
}

/* Which of the first `past` members was nearest so far; of equal ones the last, which knows more of the event. */
static int64_t nearest_past(const State *s, int64_t M, int64_t past) {
  int64_t best = 0;
  for (int64_t m = 1; m < past; m++) if (s->error[M + m] <= s->error[M + best]) best = m;
  return best;
}

/* The members within the range [M], in error scales around their hedge's mean [M], and the mixtures; returns what is served. */
static double combine(const State *s, int64_t M, int64_t past, const double *said, double *p, double *d, double *mix, double *ways,
                      double *scale) {
  double least = INFINITY, sum = 0.0, all = 0.0;
  for (int64_t m = 0; m < M; m++) {
    p[m] = inside(s, said[m]);
    least = s->error[m] < least ? s->error[m] : least;
  }
  for (int h = 0; h < 2; h++) {
    const double *w = s->hedge + h * M;
    double part = 0.0, total = 0.0;
    for (int64_t m = 0; m < M; m++) {
      if (s->error[m] > CUT[h] * least) continue;
      part += w[m], total += w[m] * p[m];
    }
    mix[h] = part > 0 ? total / part : p[0];
  }
  *scale = s->own[0] > 0 ? s->own[0] / (1.0 - s->own[1]) : 1.0;
  for (int64_t m = 0; m < M; m++) {
    double t = (p[m] - mix[0]) / *scale;
    d[m] = t < -5.0 ? -5.0 : t > 5.0 ? 5.0 : t;
  }
  for (int t = 0; t < 2; t++) {
    double at = 0.0;
    for (int64_t m = 0; m < M; m++) at += s->stack[t * M + m] * d[m];
    mix[2 + t] = inside(s, mix[0] + *scale * at);
  }
  for (int t = 0; t < 2; t++) {
    double at = 0.0;
    for (int64_t m = 0; m < M; m++) at += s->squares[t * M + m] * d[m];
    mix[t ? 7 : 4] = inside(s, mix[0] + *scale * at);
  }
  for (int64_t m = 0; m < M; m++) {
    double ratio = s->error[m] > 0 ? least / s->error[m] : 1.0, r2 = ratio * ratio, r4 = r2 * r2, r8 = r4 * r4;
    double w = r8 * r8 * r4;
    sum += w, all += w * p[m];
  }
  mix[5] = sum > 0 ? all / sum : p[0];
  int64_t lead = 0;
  for (int64_t m = 1; m < M; m++) if (s->error[M + m] < s->error[M + lead]) lead = m;
  mix[6] = p[lead];
  double served = serve(s, mix, ways);
  return s->count[0] <= FIRST ? p[nearest_past(s, M, past)] : served;
}

static double learn(State *s, int64_t M, int64_t past, const double *said, double y) {
  if (!s->count[0]) { /* nothing has been said that could be judged */
    s->range[0] = s->range[1] = y;
    s->count[0]++;
    remember(s, y);
    return 1.0;
  }
  double p[M], d[M], k[M], mix[MIXES], ways[FINALS], scale, e;
  double served = combine(s, M, past, said, p, d, mix, ways, &scale);
  double sum = 0.0, size = 1.0;
  /* mixtures of value differences: the target in error scales around the first hedge */
  double target = (y - mix[0]) / scale;
  target = target < -10.0 ? -10.0 : target > 10.0 ? 10.0 : target;
  for (int i = 0; i < MIXES; i++) {
    double bad = fabs(mix[i] - y) / scale;
    s->top[i] *= exp_of(-0.3 * (bad > 8.0 ? 8.0 : bad));
    sum += s->top[i];
  }
  for (int i = 0; i < MIXES; i++) s->top[i] = 0.997 * s->top[i] / sum + 0.003 / MIXES;
  for (int h = 0; h < 2; h++) {
    double *w = s->hedge + h * M;
    sum = 0.0;
    for (int64_t m = 0; m < M; m++) {
      double bad = fabs(p[m] - y) / scale;
      w[m] *= exp_of(-ETA[h] * (bad > 8.0 ? 8.0 : bad));
      sum += w[m];
    }
    for (int64_t m = 0; m < M; m++) w[m] = (1.0 - SHARE[h]) * w[m] / sum + SHARE[h] / M;
  }
  for (int64_t m = 0; m < M; m++) size += d[m] * d[m];
  for (int t = 0; t < 2; t++) {
    double *w = s->stack + t * M;
    e = -target;
    for (int64_t m = 0; m < M; m++) e += w[m] * d[m];
    double step = t ? 0.03 * e / size : 0.001 * ((e > 0) - (e < 0));
    for (int64_t m = 0; m < M; m++) w[m] -= step * d[m];
  }
  for (int t = 0; t < 2; t++) {
    double *w = s->squares + t * M, *spread = s->spread + t * M * M, den = 0.999, trace = 0.0;
    for (int64_t i = 0; i < M; i++) k[i] = 0.0;
    for (int64_t j = 0; j < M; j++)
      for (int64_t i = 0; i < M; i++) k[i] += spread[j * M + i] * d[j];
    e = target;
    for (int64_t i = 0; i < M; i++) e -= w[i] * d[i];
    if (t) den *= fabs(e) > NEAR ? fabs(e) : NEAR;
    for (int64_t i = 0; i < M; i++) den += k[i] * d[i];
    for (int64_t i = 0; i < M; i++) {
      double part = k[i] / den;
      w[i] += part * e;
      for (int64_t j = 0; j < M; j++) spread[i * M + j] -= part * k[j];
      trace += spread[i * M + i];
    }
    if (trace < 1e4)
      for (int64_t i = 0; i < M * M; i++) spread[i] /= 0.999;
  }
  /* errors, with more weight at the start, so that the first few tell at once who is near */
  double w = 1.0 / (double)s->count[0];
  w = w < 0.01 ? 0.01 : w;
  for (int64_t m = 0; m < M; m++) s->error[m] += w * (fabs(p[m] - y) - s->error[m]);
  w = 1.0 / (double)s->count[0];
  w = w < 0.001 ? 0.001 : w;
  for (int64_t m = 0; m < M; m++) s->error[M + m] += w * (fabs(p[m] - y) - s->error[M + m]);
  for (int f = 0; f < FINALS; f++) s->finals[f] += w * (fabs(ways[f] - y) - s->finals[f]);
  s->own[0] += 0.01 * (fabs(served - y) - s->own[0]), s->own[1] *= 0.99;
  s->range[0] = y < s->range[0] ? y : s->range[0], s->range[1] = y > s->range[1] ? y : s->range[1];
  s->count[0]++;
  remember(s, y);
  return fabs(served - y) / scale;
}

/* sizes: M past pending (the first `past` members say what the past's own values are); arrays: State in its order, stored [S], stored_said [S, M], y [K], used [K, 2], number [K], said [K, M],
   served [K], loss [K]. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t M = sizes[0], past = sizes[1], S = sizes[2];
  State s = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]};
  int64_t *stored = a[12];
  double *stored_said = a[13], *y = a[14], *used = a[15], *said = a[17], *served = a[18], *loss = a[19];
  const int64_t *number = a[16];
  double p[M], d[M], mix[MIXES], ways[FINALS], scale;
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      double at = combine(&s, M, past, said + r * M, p, d, mix, ways, &scale);
      served[r] = s.count[0] ? at : NAN;
      if (S && (kind[o] == PREDICT_OBSERVE || (kind[o] == PREDICT_LEARN && isnan(y[r])))) {
        stored[number[r] % S] = number[r] + 1;
        memcpy(stored_said + number[r] % S * M, said + r * M, M * sizeof(double));
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      if (isnan(y[r])) continue;
      const double *from = said + r * M;
      if (kind[o] == LEARN) {
        int64_t slot = S ? number[r] % S : 0;
        if (!S || stored[slot] != number[r] + 1) {
          loss[r] = 0.0;
          continue;
        }
        from = stored_said + slot * M;
      }
      loss[r] = learn(&s, M, past, from, used[2 * r]);
    }
  }
  leave(mode);
}
