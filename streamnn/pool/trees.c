/* Shared by the forests: a window of labelled events, and trees grown on draws from it.

   Axes: G inputs (plain, then numeric), W window, N draws, M columns that a tree may split by. */

#define EVERY 100 /* labels from one tree to the next, */
#define SOON 10   /* but so many among the first */
#define START 400
#define WINDOW 4000
#define DRAWN 2000
#define LEAF 3 /* draws in a leaf at least */
#define TREES 20
#define NODES (2 * DRAWN / LEAF)
#define COLUMNS 32
#define LOSS_FADE 0.05

typedef struct {
  int64_t drawn, columns; /* N, M */
  const double *window;   /* [W, G] */
  int64_t inputs;         /* G */
  int32_t column[COLUMNS];
  int32_t row[DRAWN];             /* slot of the window that each draw is */
  uint16_t order[COLUMNS][DRAWN]; /* draws by the value of a column */
  uint16_t code[COLUMNS][DRAWN];  /* which of a column's different values a draw has, in ascending order */
} Draws;

typedef struct {
  int32_t *feature; /* [NODES] column by which a node splits, -1 = a leaf */
  double *cut;      /* [NODES] values up to it, and missing ones, go left */
  int32_t *left;    /* [NODES] the left child, the right one is next; of a leaf its first entry */
} Tree;

/* Tree t of those that begin with the first one. */
static inline Tree tree_of(Tree first, int64_t t) {
  Tree tree = {first.feature + t * NODES, first.cut + t * NODES, first.left + t * NODES};
  return tree;
}

/* How many trees there are; count: labels learned, trees grown. */
static inline int64_t grown(const int64_t *count) { return count[1] < TREES ? count[1] : TREES; }

/* How many events the window holds. */
static inline int64_t held(const int64_t *count) { return count[0] < WINDOW ? count[0] : WINDOW; }

/* A new tree is expected to be as good as the others are on average. */
static inline double expected(const double *loss, int64_t trees) {
  double mean = 0.0;
  for (int64_t t = 0; t < trees; t++) mean += loss[t] / trees;
  return mean;
}

typedef struct {
  double score; /* what a split has to exceed */
  int64_t column, at;
} Split;

/* The i-th draw by the first column; any order where no column varies, and a tree is one leaf. */
static inline int64_t first_of(const Draws *d, int64_t i) { return d->columns ? d->order[0][i] : i; }

/* What a part says of its labels: see there. */
typedef struct Part Part;
static void begin(Part *p, const Draws *d, int64_t from, int64_t to, Split *best);
static void search(const Part *p, const Draws *d, int64_t m, int64_t from, int64_t to, Split *best);
static int32_t finish(Part *p);

/* Bits that order as values do, a missing one before all others. */
static inline uint64_t key_of(double x) {
  uint64_t bits;
  if (isnan(x)) return 0;
  bits = (uint64_t)to_bits(x + 0.0); /* -0 is 0 */
  return bits >> 63 ? ~bits : bits | 0x8000000000000000ULL;
}

