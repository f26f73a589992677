/* Gradient of the weight of a convolution from `big` to `small`, any stride: C and D multiples of 32.
 *
 * gradient[d, k, m, c] = sum over images and places (i, j) of small[i, j, d] * big[i * sh + k - ph, j * sw + m - pw, c].
 * Neighbours (j, j + 1) are multiplied as pairs, by which AVX512-BF16 adds two products at once. For each tap, sums of 8 d
 * by 32 c stay in registers over an image, or over several small ones.
 */

#include "convolution.h"

enum { PAIRS = 112 };

/* How many images are multiplied at once, so that sums are worth loading. */
static int images_at_once(const Convolution *v) {
    int pairs_in_image = v->h * ((v->w + 1) / 2);
    return pairs_in_image < PAIRS ? (PAIRS + pairs_in_image - 1) / pairs_in_image : 1;
}

/* Pairs (h, P, D) of an image of `small`. */
static void pack_small(const Convolution *v, const uint16_t *x, uint32_t *to) {
    for (int i = 0; i < v->h; i++)
        for (int j = 0; j < v->w; j += 2, to += v->D) {
            const uint16_t *left = x + ((int64_t)i * v->w + j) * v->D;
            interleave(left, j + 1 < v->w ? left + v->D : 0, to, v->D);
        }
}

/* Pairs (kw, H, P, C) of an image of `big`, as tap m meets them. */
static void pack_big(const Convolution *v, const uint16_t *x, uint32_t *to) {
    for (int m = 0; m < v->kw; m++)
        for (int r = 0; r < v->H; r++)
            for (int j = 0; j < v->w; j += 2, to += v->C) {
                const uint16_t *row = x + (int64_t)r * v->W * v->C;
                int left = v->sw * j + m - v->pw, right = left + v->sw;
                interleave(left >= 0 && left < v->W ? row + (int64_t)left * v->C : 0,
                           j + 1 < v->w && right >= 0 && right < v->W ? row + (int64_t)right * v->C : 0, to, v->C);
            }
}

static void weight_part(const Convolution *v, int part) {
    int C = v->C, D = v->D, h = v->h, P = (v->w + 1) / 2, group = images_at_once(v);
    int64_t count = (int64_t)v->kh * v->kw * C * D, one_small = (int64_t)h * P * D, one_big = (int64_t)v->kw * v->H * P * C;
    float *sums = (float *)(v->scratch + part * v->scratch_bytes);
    int most = C > D ? C : D;
    float *pixels = sums + count; /* sums of an image's channels */
    uint32_t *small = (uint32_t *)(pixels + most), *big = small + group * one_small;
    __builtin_memset(sums, 0, (count + most) * sizeof(float));
    int last_image = first_image(v, part + 1);
    for (int image = first_image(v, part); image < last_image; image += group) {
        int many = last_image - image < group ? last_image - image : group;
        for (int a = 0; a < many; a++) {
            const uint16_t *x = v->small + (int64_t)(image + a) * h * v->w * D;
            const uint16_t *y = v->big + (int64_t)(image + a) * v->H * v->W * C;
            pack_small(v, x, small + a * one_small);
            pack_big(v, y, big + a * one_big);
            if (v->total && v->of_big) add_pixels(y, (int64_t)v->H * v->W, C, pixels);
            if (v->total && !v->of_big) add_pixels(x, (int64_t)h * v->w, D, pixels);
        }
        float *sum = sums;
        for (int k = 0; k < v->kh; k++) {
            int begin = 0, end = h; /* the rows i whose row i * sh + k - ph exists */
            while (begin < h && v->sh * begin + k - v->ph < 0) begin++;
            while (end > begin && v->sh * (end - 1) + k - v->ph >= v->H) end--;
            for (int m = 0; m < v->kw; m++)
                for (int c = 0; c < C; c += 32)
                    for (int d = 0; d < D; d += ROWS, sum += 32 * ROWS) {
                        __m512 low[ROWS], high[ROWS];
#pragma GCC unroll 8
                        for (int t = 0; t < ROWS; t++) low[t] = high[t] = _mm512_setzero_ps();
                        for (int a = 0; a < many; a++)
                            for (int i = begin; i < end; i++) {
                                int64_t row = (int64_t)m * v->H + v->sh * i + k - v->ph;
                                const uint32_t *there = big + a * one_big + row * P * C + c;
                                const uint32_t *here = small + a * one_small + (int64_t)i * P * D + d;
                                for (int p = 0; p < P; p++, there += C, here += D)
                                    add_products(low, high, here, pairs(there), pairs(there + 16));
                            }
#pragma GCC unroll 8
                        for (int t = 0; t < ROWS; t++) add_to(sum + 32 * t, low[t], high[t]);
                    }
        }
    }
}

/* The sums of all parts, in their order: blocks of 32 c lie in the order (tap, c / 32, d). */
static void weight_total(const Convolution *v, int part) {
    int64_t blocks = (int64_t)v->kh * v->kw * v->C / 32 * v->D;
    if (v->total && part == 0)
        for (int c = 0; c < (v->of_big ? v->C : v->D); c++) {
            float sum = 0.0f;
            for (int other = 0; other < v->parts; other++)
                sum += ((float *)(v->scratch + other * v->scratch_bytes))[blocks * 32 + c];
            v->total[c] = sum;
        }
    for (int64_t block = blocks * part / v->parts; block < blocks * (part + 1) / v->parts; block++) {
        __m512 low = _mm512_setzero_ps(), high = low;
        for (int other = 0; other < v->parts; other++) {
            const float *from = (float *)(v->scratch + other * v->scratch_bytes) + block * 32;
            low = _mm512_add_ps(low, _mm512_loadu_ps(from));
            high = _mm512_add_ps(high, _mm512_loadu_ps(from + 16));
        }
        int64_t rest = block / v->D, d = channel_at((int)(block % v->D));
        int64_t c = rest % (v->C / 32) * 32, tap = rest / (v->C / 32);
        store_in_order(v->gradient + (d * v->kh * v->kw + tap) * v->C + c, low, high);
    }
}

int64_t weight_gradient_scratch(const Convolution *v) {
    int64_t pairs_in_row = (v->w + 1) / 2, count = (int64_t)v->kh * v->kw * v->C * v->D;
    int64_t one_image = v->h * pairs_in_row * v->D + v->kw * v->H * pairs_in_row * v->C;
    return 4 * (count + (v->C > v->D ? v->C : v->D) + images_at_once(v) * one_image);
}

void weight_gradient(const Convolution *v, Parallel parallel) {
    run(parallel, weight_part, v);
    run(parallel, weight_total, v);
}
