/* Recursive least squares for a target and its residual, remembering all the past or forgetting; see squares.py.

   Axes: N = 1 + inputs, D feature columns, M members. */

static const double KEEP[2] = {1.0, 0.999};
#define TRACE 1e4

static void inputs(const float *row, int64_t from, int64_t first, int64_t second, int64_t at, double *x) {
  x[0] = 1.0;
  for (int64_t i = 0; i < first; i++) x[1 + i] = row[from + i];
  for (int64_t i = 0; i < second; i++) x[1 + first + i] = row[at + i];
}

/* sizes: columns of the first inputs, how many, how many of the second, their columns, D M member, the first target (0 = both,
   1 = the residual alone); arrays: weights [2, T, N] (memory, target), spread [2, N, N], met [N] (inputs that have had a
   value: the others' spread waits), row [K, D], now [K, 4], then [K, 3], used [K, 2], said [K, M] (2 T members from `member`
   on are filled). Targets are in deviations of y, and in residual scales, as they are at the time. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t from = sizes[0], first = sizes[1], second = sizes[2], at = sizes[3], D = sizes[4], M = sizes[5], member = sizes[6];
  int64_t N = 1 + first + second, skipped = sizes[7], T = 2 - skipped;
  double *weights = a[0], *spread = a[1], *now = a[4], *then = a[5], *used = a[6], *said = a[7];
  int8_t *met = a[2];
  const float *row = a[3];
  double x[N], k[N];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      inputs(row + r * D, from, first, second, at, x);
      for (int64_t m = 0; m < 2 * T; m++) {
        const double *w = weights + m * N;
        double sum = 0.0;
        for (int64_t i = 0; i < N; i++) sum += w[i] * x[i];
        said[r * M + member + m] = m % T + skipped ? now[4 * r + 3] + now[4 * r + 2] * sum : now[4 * r] + now[4 * r + 1] * sum;
      }
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      if (!(then[3 * r + 1] > 0) || !(then[3 * r + 2] > 0) || isnan(used[2 * r + 1])) continue;
      double target[2] = {(used[2 * r] - then[3 * r]) / then[3 * r + 1], used[2 * r + 1] / then[3 * r + 2]};
      inputs(row + r * D, from, first, second, at, x);
      for (int64_t i = 0; i < N; i++) met[i] |= x[i] != 0.0;
      for (int64_t f = 0; f < 2; f++) {
        double *P = spread + f * N * N, den = KEEP[f], trace = 0.0;
        for (int64_t i = 0; i < N; i++) k[i] = 0.0;
        for (int64_t j = 0; j < N; j++) /* P is symmetric: by rows, in order */
          for (int64_t i = 0; i < N; i++) k[i] += P[j * N + i] * x[j];
        for (int64_t i = 0; i < N; i++) den += k[i] * x[i];
        for (int64_t t = 0; t < T; t++) {
          double *w = weights + (T * f + t) * N, e = target[t + skipped];
          e = e < -10.0 ? -10.0 : e > 10.0 ? 10.0 : e;
          for (int64_t i = 0; i < N; i++) e -= w[i] * x[i];
          for (int64_t i = 0; i < N; i++) w[i] += k[i] * (e / den);
        }
        for (int64_t i = 0; i < N; i++) {
          double part = k[i] / den;
          for (int64_t j = 0; j < N; j++) P[i * N + j] -= part * k[j];
          if (met[i]) trace += P[i * N + i];
        }
        if (KEEP[f] < 1.0 && trace < TRACE)
          for (int64_t i = 0; i < N; i++)
            for (int64_t j = 0; met[i] && j < N; j++)
              if (met[j]) P[i * N + j] /= KEEP[f];
      }
    }
  }
  leave(mode);
}
