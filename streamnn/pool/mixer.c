/* Hedge, online stacking, stacking by the class that leads, and their mean over members' log-probabilities; see mixer.py
   for the formulas.

   Axes: M members, C class capacity. */

typedef struct {
  int64_t M, C;
  double *hedge, *stack, *lead; /* [M], [M], [C, M] */
  int8_t *active;               /* [C] */
  int64_t *count;               /* [1] labels learned */
} State;

static inline double clipped(double l) { return l < -6.0 ? -6.0 : l; }

/* Combine one row [M, C]; returns the class that leads, and log-probabilities of stack, lead and the mean, [C] each. */
static int64_t combine(const State *s, const double *l, double *by_stack, double *by_lead, double *mean) {
  int64_t M = s->M, C = s->C, leads = -1;
  double score[C], p[C], by_hedge[C];
  for (int64_t c = 0; c < C; c++) score[c] = p[c] = 0.0;
  for (int64_t m = 0; m < M; m++)
    for (int64_t c = 0; c < C; c++) {
      score[c] += s->stack[m] * clipped(l[m * C + c]);
      p[c] += s->hedge[m] * exp_of(l[m * C + c]);
    }
  for (int64_t c = 0; c < C; c++) p[c] = log_of(p[c] > 1e-300 ? p[c] : 1e-300);
  log_softmax(C, s->active, p, by_hedge);
  for (int64_t c = 0; c < C; c++)
    if (s->active[c] && (leads < 0 || by_hedge[c] > by_hedge[leads])) leads = c;
  log_softmax(C, s->active, score, by_stack);
  if (leads < 0) leads = 0; /* no class is known yet, and nothing is served */
  for (int64_t m = 0; m < M; m++) {
    double v = s->lead[leads * M + m];
    for (int64_t c = 0; c < C; c++) score[c] += v * clipped(l[m * C + c]);
  }
  log_softmax(C, s->active, score, by_lead);
  for (int64_t c = 0; c < C; c++) score[c] = (by_hedge[c] + by_stack[c] + by_lead[c]) / 3.0;
  log_softmax(C, s->active, score, mean);
  return leads;
}

/* One gradient step on the log-loss of what some weights [M] said. */
static void step(const State *s, double *weights, const double *said, const double *l, int32_t y, double rate) {
  int64_t M = s->M, C = s->C;
  double slope[C];
  for (int64_t c = 0; c < C; c++) slope[c] = s->active[c] ? exp_of(said[c]) - (c == y) : 0.0;
  for (int64_t m = 0; m < M; m++) {
    double sum = 0.0;
    for (int64_t c = 0; c < C; c++) sum += slope[c] * clipped(l[m * C + c]);
    weights[m] -= rate * sum;
  }
}

/* sizes: M C pending; arrays: hedge [M], stack [M], lead [C, M], active [C], count [1], stored [S],
   stored_logp [S, M, C], label [K], number [K], logp [K, M, C], served [K, C], loss [K]. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t M = sizes[0], C = sizes[1], S = sizes[2];
  State s = {M, C, a[0], a[1], a[2], a[3], a[4]};
  int8_t *active = s.active;
  int64_t *stored = a[5];
  double *stored_logp = a[6], *logp = a[9], *served = a[10], *loss = a[11];
  const int32_t *label = a[7];
  const int64_t *number = a[8];
  double by_stack[C], by_lead[C], mean[C];
  int64_t leads = 0;
  for (int64_t o = 0; o < ops; o++) {
    int some = 0;
    for (int64_t c = 0; c < C; c++) some |= active[c];
    for (int64_t r = start[o]; r < stop[o]; r++) {
      double *l = logp + r * M * C;
      if (kind[o] == LEARN) continue;
      leads = combine(&s, l, by_stack, by_lead, mean);
      for (int64_t c = 0; c < C; c++) served[r * C + c] = !some ? NAN : active[c] ? exp_of(mean[c]) : 0.0;
      if (S && (kind[o] == PREDICT_OBSERVE || (kind[o] == PREDICT_LEARN && label[r] < 0))) {
        stored[number[r] % S] = number[r] + 1;
        memcpy(stored_logp + (number[r] % S) * M * C, l, M * C * sizeof(double));
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int32_t y = label[r];
      const double *l = logp + r * M * C;
      if (y < 0) continue;
      if (kind[o] == LEARN) { /* what was said of it then; a label later than the store remembers teaches members alone */
        int64_t slot = S ? number[r] % S : 0;
        int known = S && stored[slot] == number[r] + 1;
        if (!known) {
          active[y] = 1;
          continue;
        }
        l = stored_logp + slot * M * C;
      }
      if (!active[y]) { /* no member could have named it */
        active[y] = 1;
        loss[r] = -FLOOR;
        continue;
      }
      /* a single row was just mixed with the same weights */
      if (kind[o] != PREDICT_LEARN || stop[o] - start[o] != 1) leads = combine(&s, l, by_stack, by_lead, mean);
      double larger = 1.0 + 200.0 / (100.0 + s.count[0]++), sum = 0.0;
      loss[r] = -mean[y];
      step(&s, s.stack, by_stack, l, y, 0.0025 * larger);
      step(&s, s.lead + leads * M, by_lead, l, y, 0.0025 * larger);
      for (int64_t m = 0; m < M; m++) {
        double bad = -l[m * C + y] > 8.0 ? 8.0 : -l[m * C + y];
        s.hedge[m] *= exp_of(-0.3 * larger * bad);
        sum += s.hedge[m];
      }
      for (int64_t m = 0; m < M; m++) s.hedge[m] = 0.997 * s.hedge[m] / sum + 0.003 / M;
    }
  }
  leave(mode);
}
