/* Values by trees that are grown anew from the last events; see value_forest.py.

   Axes: P plain and F numeric inputs, two targets: value and residual. */

struct Part {
  const double *target; /* [W, 2] of the window, from the one in hand on */
  double *leaf;         /* [LEAVES] means */
  double shift;         /* taken from each target: squares of large ones would lose what they differ by */
  double sum;           /* of the node in hand */
  int64_t many;         /* draws in it */
  int32_t leaves;
};

/* Add up a node; a split has to leave less squared error: the score is the sum over sides of sum^2 / n. */
static void begin(Part *p, const Draws *d, int64_t from, int64_t to, Split *best) {
  p->sum = 0.0;
  double squares = 0.0;
  for (int64_t i = from; i < to; i++) {
    double y = p->target[2 * d->row[first_of(d, i)]] - p->shift;
    p->sum += y, squares += y * y;
  }
  p->many = to - from;
  best->score = p->sum * p->sum / p->many + 1e-9 * squares;
}

static void search(const Part *p, const Draws *d, int64_t m, int64_t from, int64_t to, Split *best) {
  const uint16_t *order = d->order[m], *code = d->code[m];
  double left = 0.0;
  for (int64_t i = from; i < to - LEAF; i++) {
    left += p->target[2 * d->row[order[i]]] - p->shift;
    if (i < from + LEAF - 1 || code[order[i]] == code[order[i + 1]]) continue;
    double right = p->sum - left, score = left * left / (i + 1 - from) + right * right / (to - 1 - i);
    if (score > best->score) best->score = score, best->column = m, best->at = i + 1;
  }
}

static int32_t finish(Part *p) {
  p->leaf[p->leaves] = p->shift + p->sum / p->many;
  return p->leaves++;
}

#define LEAVES (DRAWN / LEAF)

typedef struct {
  int64_t P, F, G; /* G = P + F, 0 where there is no room for a window */
  int64_t *count;  /* [2] labels learned, trees grown of either kind */
  double *window;  /* [W, G] */
  double *target;  /* [W, 2] */
  Tree trees;      /* [2, TREES, NODES] */
  double *leaf;    /* [2, TREES, LEAVES] */
  double *loss;    /* [2, TREES] */
} State;

/* What tree t of all says of a row. */
static inline double said_of(const State *s, int64_t t, const double *plain, const double *numeric) {
  Tree tree = tree_of(s->trees, t);
  return s->leaf[t * LEAVES + tree.left[leaf_of(tree, plain, numeric, s->P)]];
}

/* The mean of a kind's trees, and the mean weighted by how good they were of late; 0 where there are none. */
static void serve(const State *s, int64_t which, const double *plain, const double *numeric, double *evenly, double *recently) {
  int64_t trees = grown(s->count);
  const double *loss = s->loss + which * TREES;
  double least = INFINITY, sum = 0.0, all = 0.0, weights = 0.0;
  for (int64_t t = 0; t < trees; t++)
    if (loss[t] < least) least = loss[t];
  for (int64_t t = 0; t < trees; t++) {
    double said = said_of(s, which * TREES + t, plain, numeric), ratio = loss[t] > 0.0 ? least / loss[t] : 1.0;
    double w = ratio * ratio * (ratio * ratio);
    sum += said, all += w * said, weights += w;
  }
  *evenly = trees ? sum / trees : 0.0, *recently = trees ? all / weights : 0.0;
}

/* Grow a tree of each kind in the place of the oldest. */
static void renew(State *s, uint64_t seed, const double *last) {
  int64_t t = s->count[1] % TREES;
  for (int64_t which = 0; which < 2; which++) {
    Draws d;
    double *loss = s->loss + which * TREES;
    d.window = s->window;
    draw(&d, s->P, s->F, held(s->count), mix(seed + (uint64_t)(2 * s->count[1] + which)));
    Part p = {s->target + which, s->leaf + (which * TREES + t) * LEAVES, last[which], 0.0, 0, 0};
    grow(&p, &d, tree_of(s->trees, which * TREES + t));
    loss[t] = expected(loss, grown(s->count));
  }
  s->count[1]++;
}

/* sizes: P F G M seed; arrays: State in its order, plain [K, P], x [K, F], used [K, 2] (value and residual as they count,
   NaN = none), now [K, 4] (mean, deviation, residual scale, base), said [K, M] (four members are filled). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t P = sizes[0], F = sizes[1], G = sizes[2], M = sizes[3];
  uint64_t seed = (uint64_t)sizes[4];
  State s = {P, F, G, a[0], a[1], a[2], {a[3], a[4], a[5]}, a[6], a[7]};
  const double *plain = a[8], *x = a[9], *used = a[10], *now = a[11];
  double *said = a[12];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) {
      double *to = said + r * M, base = now[4 * r + 3];
      serve(&s, 0, plain + r * P, x + r * F, to, to + 1);
      serve(&s, 1, plain + r * P, x + r * F, to + 2, to + 3);
      if (!s.count[1]) to[0] = to[1] = now[4 * r];
      to[2] += base, to[3] += base;
    }
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT || !G) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      const double *y = used + 2 * r;
      if (isnan(y[0] + y[1])) continue; /* the first value has no residual */
      for (int64_t t = 0; t < 2 * TREES; t++) {
        if (t % TREES >= grown(s.count)) continue;
        s.loss[t] += LOSS_FADE * (fabs(said_of(&s, t, plain + r * P, x + r * F) - y[t / TREES]) - s.loss[t]);
      }
      int64_t slot = s.count[0]++ % WINDOW;
      keep(s.window + slot * G, plain + r * P, x + r * F, P, F);
      memcpy(s.target + 2 * slot, y, 2 * sizeof(double));
      if (s.count[0] % (s.count[0] < START ? SOON : EVERY) == 0) renew(&s, seed, y);
    }
  }
  leave(mode);
}
