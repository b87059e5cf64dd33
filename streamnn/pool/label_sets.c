/* Sets of labels that have been seen are preferred to others, most where they were seen nearby; see label_sets.py for the rule.

   Axes: T labels, W window, N neighbours. Sets lie in places; a place is free while none of the last W events has its set. */

#define WINDOW 1000
#define LOWER 0.12
#define WEIGHT 0.07
#define UNSEEN 0.03
#define NEARBY 0.5
#define ELSEWHERE 0.07
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

static inline double company(double times, double share) {
  return WEIGHT * log_of(times + UNSEEN) + NEARBY * log_of(share + ELSEWHERE);
}

/* sizes: T N; arrays: sets [W, T], times [W], place [W] of the last events' sets (-1: a label was unknown), count [1] of
   events with a label, y [K, T], served [K, T], cut [K, T], near [K, N] slots of neighbours, weight [K, N] of their votes. */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t T = sizes[0], N = sizes[1], free;
  int8_t *sets = a[0], set[T];
  int64_t *times = a[1], *place = a[2], *count = a[3];
  const double *y = a[4], *served = a[5];
  double *cut = a[6], gain[T], share[WINDOW] = {0};
  for (int64_t o = 0; o < ops; o++) {
    int64_t used = count[0] < WINDOW ? count[0] : WINDOW;
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      const double *p = served + r * T, *weighs = (double *)a[8] + r * N;
      const int64_t *near = (int64_t *)a[7] + r * N;
      double alone = 0.0, most = -INFINITY, votes = 0.0;
      int64_t best = -1;
      for (int64_t t = 0; t < T; t++) {
        gain[t] = isnan(p[t]) ? 0.0 : logit_of(p[t]) - logit_of(cut[r * T + t]) + LOWER;
        set[t] = gain[t] > 0.0;
        if (set[t]) alone += gain[t];
      }
      for (int64_t n = 0; n < N; n++)
        if (weighs[n] > 0.0 && place[near[n]] >= 0) share[place[near[n]]] += weighs[n], votes += weighs[n];
      double each = votes > 0.0 ? 1.0 / votes : 0.0, apart = company(0.0, 0.0) - WEIGHT * log_of(UNSEEN);
      int64_t mine = find(T, sets, times, used, set, &free);
      alone += mine < 0 ? company(0.0, 0.0) : company((double)times[mine], each * share[mine]);
      for (int64_t w = 0; w < used; w++) {
        if (!times[w] || w == mine) continue;
        double score = share[w] > 0.0 ? company((double)times[w], each * share[w])
                                      : WEIGHT * log_of((double)times[w] + UNSEEN) + apart;
        for (int64_t t = 0; t < T; t++) score += sets[w * T + t] ? gain[t] : 0.0;
        if (score > most) most = score, best = w;
      }
      for (int64_t n = 0; n < N; n++)
        if (weighs[n] > 0.0 && place[near[n]] >= 0) share[place[near[n]]] = 0.0;
      const int8_t *chosen = best >= 0 && most > alone ? sets + best * T : set;
      for (int64_t t = 0; t < T; t++)
        if (!isnan(p[t]) && chosen[t] != (p[t] > cut[r * T + t])) cut[r * T + t] = p[t] * (chosen[t] ? 1.0 - BEYOND : 1.0 + BEYOND);
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int64_t whole = 1, some = 0;
      for (int64_t t = 0; t < T; t++) {
        whole &= !isnan(y[r * T + t]), some |= !isnan(y[r * T + t]);
        set[t] = y[r * T + t] > 0.5;
      }
      if (!some) continue;
      int64_t slot = count[0] % WINDOW, at = -1;
      if (place[slot] >= 0) times[place[slot]]--;
      if (whole) {
        at = find(T, sets, times, count[0] < WINDOW ? count[0] : WINDOW, set, &free);
        if (at < 0) {
          at = free;
          memcpy(sets + at * T, set, T);
        }
        times[at]++;
      }
      place[slot] = at;
      count[0]++;
    }
  }
  leave(mode);
}
