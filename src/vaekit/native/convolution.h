/* What the kernels of convolutions share: bf16 images in channels-last memory, for CPUs with AVX512-BF16.
 *
 * Images are (image, row, column, channel); numbers of channels that are read in vectors are multiples of 32. Every sum is
 * made in float32 and in an order that follows from the sizes and the number of parts alone, so the same inputs give the
 * same bits.
 */

#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "parallel.h"

typedef struct {
    const uint16_t *big, *small; /* (n, H, W, C) and (n, h, w, D) */
    const uint16_t *weight;      /* (D, kh, kw, C) */
    const float *bias;           /* of the channels of the result, or null */
    uint16_t *result;            /* of the forward pass or of the gradient of `big`, or null */
    float *gradient;             /* (D, kh, kw, C), of `weight`, or null */
    float *total;                /* sums of an image's channels over all pixels: the gradient of a bias, or null */
    char *scratch;               /* scratch_bytes for each part, set to zero where a function says so */
    int n, H, W, C, h, w, D, kh, kw, sh, sw, ph, pw;
    int masked; /* whether the gradient of `big` is 0 where `big` is not positive */
    int relu;   /* whether a ReLU follows */
    int of_big; /* whether `total` is of `big`, else of `small` */
    int parts;
    int64_t scratch_bytes;
} Convolution;

typedef void (*Body)(const Convolution *, int part);
typedef struct {
    const Convolution *what;
    Body body;
    int next;
} Job;

static inline void work(void *data) {
    Job *job = data;
    for (;;) {
        int part = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (part >= job->what->parts) return;
        job->body(job->what, part);
    }
}

static inline void run(Parallel parallel, Body body, const Convolution *what) {
    Job job = {what, body, 0};
    in_parallel(parallel, work, &job, what->parts);
}

static inline int first_image(const Convolution *v, int part) { return (int)((int64_t)v->n * part / v->parts); }

static inline __m512bh pairs(const void *from) { return (__m512bh)_mm512_loadu_si512(from); }

static inline __m512bh pair_of(const void *from) {
    int32_t both;
    __builtin_memcpy(&both, from, 4);
    return (__m512bh)_mm512_set1_epi32(both);
}

/* Pairs (a[c], b[c]) of every channel c, in the order of `channel_at`; null stands for zeros. */
static inline void interleave(const uint16_t *a, const uint16_t *b, uint32_t *to, int channels) {
    const __m512i zero = _mm512_setzero_si512();
    for (int c = 0; c < channels; c += 32) {
        __m512i x = a ? _mm512_loadu_si512(a + c) : zero, y = b ? _mm512_loadu_si512(b + c) : zero;
        _mm512_storeu_si512(to + c, _mm512_unpacklo_epi16(x, y));
        _mm512_storeu_si512(to + c + 16, _mm512_unpackhi_epi16(x, y));
    }
}

/* The channel whose pair `interleave` puts at a position: within 32, vectors of 16 hold four of every eight channels. */
static inline int channel_at(int position) {
    int within = position % 32, high = within / 16, place = within % 16;
    return position - within + place / 4 * 8 + high * 4 + place % 4;
}

/* Within 32, the position of a channel: the inverse of `channel_at`. */
static inline int position_of(int channel) {
    int within = channel % 32;
    return within / 4 % 2 * 16 + within / 8 * 4 + within % 4;
}

/* 32 sums in the order of `interleave`, stored in that of the channels. */
static inline void store_in_order(float *to, __m512 low, __m512 high) {
    const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    _mm512_storeu_ps(to, _mm512_permutex2var_ps(low, front, high));
    _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(low, back, high));
}

/* Sums of an image, or of a row, are added to those before them as a whole: so no small number is added to a large one. */
static inline void add_to(float *sums, __m512 low, __m512 high) {
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), low));
    _mm512_storeu_ps(sums + 16, _mm512_add_ps(_mm512_loadu_ps(sums + 16), high));
}

