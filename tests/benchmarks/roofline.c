/* What one core can do, each loop for one limit; see roofline.py.

   All arithmetic is in single precision, in vectors as wide as the processor has, in chains that do not wait for each other:
   twelve, where a product and a sum take four cycles and two can begin in each. */

#include <math.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / 4)
#define CHAINS 12

typedef float vector __attribute__((vector_size(BYTES)));

#define EACH for (int k = 0; k < CHAINS; k++)

static float total(const vector *a) {
  float sum = 0;
  EACH for (int i = 0; i < LANES; i++) sum += a[k][i];
  return sum;
}

int64_t lanes(void) { return CHAINS * LANES; }

/* n times a product and a sum in each lane of each chain */
float multiply_add(int64_t n, float x, float y) {
  vector a[CHAINS];
  EACH a[k] = x - (vector){0};
  for (int64_t i = 0; i < n; i++) EACH a[k] = a[k] * x + y;
  return total(a);
}

/* n times a root and a division in each lane of each chain */
float root_divide(int64_t n, float x, float y) {
  vector a[CHAINS];
  EACH a[k] = x - (vector){0};
  for (int64_t i = 0; i < n; i++) EACH {
      vector root;
      for (int j = 0; j < LANES; j++) root[j] = sqrtf(a[k][j]);
      a[k] = y / (root + y);
    }
  return total(a);
}

/* read [n] floats so many times, n a multiple of `lanes` */
float reading(int64_t times, int64_t n, const vector *p) {
  vector a[CHAINS];
  EACH a[k] = (vector){0};
  for (int64_t t = 0; t < times; t++) {
    for (int64_t i = 0; i < n / LANES; i += CHAINS) EACH a[k] += p[i + k];
    __asm__ volatile("" ::: "memory"); /* each time anew */
  }
  return total(a);
}

/* read them and write them where they were */
void rewriting(int64_t times, int64_t n, vector *p, float x, float y) {
  for (int64_t t = 0; t < times; t++) {
    for (int64_t i = 0; i < n / LANES; i += CHAINS) EACH p[i + k] = p[i + k] * x + y;
    __asm__ volatile("" ::: "memory");
  }
}
