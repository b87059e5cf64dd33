/* Classes by trees that are grown anew from the last events; see forest.py.

   Axes: P plain and F numeric inputs, C class capacity. */

struct Part {
  int64_t C;
  const int32_t *label;   /* [W] classes of the window */
  int32_t *whole;         /* [C] draws of each class in the node in hand */
  int64_t squares;        /* sum of their squares */
  int32_t *class, *times; /* [N] what leaves hold: classes, and how often each */
  int32_t entries;
};

/* Count the classes of a node; a split has to leave them purer than they are: the score is the sum over sides of
   sum_c n_c^2 / n, which is greatest where Gini's impurity is least. */
static void begin(Part *p, const Draws *d, int64_t from, int64_t to, Split *best) {
  memset(p->whole, 0, p->C * sizeof(int32_t));
  for (int64_t i = from; i < to; i++) p->whole[p->label[d->row[first_of(d, i)]]]++;
  p->squares = 0;
  for (int64_t c = 0; c < p->C; c++) p->squares += (int64_t)p->whole[c] * p->whole[c];
  best->score = (double)p->squares / (to - from) + 1e-9;
}

static void search(const Part *p, const Draws *d, int64_t m, int64_t from, int64_t to, Split *best) {
  const uint16_t *order = d->order[m], *code = d->code[m];
  int32_t left[p->C];
  int64_t sum = 0, rest = p->squares;
  memset(left, 0, sizeof left);
  for (int64_t i = from; i < to - LEAF; i++) {
    int32_t c = p->label[d->row[order[i]]], n = left[c]++;
    sum += 2 * n + 1, rest -= 2 * (p->whole[c] - n) - 1;
    if (i < from + LEAF - 1 || code[order[i]] == code[order[i + 1]]) continue;
    double score = (double)sum / (i + 1 - from) + (double)rest / (to - 1 - i);
    if (score > best->score) best->score = score, best->column = m, best->at = i + 1;
  }
}

/* Write what is counted as a leaf; returns its first entry, of which the last has its times negative. */
static int32_t finish(Part *p) {
  int32_t first = p->entries;
  for (int64_t c = 0; c < p->C; c++)
    if (p->whole[c]) p->class[p->entries] = (int32_t)c, p->times[p->entries++] = p->whole[c];
  p->times[p->entries - 1] *= -1;
  return first;
}

#define PRIOR_FADE 0.999
#define SHARP 5.0

typedef struct {
  int64_t P, F, C, G; /* G = P + F, 0 where there is no room for a window */
  int64_t *count;     /* [2] labels learned, trees grown */
  double *window;     /* [W, G] */
  int32_t *label;     /* [W] */
  Tree trees;         /* [TREES, NODES] */
  int32_t *class;     /* [TREES, N] */
  int32_t *times;     /* [TREES, N] */
  double *loss;       /* [TREES] */
  double *totals;     /* [C] */
  int8_t *active;     /* [C] */
} State;

/* The entries of the leaf of tree t at which a row ends; sets how many draws they stand for. */
static int64_t entries_of(const State *s, int64_t t, const double *plain, const double *numeric, double *draws) {
  Tree tree = tree_of(s->trees, t);
  int64_t first = t * DRAWN + tree.left[leaf_of(tree, plain, numeric, s->P)], n = 0;
  for (int64_t e = first;; e++) {
    n += s->times[e] < 0 ? -s->times[e] : s->times[e];
    if (s->times[e] < 0) break;
  }
  *draws = (double)n;
  return first;
}

static void prior_of(const State *s, double *prior) {
  double total = 0.0;
  for (int64_t c = 0; c < s->C; c++) prior[c] = s->active[c] ? s->totals[c] + 0.5 : 0.0, total += prior[c];
  for (int64_t c = 0; c < s->C; c++) prior[c] /= total > 0.0 ? total : 1.0;
}

