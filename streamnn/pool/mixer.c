/* Hedge, online stacking and their mean over members' log-probabilities; see mixer.py for the formulas.

   Axes: M members, C class capacity. */

/* Combine one row [M, C]; returns stack's and hedge's log-probabilities and the mixture [C]. */
static void combine(int64_t M, int64_t C, const int8_t *active, const double *hedge, const double *stack, const double *l,
                    double *by_stack, double *by_hedge, double *mean) {
  double score[C], p[C];
  for (int64_t c = 0; c < C; c++) score[c] = p[c] = 0.0;
  for (int64_t m = 0; m < M; m++)
    for (int64_t c = 0; c < C; c++) {
      double at = l[m * C + c];
      score[c] += stack[m] * (at < -6.0 ? -6.0 : at);
      p[c] += hedge[m] * exp_of(at);
    }
  for (int64_t c = 0; c < C; c++) p[c] = log_of(p[c] > 1e-300 ? p[c] : 1e-300);
  log_softmax(C, active, score, by_stack);
  log_softmax(C, active, p, by_hedge);
  for (int64_t c = 0; c < C; c++) score[c] = 0.5 * (by_stack[c] + by_hedge[c]);
  log_softmax(C, active, score, mean);
}

/* sizes: M C pending; arrays: hedge [M], stack [M], active [C], stored [S], stored_logp [S, M, C], label [K], number [K],
   logp [K, M, C], served [K, C], loss [K]. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t M = sizes[0], C = sizes[1], S = sizes[2];
  double *hedge = a[0], *stack = a[1], *stored_logp = a[4], *logp = a[7], *served = a[8], *loss = a[9];
  int8_t *active = a[2];
  int64_t *stored = a[3];
  const int32_t *label = a[5];
  const int64_t *number = a[6];
  double by_stack[C], by_hedge[C], mean[C];
  for (int64_t o = 0; o < ops; o++) {
    int some = 0;
    for (int64_t c = 0; c < C; c++) some |= active[c];
    for (int64_t r = start[o]; r < stop[o]; r++) {
      double *l = logp + r * M * C;
      if (kind[o] == LEARN) continue;
      combine(M, C, active, hedge, stack, l, by_stack, by_hedge, mean);
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
      combine(M, C, active, hedge, stack, l, by_stack, by_hedge, mean);
      loss[r] = -mean[y];
      double p[C], sum = 0.0;
      for (int64_t c = 0; c < C; c++) p[c] = active[c] ? exp_of(by_stack[c]) : 0.0;
      for (int64_t m = 0; m < M; m++) {
        double slope = 0.0;
        for (int64_t c = 0; c < C; c++) {
          double at = l[m * C + c] < -6.0 ? -6.0 : l[m * C + c];
          if (active[c]) slope += (p[c] - (c == y)) * at;
        }
        stack[m] -= 0.003 * slope;
        double bad = -l[m * C + y] > 8.0 ? 8.0 : -l[m * C + y];
        hedge[m] *= exp_of(-0.3 * bad);
        sum += hedge[m];
      }
      for (int64_t m = 0; m < M; m++) hedge[m] = 0.997 * hedge[m] / sum + 0.003 / M;
    }
  }
  leave(mode);
}
