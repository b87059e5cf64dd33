/* For each label a hedge and a stack over the members' probabilities, a hedge that all labels share, the mean of the
   three, and its thresholds; see label_mixer.py.

   Axes: M members, T labels. */

#define CUTS 19 /* thresholds .05, .10, ... .95 */
#define SHARED 20.0 /* weight of the mean over labels */
#define SURE 0.05 /* how much a gain of one decides */
#define OF_ROW 0.75 /* weight of what is expected of the row in a threshold */

static inline double logit_of(double p) { return log_of(p / (1.0 - p)); }

static inline double inside(double p) { return p < 1e-3 ? 1e-3 : p > 1.0 - 1e-3 ? 1.0 - 1e-3 : p; }

static inline double sigmoid(double z) { return 1.0 / (1.0 + exp_of(-z)); }

/* Mix one label's probabilities p [M] (a step of T apart): the stack's, and the mean of stack and both hedges. */
static double combine(
  int64_t M, int64_t T, const double *hedge, const double *stack, const double *common, const double *p, double *by_stack
) {
  double mixed = 0.0, shared = 0.0, score = 0.0;
  for (int64_t m = 0; m < M; m++) {
    double q = inside(p[m * T]);
    mixed += hedge[m * T] * q;
    shared += common[m] * q;
    score += stack[m * T] * logit_of(q);
  }
  score = score < -6.9 ? -6.9 : score > 6.9 ? 6.9 : score;
  *by_stack = sigmoid(score);
  return sigmoid((score + logit_of(mixed) + logit_of(shared)) / 3.0);
}

/* Set each label's threshold from its own and everybody's hits: the mean of all cuts as logits, weighted by their gains. */
static void choose(int64_t T, const double *hits, double *threshold) {
  const double *right = hits, *wrong = hits + CUTS * T, *missed = hits + 2 * CUTS * T;
  double gain[CUTS], f1 = 0.0, all[CUTS][2];
  for (int64_t c = 0; c < CUTS; c++) {
    double tp = 0.0, errors = 0.0;
    for (int64_t t = 0; t < T; t++) tp += right[c * T + t], errors += wrong[c * T + t] + missed[c * T + t];
    double here = tp > 0.0 ? 2.0 * tp / (2.0 * tp + errors) : 0.0;
    if (here > f1) f1 = here;
    all[c][0] = tp, all[c][1] = errors;
  }
  for (int64_t c = 0; c < CUTS; c++) gain[c] = SHARED / T * (2.0 * all[c][0] * (1.0 - f1) - f1 * all[c][1]);
  for (int64_t t = 0; t < T; t++) {
    double mine[CUTS], best = -INFINITY, sum = 0.0, all_weights = 0.0;
    for (int64_t c = 0; c < CUTS; c++) {
      int64_t i = c * T + t;
      mine[c] = 2.0 * right[i] * (1.0 - f1) - f1 * (wrong[i] + missed[i]) + gain[c];
      if (mine[c] > best) best = mine[c];
    }
    for (int64_t c = 0; c < CUTS; c++) {
      double w = exp_of(SURE * (mine[c] - best));
      sum += w * logit_of(0.05 * (c + 1)), all_weights += w;
    }
    threshold[t] = sigmoid(sum / all_weights);
  }
}

/* Half of the F1 that the best set of labels is expected to have in a row, by its probabilities [T], as a logit. */
static double half_f1(int64_t T, const double *p) {
  double sorted[T], all = 0.0, on = 0.0, best = 0.0;
  for (int64_t t = 0; t < T; t++) {
    double q = isnan(p[t]) ? 0.0 : p[t];
    int64_t j = t;
    for (; j > 0 && sorted[j - 1] < q; j--) sorted[j] = sorted[j - 1];
    sorted[j] = q, all += q;
  }
  for (int64_t k = 0; k < T; k++) {
    on += sorted[k];
    double f1 = 2.0 * on / (k + 1 + all);
    best = f1 > best ? f1 : best;
  }
  return logit_of(best < 0.1 ? 0.05 : 0.5 * best);
}

