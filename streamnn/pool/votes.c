/* Frequencies of labels, and votes of the nearest neighbours for each; see votes.py.

   Axes: G = P + F key entries (the first columns of a row), T labels, D feature columns, M members. */

#define SHARP 8.0
static const int64_t ASKED[3] = {5, 15, NEAR};

/* sizes: G T D M; arrays: count [1], keys [G, STRIDE], past [STRIDE, T], weight [T], positive [T] (both forget),
   row [K, D], y [K, T], said [K, M, T] (the first five members are filled), near [K, NEAR] slots of neighbours and
   weight [K, NEAR] of their votes, 0 where there are fewer. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t G = sizes[0], T = sizes[1], D = sizes[2], M = sizes[3], *count = a[0];
  float *keys = a[1], *past = a[2];
  double *weight = a[3], *positive = a[4], *said = a[7];
  const float *row = a[5];
  const double *y = a[6];
  float far[NEAR];
  double sum[T], known[T];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      double *to = said + r * M * T, *weighs = (double *)a[9] + r * NEAR;
      int64_t *near = (int64_t *)a[8] + r * NEAR;
      int64_t stored = *count < WINDOW ? *count : WINDOW;
      int64_t found = nearest(keys, row + r * D, G, stored, near, far), i = 0;
      for (int64_t t = 0; t < T; t++) to[t] = (positive[t] + 0.5) / (weight[t] + 1.0), sum[t] = known[t] = 0.0;
      for (int64_t n = 0; n < 3; n++) {
        int64_t many = ASKED[n] < found ? ASKED[n] : found;
        for (; i < many; i++) {
          const float *said_then = past + near[i] * T;
          for (int64_t t = 0; t < T; t++)
            if (!isnan(said_then[t])) sum[t] += said_then[t], known[t] += 1.0;
        }
        for (int64_t t = 0; t < T; t++) to[(1 + n) * T + t] = (sum[t] + 0.5 * to[t]) / (known[t] + 0.5);
      }
      double mean = 0.0;
      for (i = 0; i < found; i++) mean += far[i];
      mean /= found;
      for (int64_t t = 0; t < T; t++) sum[t] = known[t] = 0.0;
      for (i = 0; i < found; i++) {
        double w = weighs[i] = mean > 0.0 ? exp_of(-SHARP * ((double)far[i] - far[0]) / mean) : 1.0;
        const float *said_then = past + near[i] * T;
        for (int64_t t = 0; t < T; t++)
          if (!isnan(said_then[t])) sum[t] += w * said_then[t], known[t] += w;
      }
      for (int64_t t = 0; t < T; t++) to[4 * T + t] = (sum[t] + 0.5 * to[t]) / (known[t] + 0.5);
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int64_t some = 0, slot = *count % WINDOW;
      for (int64_t t = 0; t < T; t++) some += !isnan(y[r * T + t]);
      if (!some) continue;
      for (int64_t g = 0; g < G; g++) keys[g * STRIDE + slot] = row[r * D + g];
      for (int64_t t = 0; t < T; t++) {
        past[slot * T + t] = (float)y[r * T + t];
        if (isnan(y[r * T + t])) continue;
        weight[t] = 0.999 * weight[t] + 1.0;
        positive[t] = 0.999 * positive[t] + y[r * T + t];
      }
      ++*count;
    }
  }
  leave(mode);
}
