/* Convolutions from `big` to few channels D of `small`, with stride 1: C a multiple of 32. */

#include "convolution.h"

/* Sum of the 16 numbers of each of four vectors. */
static __m128 sums_of(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512 all = _mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)ab, (__m512d)cd),
                               (__m512)_mm512_unpackhi_pd((__m512d)ab, (__m512d)cd));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

static uint16_t rounded(float value) {
    return (uint16_t)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set1_ps(value)), 0);
}

/* Scratch, zero at first: an image with its padding, and places for what four neighbours read beyond the last. */
static void few_outputs_forward_part(const Convolution *v, int part) {
    int C = v->C, wide = v->W + 2 * v->pw;
    uint16_t *padded = (uint16_t *)(v->scratch + part * v->scratch_bytes);
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        const uint16_t *x = v->big + (int64_t)image * v->H * v->W * C;
        uint16_t *y = v->result + (int64_t)image * v->h * v->w * v->D;
        for (int r = 0; r < v->H; r++)
            __builtin_memcpy(padded + ((int64_t)(r + v->ph) * wide + v->pw) * C, x + (int64_t)r * v->W * C, 2 * v->W * C);
        for (int i = 0; i < v->h; i++)
            for (int j = 0; j < v->w; j += 4)
                for (int d = 0; d < v->D; d++) {
                    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
                    const uint16_t *tap = v->weight + (int64_t)d * v->kh * v->kw * C;
                    for (int k = 0; k < v->kh; k++)
                        for (int m = 0; m < v->kw; m++) {
                            const uint16_t *there = padded + ((int64_t)(i + k) * wide + j + m) * C;
                            for (int c = 0; c < C; c += 32, tap += 32) {
                                __m512bh with = pairs(tap);
#pragma GCC unroll 4
                                for (int t = 0; t < 4; t++)
                                    sum[t] = _mm512_dpbf16_ps(sum[t], pairs(there + t * C + c), with);
                            }
                        }
                    float four[4];
                    _mm_storeu_ps(four, sums_of(sum[0], sum[1], sum[2], sum[3]));
                    for (int t = 0; t < 4 && j + t < v->w; t++)
                        y[((int64_t)i * v->w + j + t) * v->D + d] = rounded(four[t] + (v->bias ? v->bias[d] : 0.0f));
                }
    }
}

int64_t few_outputs_forward_scratch(const Convolution *v) {
    return 2 * ((int64_t)(v->H + 2 * v->ph) * (v->W + 2 * v->pw) + 4) * v->C;
}

void few_outputs_forward(const Convolution *v, Parallel parallel) { run(parallel, few_outputs_forward_part, v); }

/* Both gradients in one pass: big is read once for its zeros and once for the weight.
 *
 * Scratch of a part, zero at first: gradient of the weight (D, kh, kw, C) in the order of `interleave`; weights as pairs of
 * the taps (m + 1, m), (D, kh, (kw + 1) / 2, C); the gradient of `small` as D planes with kh - 1 rows and kw columns around.
 */
