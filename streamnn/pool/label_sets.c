/* Sets of labels that have been seen are preferred to others; see label_sets.py for the rule.

   Axes: T labels, W window. Sets lie in places; a place is free while none of the last W events has its set. */

#define WINDOW 1000
#define WEIGHT 0.1
#define UNSEEN 0.03
#define BEYOND 1e-6

static inline double logit_of(double p) { return log_of(p / (1.0 - p)); }

/* The place of a set, or -1; `free` is the first place that is free, or -1. */
static int64_t find(int64_t T, const int8_t *sets, const int64_t *times, int64_t used, const int8_t *set, int64_t *free) {
  *free = -1;
  for (int64_t w = 0; w < used; w++) {
    if (!times[w]) {
      if (*free < 0) *free = w;
    } else if (!memcmp(sets + w * T, set, T)) {
      return w;
    }
  }
  if (*free < 0 && used < WINDOW) *free = used;
  return -1;
}

/* sizes: T; arrays: sets [W, T], times [W], ring [W] places of the last events, count [1] of events, y [K, T],
   served [K, T], cut [K, T]. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t T = sizes[0], free;
  int8_t *sets = a[0], set[T];
  int64_t *times = a[1], *ring = a[2], *count = a[3];
  const double *y = a[4], *served = a[5];
  double *cut = a[6], gain[T];
  for (int64_t o = 0; o < ops; o++) {
    int64_t used = count[0] < WINDOW ? count[0] : WINDOW;
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      const double *p = served + r * T;
      double alone = 0.0, most = -INFINITY;
      int64_t best = -1;
      for (int64_t t = 0; t < T; t++) {
        gain[t] = isnan(p[t]) ? 0.0 : logit_of(p[t]) - logit_of(cut[r * T + t]);
        set[t] = gain[t] > 0.0;
        if (set[t]) alone += gain[t];
      }
      int64_t mine = find(T, sets, times, used, set, &free);
      alone += WEIGHT * log_of((mine < 0 ? 0.0 : (double)times[mine]) + UNSEEN);
      for (int64_t w = 0; w < used; w++) {
        if (!times[w] || w == mine) continue;
        double score = WEIGHT * log_of((double)times[w] + UNSEEN);
        for (int64_t t = 0; t < T; t++) score += sets[w * T + t] ? gain[t] : 0.0;
        if (score > most) most = score, best = w;
      }
      if (best < 0 || !(most > alone)) continue;
      for (int64_t t = 0; t < T; t++)
        if (sets[best * T + t] != set[t] && !isnan(p[t])) cut[r * T + t] = p[t] * (set[t] ? 1.0 + BEYOND : 1.0 - BEYOND);
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int64_t whole = 1;
      for (int64_t t = 0; t < T; t++) {
        whole &= !isnan(y[r * T + t]);
        set[t] = y[r * T + t] > 0.5;
      }
      if (!whole) continue;
      int64_t slot = count[0] % WINDOW;
      if (count[0] >= WINDOW) times[ring[slot]]--;
      int64_t at = find(T, sets, times, count[0] < WINDOW ? count[0] : WINDOW, set, &free);
      if (at < 0) {
        at = free;
        memcpy(sets + at * T, set, T);
      }
      times[at]++;
      ring[slot] = at;
      count[0]++;
    }
  }
  leave(mode);
}