enum { ROWS = 8 }; /* rows of sums that stay in registers */

/* Adds to 8 rows of 32 sums the products of their pairs `rows` with the pairs of 32 columns, `front` and `back`. */
static inline __attribute__((always_inline)) void add_products(__m512 *low, __m512 *high, const uint32_t *rows, __m512bh front,
                                                               __m512bh back) {
#pragma GCC unroll 8
    for (int t = 0; t < ROWS; t++) {
        __m512bh one = pair_of(rows + t);
        low[t] = _mm512_dpbf16_ps(low[t], front, one);
        high[t] = _mm512_dpbf16_ps(high[t], back, one);
    }
}

/* Adds the pixels (count, channels) of an image to `sums`. */
static inline void add_pixels(const uint16_t *x, int64_t count, int channels, float *sums) {
    for (int c = 0; c < channels; c += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t p = 0; p < count; p++) {
            __m256i half = _mm256_loadu_si256((const __m256i *)(x + p * channels + c));
            sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
        }
        _mm512_storeu_ps(sums + c, _mm512_add_ps(_mm512_loadu_ps(sums + c), sum));
    }
}

enum { PIXELS = 8 };

typedef struct {
    const uint16_t *pixel; /* of padded `small`: what the first pixel meets through a tap */
    const uint16_t *weight; /* pairs (D / 2, 32) */
} Tap;

/* Sums of the first `many` pixels of a tile; `many` is known where this is inlined. */
static inline __attribute__((always_inline)) void tile(const int many, const Tap *taps, int count, int D, const float *bias,
                                                       __m512 (*sums)[2]) {
    __m512 front = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
    __m512 back = bias ? _mm512_loadu_ps(bias + 16) : _mm512_setzero_ps();
    __m512 low[PIXELS], high[PIXELS];
#pragma GCC unroll 8
    for (int t = 0; t < many; t++) low[t] = front, high[t] = back;
    for (int at = 0; at < count; at++) {
        const uint16_t *pixel = taps[at].pixel, *weight = taps[at].weight;
        for (int d = 0; d < D; d += 2, pixel += 2, weight += 64) {
            __m512bh first = pairs(weight), second = pairs(weight + 32);
#pragma GCC unroll 8
            for (int t = 0; t < many; t++) {
                __m512bh both = pair_of(pixel + (int64_t)t * D);
                low[t] = _mm512_dpbf16_ps(low[t], first, both);
                high[t] = _mm512_dpbf16_ps(high[t], second, both);
            }
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < many; t++) sums[t][0] = low[t], sums[t][1] = high[t];
}

/* `tile` for any `many` from 1 to 8; bias (32) may be null. */
static inline void tile_of(int many, const Tap *taps, int count, int D, const float *bias, __m512 (*sums)[2]) {
    switch (many) {
    case 1: tile(1, taps, count, D, bias, sums); break;
    case 2: tile(2, taps, count, D, bias, sums); break;
    case 3: tile(3, taps, count, D, bias, sums); break;
    case 4: tile(4, taps, count, D, bias, sums); break;
    case 5: tile(5, taps, count, D, bias, sums); break;
    case 6: tile(6, taps, count, D, bias, sums); break;
    case 7: tile(7, taps, count, D, bias, sums); break;
    default: tile(8, taps, count, D, bias, sums);
    }
}

/* Rounds 32 sums to bf16 and stores them in the result, with zeros where the ReLU or the mask has them. */
static inline void put(const Convolution *v, int64_t at, __m512 low, __m512 high) {
    __m512i found = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    __mmask32 kept = 0xffffffff;
    if (v->relu) kept = _mm512_cmpgt_epi16_mask(found, _mm512_set1_epi16(-128)); /* and NaN */
    if (v->masked) kept = _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(v->big + at), _mm512_setzero_si512());
    _mm512_storeu_si512(v->result + at, _mm512_maskz_mov_epi16(kept, found));
}