static void few_outputs_backward_part(const Convolution *v, int part) {
    int H = v->H, W = v->W, C = v->C, D = v->D, kh = v->kh, kw = v->kw, Q = (kw + 1) / 2;
    int high = v->h + 2 * kh, wide = v->w + 2 * kw + 2;
    float *sums = (float *)(v->scratch + part * v->scratch_bytes);
    uint16_t *taps = (uint16_t *)(sums + (int64_t)D * kh * kw * C);
    uint16_t *planes = taps + 2 * (int64_t)D * kh * Q * C;
    for (int row = 0; row < D * kh; row++)
        for (int m = 0; m < kw; m++)
            for (int c = 0; c < C; c++)
                taps[2 * (((int64_t)row * Q + m / 2) * C + c) + 1 - m % 2] = v->weight[((int64_t)row * kw + m) * C + c];
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        const uint16_t *x = v->big + (int64_t)image * H * W * C, *g = v->small + (int64_t)image * v->h * v->w * D;
        for (int d = 0; d < D; d++)
            for (int i = 0; i < v->h; i++)
                for (int j = 0; j < v->w; j++)
                    planes[((int64_t)d * high + i + kh) * wide + j + kw] = g[((int64_t)i * v->w + j) * D + d];
        for (int r = 0; r < H; r++) {
            const uint16_t *row = x + (int64_t)r * W * C;
            /* here[d, k] + q - m: the gradient of the place that reads pixel (r, q) through tap (k, m) */
            const uint16_t *here = planes + (int64_t)(r + v->ph + kh) * wide + v->pw + kw;
            if (v->result) {
                uint16_t *to = v->result + ((int64_t)image * H + r) * W * C;
                for (int q = 0; q < W; q++)
                    for (int c = 0; c < C; c += 32) {
                        __m512 front = _mm512_setzero_ps(), back = front;
                        const uint16_t *tap = taps + 2 * c;
                        for (int d = 0; d < D; d++)
                            for (int k = 0; k < kh; k++)
                                for (int m = 0; m < kw; m += 2, tap += 2 * C) {
                                    __m512bh both = pair_of(here + ((int64_t)d * high - k) * wide + q - m - 1);
                                    front = _mm512_dpbf16_ps(front, pairs(tap), both);
                                    back = _mm512_dpbf16_ps(back, pairs(tap + 32), both);
                                }
                        __m512i found = (__m512i)_mm512_cvtne2ps_pbh(back, front);
                        __mmask32 kept = 0xffffffff;
                        if (v->masked)
                            kept = _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(row + (int64_t)q * C + c),
                                                           _mm512_setzero_si512());
                        _mm512_storeu_si512(to + (int64_t)q * C + c, _mm512_maskz_mov_epi16(kept, found));
                    }
            }
            if (!v->gradient) continue;
            for (int c = 0; c < C; c += 32)
                for (int d = 0; d < D; d++)
                    for (int k = 0; k < kh; k++)
                        for (int m = 0; m < kw; m += 4) {
                            int many = kw - m < 4 ? kw - m : 4;
                            float *sum = sums + (((int64_t)d * kh + k) * kw + m) * C + c;
                            const uint16_t *with = here + ((int64_t)d * high - k) * wide - m;
                            __m512 low[4], top[4];
                            for (int t = 0; t < 4; t++) low[t] = top[t] = _mm512_setzero_ps();
                            for (int q = 0; q < W; q += 2) {
                                const uint16_t *left = row + (int64_t)q * C + c;
                                __m512i a = _mm512_loadu_si512(left), b = _mm512_setzero_si512();
                                if (q + 1 < W) b = _mm512_loadu_si512(left + C);
                                __m512bh front = (__m512bh)_mm512_unpacklo_epi16(a, b);
                                __m512bh back = (__m512bh)_mm512_unpackhi_epi16(a, b);
#pragma GCC unroll 4
                                for (int t = 0; t < 4; t++) {
                                    __m512bh both = pair_of(with + q - t);
                                    low[t] = _mm512_dpbf16_ps(low[t], front, both);
                                    top[t] = _mm512_dpbf16_ps(top[t], back, both);
                                }
                            }
                            for (int t = 0; t < many; t++) add_to(sum + (int64_t)t * C, low[t], top[t]);
                        }
        }
    }
}

static void few_outputs_total(const Convolution *v) {
    int64_t count = (int64_t)v->D * v->kh * v->kw * v->C;
    for (int64_t at = 0; at < count; at += 32) {
        __m512 low = _mm512_setzero_ps(), high = low;
        for (int other = 0; other < v->parts; other++) {
            const float *from = (float *)(v->scratch + other * v->scratch_bytes) + at;
            low = _mm512_add_ps(low, _mm512_loadu_ps(from));
            high = _mm512_add_ps(high, _mm512_loadu_ps(from + 16));
        }
        store_in_order(v->gradient + at, low, high);
    }
}

int64_t few_outputs_backward_scratch(const Convolution *v) {
    int64_t taps = (int64_t)v->D * v->kh * v->C;
    int64_t planes = (int64_t)v->D * (v->h + 2 * v->kh) * (v->w + 2 * v->kw + 2);
    return (4 * taps * v->kw + 4 * taps * ((v->kw + 1) / 2) + 2 * planes + 63) / 64 * 64;
}

void few_outputs_backward(const Convolution *v, Parallel parallel) {
    run(parallel, few_outputs_backward_part, v);
    if (v->gradient) few_outputs_total(v);
}
