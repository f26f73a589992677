/* Random words: SplitMix64's finalizer on a counter at each level, as in noise.py, to the bit. */

#include <stdint.h>

#include "parallel.h"

typedef struct {
    const int64_t *index, *key; /* (images), (1) */
    int64_t *words;             /* (samples, images, count) */
    int64_t purpose, first, samples, images, count;
    int parts, next;
} Words;

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static void words_work(void *data) {
    Words *v = data;
    const uint64_t step = 0x9E3779B97F4A7C15u;
    for (;;) {
        int part = __atomic_fetch_add(&v->next, 1, __ATOMIC_RELAXED);
        if (part >= v->parts) return;
        int64_t rows = v->samples * v->images;
        for (int64_t row = rows * part / v->parts; row < rows * (part + 1) / v->parts; row++) {
            uint64_t image = mixed((uint64_t)v->index[row % v->images] * step + (uint64_t)(*v->key ^ v->purpose));
            uint64_t sample = mixed(image + (uint64_t)(v->first + 1 + row / v->images) * step);
            uint64_t *to = (uint64_t *)v->words + row * v->count;
            for (int64_t place = 0; place < v->count; place++) to[place] = mixed(sample + (uint64_t)(place + 1) * step);
        }
    }
}

void words(Words *v, Parallel parallel) {
    v->next = 0;
    in_parallel(parallel, words_work, v, v->parts);
}
