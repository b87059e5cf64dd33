/* Which past events are learned again: draws keyed by (seed, event number), so that they do not depend on chunks.

   A draw is the row of the chunk (>= 0), a slot of the store (-1 - slot), or INT32_MIN for none. */

static inline uint64_t draw(uint64_t seed, int64_t number, int64_t i) {
  return mix(mix(seed + (uint64_t)number * 0x632be59bd9b4e019ULL) + (uint64_t)i);
}

/* Slot that the event learned as number n (from 0) takes in a uniform sample of `room` of all the past, or -1. */
static inline int64_t place(uint64_t seed, int64_t number, int64_t n, int64_t room) {
  if (n < room) return n;
  int64_t at = (int64_t)(draw(seed, number, 1 << 20) % (uint64_t)(n + 1));
  return at < room ? at : -1;
}

/* Draw `again` rows for each row that is learned. window: the last so many events; 0: the sample of all the past. */
void choose(int64_t rows, const int32_t *order, const int64_t *number, int64_t learned, int64_t again, int64_t window,
            int64_t room, uint64_t seed, uint64_t sample_seed, int32_t *where, int32_t *out) {
  /* order[i]: the chunk's row that is learned as the i-th; where: [room] row that lies in a slot now, -1 = the store's */
  for (int64_t i = 0; i < rows; i++) {
    int64_t r = order[i], count = learned + i;
    for (int64_t j = 0; j < again; j++) {
      int32_t *to = out + r * again + j;
      uint64_t u = draw(seed, number[r], j);
      if (!count) {
        *to = INT32_MIN;
      } else if (window) {
        int64_t back = 1 + (int64_t)(u % (uint64_t)(count < window ? count : window)), at = count - back;
        *to = at >= learned ? order[at - learned] : (int32_t)(-1 - at % room);
      } else {
        int64_t slot = (int64_t)(u % (uint64_t)(count < room ? count : room));
        *to = where[slot] >= 0 ? where[slot] : (int32_t)(-1 - slot);
      }
    }
    if (!window) {
      int64_t slot = place(sample_seed, number[r], count, room);
      if (slot >= 0) where[slot] = (int32_t)r;
    }
  }
}