/* Sort the draws by a column, and number its different values; bytes in which no two keys differ are left out. */
static void sort(Draws *d, int64_t m) {
  int64_t n = d->drawn;
  const double *value = d->window + d->column[m];
  uint64_t keys[2][DRAWN], all = 0, any = ~0ULL;
  uint16_t draws[2][DRAWN];
  int now = 0;
  for (int64_t i = 0; i < n; i++) {
    keys[0][i] = key_of(value[d->row[i] * d->inputs]), draws[0][i] = (uint16_t)i;
    all |= keys[0][i], any &= keys[0][i];
  }
  for (int shift = 0; shift < 64; shift += 8) {
    if (!((all ^ any) >> shift & 255)) continue;
    int32_t first[257] = {0};
    for (int64_t i = 0; i < n; i++) first[(keys[now][i] >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++) first[b + 1] += first[b];
    for (int64_t i = 0; i < n; i++) {
      int32_t at = first[keys[now][i] >> shift & 255]++;
      keys[!now][at] = keys[now][i], draws[!now][at] = draws[now][i];
    }
    now = !now;
  }
  memcpy(d->order[m], draws[now], n * sizeof(uint16_t));
  for (int64_t i = 0, code = 0; i < n; i++) {
    code += i && keys[now][i] != keys[now][i - 1];
    d->code[m][draws[now][i]] = (uint16_t)code;
  }
}

/* List the columns from `first` on in which not all draws are alike, in ascending order: room for inputs that have never come
   must not change a tree. Returns how many there are. */
static int64_t varying(const Draws *d, int64_t first, int64_t room, int32_t *found) {
  int64_t many = 0;
  for (int64_t c = first; c < first + room; c++) {
    uint64_t key = key_of(d->window[d->row[0] * d->inputs + c]);
    int64_t i = 1;
    while (i < d->drawn && key_of(d->window[d->row[i] * d->inputs + c]) == key) i++;
    if (i < d->drawn) found[many++] = (int32_t)c;
  }
  return many;
}

/* Take so many of the columns: a partial shuffle where it is not all of them. */
static void take(Draws *d, int32_t *found, int64_t room, int64_t many, uint64_t seed) {
  for (int64_t i = 0; i < many; i++) {
    int64_t j = many < room ? i + (int64_t)(mix(seed + (uint64_t)i) % (uint64_t)(room - i)) : i;
    d->column[d->columns++] = found[j];
    found[j] = found[i];
  }
}

/* Draw events with replacement from the `stored` of the window, and columns where there is no room for all: half of either
   kind, or more where the other has fewer. */
static void draw(Draws *d, int64_t plain, int64_t numeric, int64_t stored, uint64_t seed) {
  int32_t found[2][plain + numeric];
  d->drawn = stored < DRAWN ? stored : DRAWN, d->columns = 0, d->inputs = plain + numeric;
  for (int64_t i = 0; i < d->drawn; i++) d->row[i] = (int32_t)(mix(mix(seed + 1) + (uint64_t)i) % (uint64_t)stored);
  int64_t half = COLUMNS / 2, a = varying(d, 0, plain, found[0]), b = varying(d, plain, numeric, found[1]), some = a;
  if (a + b > COLUMNS && a >= half) some = b < half ? COLUMNS - b : half;
  take(d, found[0], a, some, mix(seed + 2));
  take(d, found[1], b, b < COLUMNS - some ? b : COLUMNS - some, mix(seed + 3));
  for (int64_t m = 0; m < d->columns; m++) sort(d, m);
}

/* Grow a tree over the draws, depth first, left before right. */
static void grow(Part *p, Draws *d, Tree tree) {
  struct {
    int32_t node, from, to;
  } waiting[NODES], now;
  int64_t many = 1, nodes = 1;
  uint16_t right[DRAWN];
  uint8_t side[DRAWN];
  waiting[0].node = 0, waiting[0].from = 0, waiting[0].to = (int32_t)d->drawn;
  while (many) {
    now = waiting[--many];
    Split best = {0.0, -1, 0};
    begin(p, d, now.from, now.to, &best);
    for (int64_t m = 0; m < d->columns && now.to - now.from >= 2 * LEAF; m++)
      if (d->code[m][d->order[m][now.from]] != d->code[m][d->order[m][now.to - 1]])
        search(p, d, m, now.from, now.to, &best);
    if (best.column < 0) {
      tree.feature[now.node] = -1, tree.left[now.node] = finish(p);
      continue;
    }
    const uint16_t *sorted = d->order[best.column];
    const double *value = d->window + d->column[best.column];
    double low = value[d->row[sorted[best.at - 1]] * d->inputs], high = value[d->row[sorted[best.at]] * d->inputs];
    double cut = isnan(low) ? -INFINITY : low + 0.5 * (high - low);
    for (int64_t i = now.from; i < now.to; i++) side[sorted[i]] = i >= best.at;
    for (int64_t m = 0; m < d->columns; m++) {
      uint16_t *draws = d->order[m];
      int64_t kept = now.from, moved = 0;
      for (int64_t i = now.from; i < now.to; i++) {
        uint16_t draw = draws[i];
        draws[kept] = draw, right[moved] = draw;
        kept += !side[draw], moved += side[draw];
      }
      memcpy(draws + kept, right, moved * sizeof(uint16_t));
    }
    tree.feature[now.node] = d->column[best.column], tree.cut[now.node] = cut < high ? cut : low;
    tree.left[now.node] = (int32_t)nodes;
    waiting[many].node = (int32_t)nodes + 1, waiting[many].from = (int32_t)best.at, waiting[many++].to = now.to;
    waiting[many].node = (int32_t)nodes, waiting[many].from = now.from, waiting[many++].to = (int32_t)best.at;
    nodes += 2;
  }
}

/* A missing flag is 0: whether a category has been met yet must not show. */
static inline double flag(double x) { return isnan(x) ? 0.0 : x; }

/* Keep an event's inputs in a slot of the window. */
static inline void keep(double *slot, const double *plain, const double *numeric, int64_t P, int64_t F) {
  for (int64_t i = 0; i < P; i++) slot[i] = flag(plain[i]);
  memcpy(slot + P, numeric, F * sizeof(double));
}

/* The leaf at which a row ends. */
static inline int64_t leaf_of(Tree tree, const double *plain, const double *numeric, int64_t P) {
  int64_t node = 0;
  for (int64_t f; (f = tree.feature[node]) >= 0;) {
    double v = f < P ? flag(plain[f]) : numeric[f - P];
    node = tree.left[node] + (v > tree.cut[node]);
  }
  return node;
}
