/* From `small` back to `big`: a transposed convolution, or the gradient of what a convolution reads; any stride.
 *
 * result[r, q, c] = sum over d and the taps with i * sh + k - ph = r, j * sw + m - pw = q of small[i, j, d] * weight[d, k, m, c],
 * plus the bias; C and D multiples of 32. Pixels of one row that are sw apart meet the same taps: up to 8 of them by 32 c stay
 * in registers over all taps and d. Neighbours (d, d + 1) are multiplied as pairs.
 */

#include "convolution.h"

/* Scratch, zero at first: weights as pairs (kh, kw, C / 32, D / 2, 32); an image of `small` with kw zeros left and right. */
static void transposed_part(const Convolution *v, int part) {
    int H = v->H, W = v->W, C = v->C, h = v->h, w = v->w, D = v->D, kh = v->kh, kw = v->kw, wide = w + 2 * kw + PIXELS;
    uint16_t *weights = (uint16_t *)(v->scratch + part * v->scratch_bytes);
    uint16_t *padded = weights + (int64_t)kh * kw * C * D;
    uint16_t *to = weights;
    for (int tap = 0; tap < kh * kw; tap++)
        for (int c = 0; c < C; c += 32)
            for (int d = 0; d < D; d += 2, to += 64) {
                const uint16_t *from = v->weight + ((int64_t)d * kh * kw + tap) * C + c;
                __m512i a = _mm512_loadu_si512(from), b = _mm512_loadu_si512(from + (int64_t)kh * kw * C);
                store_in_order((float *)to, (__m512)_mm512_unpacklo_epi16(a, b), (__m512)_mm512_unpackhi_epi16(a, b));
            }
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        const uint16_t *x = v->small + (int64_t)image * h * w * D;
        for (int i = 0; i < h; i++)
            __builtin_memcpy(padded + ((int64_t)i * wide + kw) * D, x + (int64_t)i * w * D, 2 * (int64_t)w * D);
        for (int r = 0; r < H; r++)
            for (int phase = 0; phase < v->sw && phase < W; phase++) {
                int pixels = (W - phase + v->sw - 1) / v->sw, tiles = (pixels + PIXELS - 1) / PIXELS;
                for (int c = 0; c < C; c += 32)
                    for (int number = 0; number < tiles; number++) {
                        int begin = pixels * number / tiles, many = pixels * (number + 1) / tiles - begin, count = 0;
                        int q = phase + begin * v->sw;
                        Tap taps[kh * kw];
                        for (int k = (r + v->ph) % v->sh; k < kh; k += v->sh) {
                            int i = (r + v->ph - k) / v->sh;
                            if (r + v->ph < k || i >= h) continue; /* no such row */
                            for (int m = (q + v->pw) % v->sw; m < kw; m += v->sw) {
                                int j = (q + v->pw - m) / v->sw; /* exactly; from -kw + 1 on */
                                if (j >= w + kw) continue;
                                taps[count].pixel = padded + ((int64_t)i * wide + j + kw) * D;
                                taps[count++].weight = weights + ((int64_t)(k * kw + m) * C + c) * D;
                            }
                        }
                        __m512 sums[PIXELS][2];
                        tile_of(many, taps, count, D, v->bias ? v->bias + c : 0, sums);
                        for (int t = 0; t < many; t++) {
                            int64_t at = (((int64_t)image * H + r) * W + q + t * v->sw) * C + c;
                            put(v, at, sums[t][0], sums[t][1]);
                        }
                    }
            }
    }
}

int64_t transposed_convolution_scratch(const Convolution *v) {
    int64_t padded = (int64_t)v->h * (v->w + 2 * v->kw + PIXELS) * v->D;
    return 2 * ((int64_t)v->kh * v->kw * v->C * v->D + padded);
}

void transposed_convolution(const Convolution *v, Parallel parallel) { run(parallel, transposed_part, v); }
