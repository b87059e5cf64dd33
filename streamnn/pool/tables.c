/* Classes counted by the exact value of each input, and by the label before; see tables.py for the formulas.

   Axes: F inputs with tables, C class capacity, L = C or 0 where there are too many pairs of labels. */

#define PLACES 512
#define FADE 0.99
#define PRIOR_FADE 0.999
#define LOSS_FADE 0.1

static inline int64_t place(double x) {
  uint64_t bits = (uint64_t)to_bits(x + 0.0); /* -0 is 0 */
  return (int64_t)(((bits ^ (bits >> 32)) * 0x9e3779b97f4a7c15ULL) >> 55);
}

/* sizes: F C width stride L pending; arrays: counts [F, PLACES, C], loss [F], pairs [L, L], totals [C], active [C],
   last [1] (-1 = none), stored [S], stored_last [S], x [K, width], label [K], number [K], logp [K, M, C] (this part
   fills two members). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t F = sizes[0], C = sizes[1], width = sizes[2], stride = sizes[3], L = sizes[4], S = sizes[5];
  float *counts = a[0];
  double *loss = a[1], *pairs = a[2], *totals = a[3], *logp = a[11];
  int8_t *active = a[4];
  int64_t *last = a[5], *stored = a[6], *stored_last = a[7];
  const double *x = a[8];
  const int32_t *label = a[9];
  const int64_t *number = a[10];
  double prior[C], sum[C];
  for (int64_t o = 0; o < ops; o++) {
    for (int pass = 0; pass < 2; pass++) {
      if (pass ? kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT : kind[o] == LEARN) continue;
      int64_t context = last[0]; /* all rows of an operation are served before any is learned */
      for (int64_t r = start[o]; r < stop[o]; r++) {
        int32_t y = label[r];
        if (pass && y < 0) continue;
        double total = 0.0;
        for (int64_t c = 0; c < C; c++) prior[c] = active[c] ? totals[c] + 0.5 : 0.0, total += prior[c];
        for (int64_t c = 0; c < C; c++) prior[c] /= total > 0.0 ? total : 1.0;
        if (!pass) {
          double least = INFINITY, weights = 0.0, all = 1.0;
          double *by_value = logp + r * stride, *by_label = by_value + C;
          for (int64_t f = 0; f < F; f++)
            if (!isnan(x[r * width + f]) && loss[f] < least) least = loss[f];
          memset(sum, 0, sizeof sum);
          for (int64_t f = 0; f < F; f++) {
            if (isnan(x[r * width + f])) continue;
            const float *n = counts + (f * PLACES + place(x[r * width + f])) * C;
            double w = exp_of(-20.0 * (loss[f] - least)), count = 1.0;
            weights += w;
            for (int64_t c = 0; c < C; c++) count += n[c];
            for (int64_t c = 0; c < C; c++) sum[c] += w / count * (n[c] + prior[c]);
          }
          const double *pair = L && last[0] >= 0 ? pairs + last[0] * L : 0;
          for (int64_t c = 0; c < C && pair; c++) all += pair[c];
          for (int64_t c = 0; c < C; c++) {
            double p = weights > 0.0 ? sum[c] / weights : prior[c], q = ((pair ? pair[c] : 0.0) + prior[c]) / all;
            by_value[c] = log_chance(active[c], p), by_label[c] = log_chance(active[c], q);
          }
          /* the label before is remembered for the label that may come late */
          if (S && (kind[o] == PREDICT_OBSERVE || (kind[o] == PREDICT_LEARN && y < 0)))
            stored[number[r] % S] = number[r] + 1, stored_last[number[r] % S] = last[0];
          continue;
        }
        for (int64_t f = 0; f < F; f++) {
          if (isnan(x[r * width + f])) continue;
          float *n = counts + (f * PLACES + place(x[r * width + f])) * C;
          double count = 1.0;
          for (int64_t c = 0; c < C; c++) count += n[c];
          if (active[y]) {
            double p = (n[y] + prior[y]) / count;
            loss[f] += LOSS_FADE * (-log_of(p > 1e-300 ? p : 1e-300) - loss[f]);
          }
          for (int64_t c = 0; c < C; c++) n[c] *= (float)FADE;
          n[y] += 1.0f;
        }
        int64_t before = context;
        if (kind[o] == LEARN) {
          int64_t slot = S ? number[r] % S : 0;
          before = S && stored[slot] == number[r] + 1 ? stored_last[slot] : -1;
        }
        if (L && before >= 0) {
          double *pair = pairs + before * L;
          for (int64_t c = 0; c < C; c++) pair[c] *= FADE;
          pair[y] += 1.0;
        }
        active[y] = 1;
        for (int64_t c = 0; c < C; c++) totals[c] *= PRIOR_FADE;
        totals[y] += 1.0;
        last[0] = y;
      }
    }
  }
  leave(mode);
}
