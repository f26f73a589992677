/* Convolutions from few channels C of `big`, any stride: D a multiple of 32.
 *
 * What a place of `small` reads, kh * kw * C numbers, is laid out as a row, with zeros to an even number or one of eight.
 */

#include "convolution.h"

static int reads(const Convolution *v) { return v->kh * v->kw * v->C; }
static int in_pairs(const Convolution *v) { return (reads(v) + 1) / 2 * 2; }
static int in_eights(const Convolution *v) { return (reads(v) + ROWS - 1) / ROWS * ROWS; }

static int64_t reached(int size, int small, int kernel, int stride, int padding) {
    int64_t last = (int64_t)(small - 1) * stride + kernel;
    return last > size + padding ? last : size + padding;
}

static int64_t padded_size(const Convolution *v) {
    return reached(v->H, v->h, v->kh, v->sh, v->ph) * reached(v->W, v->w, v->kw, v->sw, v->pw) * v->C;
}

/* Rows (h * w, length) of an image; `padded` and what lies behind the numbers of a row are zero. */
static void lay_out(const Convolution *v, int image, uint16_t *padded, uint16_t *rows, int length) {
    int64_t wide = reached(v->W, v->w, v->kw, v->sw, v->pw), segment = (int64_t)v->kw * v->C;
    const uint16_t *x = v->big + (int64_t)image * v->H * v->W * v->C;
    for (int r = 0; r < v->H; r++)
        __builtin_memcpy(padded + ((r + v->ph) * wide + v->pw) * v->C, x + (int64_t)r * v->W * v->C, 2 * v->W * v->C);
    for (int i = 0; i < v->h; i++)
        for (int j = 0; j < v->w; j++, rows += length) {
            const uint16_t *from = padded + ((int64_t)i * v->sh * wide + (int64_t)j * v->sw) * v->C;
            for (int k = 0; k < v->kh; k++)
                for (int64_t at = 0; at < segment; at++) rows[k * segment + at] = from[k * wide * v->C + at];
        }
}

/* Scratch, zero at first: weights as pairs (D / 32, reads / 2, 32), a padded image, its rows. */
static void few_inputs_forward_part(const Convolution *v, int part) {
    int D = v->D, numbers = reads(v), length = in_pairs(v), places = v->h * v->w;
    uint16_t *weights = (uint16_t *)(v->scratch + part * v->scratch_bytes);
    uint16_t *padded = weights + (int64_t)D * length, *rows = padded + padded_size(v);
    for (int d = 0; d < D; d++)
        for (int at = 0; at < numbers; at++)
            weights[((int64_t)d / 32 * length / 2 + at / 2) * 64 + d % 32 * 2 + at % 2] = v->weight[(int64_t)d * numbers + at];
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        lay_out(v, image, padded, rows, length);
        for (int place = 0; place < places; place += PIXELS)
            for (int d = 0; d < D; d += 32) {
                int many = places - place < PIXELS ? places - place : PIXELS;
                Tap tap = {rows + (int64_t)place * length, weights + (int64_t)d * length};
                __m512 sums[PIXELS][2];
                tile_of(many, &tap, 1, length, v->bias ? v->bias + d : 0, sums);
                for (int t = 0; t < many; t++)
                    put(v, ((int64_t)image * places + place + t) * D + d, sums[t][0], sums[t][1]);
            }
    }
}

int64_t few_inputs_forward_scratch(const Convolution *v) {
    return 2 * ((int64_t)(v->D + v->h * v->w) * in_pairs(v) + padded_size(v));
}

void few_inputs_forward(const Convolution *v, Parallel parallel) { run(parallel, few_inputs_forward_part, v); }

/* Scratch, zero at first: sums (D / 32, reads in eights, 32) in the order of `interleave`, sums of channels (D), a padded image,
 * its rows, and pairs of them. */
static void few_inputs_gradient_part(const Convolution *v, int part) {
    int D = v->D, length = in_eights(v), places = v->h * v->w;
    float *sums = (float *)(v->scratch + part * v->scratch_bytes), *total = sums + (int64_t)D * length;
    uint32_t *both = (uint32_t *)(total + D);
    uint16_t *padded = (uint16_t *)(both + (int64_t)(places + 1) / 2 * length), *rows = padded + padded_size(v);
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        const uint16_t *g = v->small + (int64_t)image * places * D;
        lay_out(v, image, padded, rows, length);
        for (int place = 0; place < places; place += 2)
            for (int at = 0; at < length; at++) {
                const uint16_t *row = rows + (int64_t)place * length + at;
                both[(int64_t)place / 2 * length + at] = row[0] | (place + 1 < places ? (uint32_t)row[length] << 16 : 0);
            }
        if (v->total) add_pixels(g, places, D, total);
        for (int d = 0; d < D; d += 32)
            for (int at = 0; at < length; at += ROWS) {
                float *sum = sums + ((int64_t)d * length + (int64_t)at * 32);
                __m512 low[ROWS], high[ROWS];
#pragma GCC unroll 8
                for (int t = 0; t < ROWS; t++) low[t] = high[t] = _mm512_setzero_ps();
                const uint32_t *here = both + at;
                for (int place = 0; place < places; place += 2, here += length) {
                    const uint16_t *left = g + (int64_t)place * D + d;
                    __m512i a = _mm512_loadu_si512(left), b = _mm512_setzero_si512();
                    if (place + 1 < places) b = _mm512_loadu_si512(left + D);
                    __m512bh front = (__m512bh)_mm512_unpacklo_epi16(a, b), back = (__m512bh)_mm512_unpackhi_epi16(a, b);
                    add_products(low, high, here, front, back);
                }
#pragma GCC unroll 8
                for (int t = 0; t < ROWS; t++) add_to(sum + 32 * t, low[t], high[t]);
            }
    }
}

int64_t few_inputs_gradient_scratch(const Convolution *v) {
    int64_t length = in_eights(v), places = (int64_t)v->h * v->w;
    return 4 * (v->D * length + v->D + (places + 1) / 2 * length) + 2 * (padded_size(v) + places * length);
}

void few_inputs_gradient(const Convolution *v, Parallel parallel) {
    run(parallel, few_inputs_gradient_part, v);
    int numbers = reads(v), length = in_eights(v);
    for (int d = 0; d < v->D; d++) {
        int position = position_of(d);
        for (int at = 0; at <= numbers; at++) { /* the last is the total */
            float sum = 0.0f;
            for (int part = 0; part < v->parts; part++) {
                const float *sums = (float *)(v->scratch + part * v->scratch_bytes);
                const float *block = sums + (int64_t)(d - d % 32) * length + (int64_t)at * 32 + position;
                sum += at < numbers ? *block : sums[(int64_t)v->D * length + d];
            }
            if (at < numbers) v->gradient[(int64_t)d * numbers + at] = sum;
            else if (v->total) v->total[d] = sum;
        }
    }
}
