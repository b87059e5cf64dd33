/* Softmax regression on the standardised inputs, by plain gradient steps and by Adam without momentum; members also say
   the first one's logits times a scale that is learned, and times 4.

   Axes: G inputs (the first of a feature row of `width`), C class capacity. Members: gradient, Adam, scaled gradient, gradient x4. */

#define RATE 0.01
#define BETA2 0.999
#define SCALE_RATE 0.03
#define LARGEST 3.4657359027997265 /* log 32 */

static void logits(int64_t G, int64_t C, const double *w, const float *x, double *out) {
  for (int64_t c = 0; c < C; c++) out[c] = w[c]; /* row 0 holds the biases */
  for (int64_t g = 0; g < G; g++) {
    if (x[g] == 0.0f) continue;
    for (int64_t c = 0; c < C; c++) out[c] += w[(g + 1) * C + c] * x[g];
  }
}

/* Slope of the log-loss of scaled logits with respect to the logarithm of their scale, clipped. */
static double scale_slope(int64_t C, const int8_t *active, const double *raw, double scale, int32_t label) {
  double scaled[C], l[C], slope = -raw[label];
  for (int64_t c = 0; c < C; c++) scaled[c] = scale * raw[c];
  log_softmax(C, active, scaled, l);
  for (int64_t c = 0; c < C; c++)
    if (active[c]) slope += exp_of(l[c]) * raw[c];
  slope *= scale;
  return slope < -2.0 ? -2.0 : slope > 2.0 ? 2.0 : slope;
}

/* sizes: G C width stride; arrays: plain [G + 1, C], adam [G + 1, C], moment [G + 1, C], left [G + 1] = beta2^steps,
   active [C], sure [1] (the scale's logarithm), rows [K, width], label [K], logp [K, M, C] (this part fills four members). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t G = sizes[0], C = sizes[1], width = sizes[2], stride = sizes[3];
  double *plain = a[0], *adam = a[1], *moment = a[2], *left = a[3], *sure = a[5], *logp = a[8];
  int8_t *active = a[4];
  const float *rows = a[6];
  const int32_t *label = a[7];
  double raw[C], l[C], sum[(G + 1) * C];
  for (int64_t o = 0; o < ops; o++) {
    double scale = exp_of(sure[0]), turn = 0.0;
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      double *to = logp + r * stride;
      logits(G, C, plain, rows + r * width, raw);
      log_softmax(C, active, raw, to);
      for (int64_t c = 0; c < C; c++) l[c] = scale * raw[c];
      log_softmax(C, active, l, to + 2 * C);
      for (int64_t c = 0; c < C; c++) l[c] = 4.0 * raw[c];
      log_softmax(C, active, l, to + 3 * C);
      logits(G, C, adam, rows + r * width, raw);
      log_softmax(C, active, raw, to + C);
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    int64_t many = 0;
    for (int64_t r = start[o]; r < stop[o]; r++)
      if (label[r] >= 0) active[label[r]] = 1, many++;
    if (!many) continue;
    for (int which = 0; which < 2; which++) {
      double *w = which ? adam : plain;
      memset(sum, 0, sizeof sum);
      for (int64_t r = start[o]; r < stop[o]; r++) {
        if (label[r] < 0) continue;
        const float *x = rows + r * width;
        logits(G, C, w, x, raw);
        log_softmax(C, active, raw, l);
        if (!which) turn += scale_slope(C, active, raw, scale, label[r]) / many;
        for (int64_t c = 0; c < C; c++) {
          double slope = active[c] ? (exp_of(l[c]) - (c == label[r])) / many : 0.0;
          sum[c] += slope;
          for (int64_t g = 0; g < G; g++) sum[(g + 1) * C + c] += slope * x[g];
        }
      }
      if (!which) {
        for (int64_t i = 0; i < (G + 1) * C; i++) w[i] -= RATE * sum[i];
        sure[0] -= SCALE_RATE * turn;
        sure[0] = sure[0] < 0.0 ? 0.0 : sure[0] > LARGEST ? LARGEST : sure[0];
        continue;
      }
      for (int64_t g = 0; g <= G; g++) {
        int some = 0;
        for (int64_t c = 0; c < C; c++) some |= sum[g * C + c] != 0.0;
        if (!some && left[g] == 1.0) continue; /* steps of an input are counted from its first value on */
        left[g] *= BETA2;
        double correct = 1.0 / (1.0 - left[g]);
        for (int64_t c = 0; c < C; c++) {
          int64_t i = g * C + c;
          moment[i] = BETA2 * moment[i] + (1.0 - BETA2) * sum[i] * sum[i];
          w[i] -= RATE * sum[i] / (sqrt(moment[i] * correct) + 1e-8);
        }
      }
    }
  }
  leave(mode);
}
