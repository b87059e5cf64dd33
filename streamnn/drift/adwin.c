/* ADWIN's update, as streamnn/drift/adwin.py has it in Python: the same operations in the same order, so the same bits. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
  int64_t clock, max_buckets, least, grace, one_sided;
} Settings;

/* `counts`: buckets of each length, shortest first; `sums` and `spreads`: of each bucket, oldest first. */
typedef struct {
  int64_t tick, width, rows, buckets, counts[64];
  double total, spread;
} Window;

static void begin(Window *w) {
  memset(w, 0, sizeof *w);
  w->rows = 1;
}

static void count(Window *w, const double *values, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (w->width) {
      double d = values[i] - w->total / (double)w->width;
      w->spread += (double)w->width * d * d / (double)(w->width + 1);
    }
    w->width++;
    w->total += values[i];
  }
  w->tick += n;
}

static void insert(const Settings *s, Window *w, double *sums, double *spreads, const double *values, int64_t n) {
  memcpy(sums + w->buckets, values, n * sizeof *sums);
  memset(spreads + w->buckets, 0, n * sizeof *spreads);
  w->buckets += n;
  w->counts[0] += n;
  int64_t stop = w->buckets;
  double half = 0.5;
  for (int64_t row = 0, over; (over = w->counts[row] - s->max_buckets) > 0; row++, half /= 2) {
    int64_t pairs = (over + 1) / 2, start = stop - w->counts[row];
    if (row + 1 == w->rows) w->rows++;
    for (int64_t k = 0; k < pairs; k++) {
      int64_t at = start + 2 * k;
      double d = sums[at] - sums[at + 1];
      spreads[start + k] = (spreads[at] + spreads[at + 1]) + half * (d * d);
      sums[start + k] = sums[at] + sums[at + 1];
    }
    int64_t rest = w->buckets - (start + 2 * pairs);
    memmove(sums + start + pairs, sums + start + 2 * pairs, rest * sizeof *sums);
    memmove(spreads + start + pairs, spreads + start + 2 * pairs, rest * sizeof *spreads);
    w->buckets -= pairs;
    w->counts[row] -= 2 * pairs;
    w->counts[row + 1] += pairs;
    stop = start + pairs;
  }
}

/* Forget the oldest bucket. */
static void drop(Window *w, double *sums, double *spreads) {
  int64_t size = (int64_t)1 << (w->rows - 1);
  double total = sums[0], spread = spreads[0];
  w->buckets--;
  memmove(sums, sums + 1, w->buckets * sizeof *sums);
  memmove(spreads, spreads + 1, w->buckets * sizeof *spreads);
  w->width -= size;
  w->total -= total;
  double d = total / (double)size - w->total / (double)w->width;
  w->spread -= spread + (double)size * (double)w->width * d * d / (double)(size + w->width);
  if (!--w->counts[w->rows - 1]) w->rows--;
}

/* Which way the mean has changed: 0 = not, 1 = it fell, -1 = it rose somewhere. */
static int direction(const Settings *s, double delta, const Window *w, const double *sums) {
  double bound = log(2 * log((double)w->width) / delta), variance = w->spread / (double)w->width;
  double older = 0, total0 = 0, total1 = w->total, newest = (double)(w->width - s->least + 1);
  int found = 0;
  int64_t bucket = 0;
  for (int64_t row = w->rows - 1; row >= 0; row--) {
    for (int64_t k = 0; k < w->counts[row]; k++, bucket++) {
      older += (double)((int64_t)1 << row);
      total0 = bucket ? total0 + sums[bucket] : sums[bucket];
      total1 -= sums[bucket];
      if (older < (double)s->least || older >= newest) continue;
      double n1 = (double)w->width - older, difference = total0 / older - total1 / n1;
      double m = 1 / (older - (double)(s->least - 1)) + 1 / (n1 - (double)(s->least - 1));
      double epsilon = sqrt(2 * variance * bound * m) + 2.0 / 3.0 * bound * m;
      if (fabs(difference) > epsilon) {
        if (difference < 0) return -1;
        found = 1;
      }
    }
  }
  return found;
}

static int changed(const Settings *s, double delta, Window *w, double *sums, double *spreads) {
  for (;;) {
    int way = direction(s, delta, w, sums);
    if (!way) return 0;
    if (way < 0 || !s->one_sided) return 1;
    drop(w, sums, spreads);
  }
}

/* Take the next values; write the indices at which a change was flagged, and return how many there are. */
int64_t update(const Settings *s, double delta, Window *w, double *sums, double *spreads, const double *values, int64_t n,
               int64_t *found) {
  int64_t flagged = 0;
  for (int64_t at = 0; at < n;) {
    int64_t part = s->clock - w->tick % s->clock;
    if (part > n - at) part = n - at;
    count(w, values + at, part);
    insert(s, w, sums, spreads, values + at, part);
    at += part;
    if (w->tick % s->clock == 0 && w->width > s->grace && changed(s, delta, w, sums, spreads)) {
      found[flagged++] = at - 1;
      begin(w);
    }
  }
  return flagged;
}