/* Fill what both members say, [2, C]. */
static void serve(const State *s, const double *plain, const double *numeric, double *to) {
  int64_t C = s->C, trees = grown(s->count);
  double evenly[C], recently[C], sharp = 0.0, least = INFINITY;
  prior_of(s, evenly);
  memcpy(recently, evenly, sizeof evenly);
  for (int64_t t = 0; t < trees; t++)
    if (s->loss[t] < least) least = s->loss[t];
  for (int64_t t = 0; t < trees; t++) {
    double draws, w = exp_of(-SHARP * (s->loss[t] - least));
    int64_t e = entries_of(s, t, plain, numeric, &draws);
    sharp += w;
    for (int more = 1; more; e++) {
      more = s->times[e] >= 0;
      double share = (more ? s->times[e] : -s->times[e]) / draws;
      evenly[s->class[e]] += share, recently[s->class[e]] += w * share;
    }
  }
  for (int64_t c = 0; c < C; c++) {
    to[c] = log_chance(s->active[c], evenly[c] / (1.0 + trees));
    to[C + c] = log_chance(s->active[c], recently[c] / (1.0 + sharp));
  }
}

/* Judge the trees by a label that no tree has seen. */
static void judge(State *s, const double *plain, const double *numeric, int32_t y) {
  double prior[s->C];
  prior_of(s, prior);
  for (int64_t t = 0; t < grown(s->count); t++) {
    double draws, hits = 0.0;
    int64_t e = entries_of(s, t, plain, numeric, &draws);
    for (int more = 1; more; e++) {
      more = s->times[e] >= 0;
      if (s->class[e] == y) hits = more ? s->times[e] : -s->times[e];
    }
    s->loss[t] += LOSS_FADE * (-log_of((hits + prior[y]) / (draws + 1.0)) - s->loss[t]);
  }
}

/* Grow a tree in the place of the oldest. */
static void renew(State *s, uint64_t seed) {
  int64_t t = s->count[1] % TREES;
  int32_t whole[s->C];
  Draws d;
  d.window = s->window;
  draw(&d, s->P, s->F, held(s->count), mix(seed + (uint64_t)s->count[1]));
  Part p = {s->C, s->label, whole, 0, s->class + t * DRAWN, s->times + t * DRAWN, 0};
  grow(&p, &d, tree_of(s->trees, t));
  s->loss[t] = expected(s->loss, grown(s->count));
  s->count[1]++;
}

/* sizes: P F C stride G seed; arrays: count [2], window [W, G], label [W], feature, cut, left [TREES, NODES], class, times
   [TREES, N], loss [TREES], totals [C], active [C], plain [K, P], x [K, F], label [K], logp [K, M, C] (this part fills
   two members). */
void run(int64_t ops, const int8_t *kind, const int64_t *start, const int64_t *stop, const int64_t *sizes, void **a) {
  unsigned mode = enter();
  int64_t P = sizes[0], F = sizes[1], C = sizes[2], stride = sizes[3], G = sizes[4];
  uint64_t seed = (uint64_t)sizes[5];
  State s = {P, F, C, G, a[0], a[1], a[2], {a[3], a[4], a[5]}, a[6], a[7], a[8], a[9], a[10]};
  const double *plain = a[11], *x = a[12];
  const int32_t *label = a[13];
  double *logp = a[14];
  for (int64_t o = 0; o < ops; o++) {
    for (int64_t r = start[o]; r < stop[o] && kind[o] != LEARN; r++) serve(&s, plain + r * P, x + r * F, logp + r * stride);
    if (kind[o] == PREDICT_OBSERVE || kind[o] == PREDICT) continue;
    for (int64_t r = start[o]; r < stop[o]; r++) {
      int32_t y = label[r];
      if (y < 0) continue;
      if (s.active[y]) judge(&s, plain + r * P, x + r * F, y);
      s.active[y] = 1;
      for (int64_t c = 0; c < C; c++) s.totals[c] *= PRIOR_FADE;
      s.totals[y] += 1.0;
      if (!G) continue;
      int64_t slot = s.count[0]++ % WINDOW;
      keep(s.window + slot * G, plain + r * P, x + r * F, P, F);
      s.label[slot] = y;
      if (s.count[0] % (s.count[0] < START ? SOON : EVERY) == 0) renew(&s, seed);
    }
  }
  leave(mode);
}