/* sizes: M T pending; arrays: hedge [M, T], stack [M, T], common [M], labels [T], hits [3, CUTS, T] (true positives, false ones,
   missed ones; they forget), threshold [T], stored [S], stored_said [S, M, T], y [K, T], number [K], said [K, M, T],
   served [K, T], loss [K], cut [K, T] (the thresholds when the row was served). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t M = sizes[0], T = sizes[1], S = sizes[2], *labels = a[3], *stored = a[6];
  double *hedge = a[0], *stack = a[1], *common = a[2], *hits = a[4], *threshold = a[5], *stored_said = a[7];
  double *said = a[10], *served = a[11], *loss = a[12], *cut = a[13], by_stack, gain[M];
  const double *y = a[8];
  const int64_t *number = a[9];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      int64_t unknown = 0;
      for (int64_t t = 0; t < T; t++) {
        double p = combine(M, T, hedge + t, stack + t, common, said + r * M * T + t, &by_stack);
        served[r * T + t] = labels[t] ? p : NAN;
        unknown += isnan(y[r * T + t]);
      }
      double half = half_f1(T, served + r * T);
      for (int64_t t = 0; t < T; t++) cut[r * T + t] = sigmoid((1.0 - OF_ROW) * logit_of(threshold[t]) + OF_ROW * half);
      if (S && (kind[o] == PREDICT_OBSERVE || (kind[o] == PREDICT_LEARN && unknown))) {
        stored[number[r] % S] = number[r] + 1;
        memcpy(stored_said + number[r] % S * M * T, said + r * M * T, M * T * sizeof(double));
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      const double *from = said + r * M * T;
      int64_t some = 0;
      double total = 0.0, weight = 0.0, best = -INFINITY;
      for (int64_t t = 0; t < T; t++) some += !isnan(y[r * T + t]);
      if (!some) continue;
      if (kind[o] == LEARN) {
        int64_t slot = S ? number[r] % S : 0;
        if (!S || stored[slot] != number[r] + 1) continue;
        from = stored_said + slot * M * T;
      }
      for (int64_t m = 0; m < M; m++) gain[m] = 0.0;
      for (int64_t t = 0; t < T; t++) {
        double truth = y[r * T + t], sum = 0.0;
        if (isnan(truth)) continue;
        double larger = 1.0 + 200.0 / (100.0 + labels[t]++);
        double p = combine(M, T, hedge + t, stack + t, common, from + t, &by_stack);
        total -= truth * log_of(p) + (1.0 - truth) * log_of(1.0 - p);
        for (int64_t c = 0; c < CUTS; c++) {
          double on = p > 0.05 * (c + 1), *h = hits + c * T + t;
          h[0] = 0.999 * h[0] + on * truth;
          h[CUTS * T] = 0.999 * h[CUTS * T] + on * (1.0 - truth);
          h[2 * CUTS * T] = 0.999 * h[2 * CUTS * T] + (1.0 - on) * truth;
        }
        for (int64_t m = 0; m < M; m++) {
          double q = inside(from[m * T + t]);
          stack[m * T + t] -= 0.003 * larger * (by_stack - truth) * logit_of(q);
          double likely = larger * (truth * log_of(q) + (1.0 - truth) * log_of(1.0 - q));
          gain[m] += likely;
          hedge[m * T + t] *= exp_of(0.3 * likely);
          sum += hedge[m * T + t];
        }
        for (int64_t m = 0; m < M; m++) hedge[m * T + t] = 0.997 * hedge[m * T + t] / sum + 0.003 / M;
      }
      for (int64_t m = 0; m < M; m++) best = gain[m] > best ? gain[m] : best; /* with many labels all would become 0 */
      for (int64_t m = 0; m < M; m++) weight += common[m] *= exp_of(0.05 * (gain[m] - best));
      for (int64_t m = 0; m < M; m++) common[m] = 0.997 * common[m] / weight + 0.003 / M;
      loss[r] = total / some;
      choose(T, hits, threshold);
    }
  }
  leave(mode);
}
