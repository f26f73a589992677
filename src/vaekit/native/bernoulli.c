/* Bernoulli pixels on logits, float32. Rows of logits are (samples * images), and the target has a row an image.
 *
 * log p = sum over pixels of target * logit - log(1 + exp(logit)), and log(1 + exp(l)) = max(l, 0) + log(1 + exp(-|l|)).
 * The last logarithms are those of one product for each of 16 lanes; every factor lies in (1, 2], so 96 of them fit.
 */

#include <immintrin.h>
#include <stdint.h>

#include "parallel.h"

typedef struct {
    const float *logits, *target; /* (rows, pixels) and (images, pixels) */
    const float *upstream;        /* (rows): gradient of log_prob */
    float *log_prob, *gradient;   /* (rows) and (rows, pixels); one of them */
    int64_t rows, images, pixels;
    int parts, next;
} Bernoulli;

/* exp(x) for x <= 0, to 1 part in 10^7; NaN stays NaN. */
static __m512 exponential(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* log(x) for 1 <= x < infinity; NaN stays NaN. */
static __m512 logarithm(__m512 x) {
    __m512 m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src), one = _mm512_set1_ps(1.0f);
    __m512 k = _mm512_getexp_ps(_mm512_div_ps(x, m)); /* the division is exact */
    __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one)), square = _mm512_mul_ps(s, s);
    __m512 p = _mm512_set1_ps(2.0f / 11.0f);
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 9.0f));
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 7.0f));
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 5.0f));
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f / 3.0f));
    p = _mm512_fmadd_ps(p, square, _mm512_set1_ps(2.0f));
    return _mm512_fmadd_ps(k, _mm512_set1_ps(0.693147181f), _mm512_mul_ps(p, s));
}

static __m512 opposite_of_size(__m512 x) { return _mm512_or_ps(x, _mm512_set1_ps(-0.0f)); } /* -|x| */

static __mmask16 lanes(int64_t left) { return left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff; }

static void bernoulli_rows(const Bernoulli *v, int64_t begin, int64_t end) {
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
    for (int64_t row = begin; row < end; row++) {
        const float *l = v->logits + row * v->pixels, *x = v->target + row % v->images * v->pixels;
        if (v->log_prob) {
            __m512 total = zero, sum = zero, product = one;
            for (int64_t p = 0; p < v->pixels; p += 16) {
                __mmask16 kept = lanes(v->pixels - p);
                __m512 logit = _mm512_maskz_loadu_ps(kept, l + p), target = _mm512_maskz_loadu_ps(kept, x + p);
                sum = _mm512_add_ps(sum, _mm512_fmsub_ps(target, logit, _mm512_max_ps(zero, logit)));
                product = _mm512_mask_fmadd_ps(product, kept, exponential(opposite_of_size(logit)), product);
                if (p / 16 % 96 < 95 && p + 16 < v->pixels) continue;
                total = _mm512_add_ps(total, _mm512_sub_ps(sum, logarithm(product)));
                sum = zero, product = one;
            }
            v->log_prob[row] = _mm512_reduce_add_ps(total);
        }
        if (v->gradient) {
            __m512 scale = _mm512_set1_ps(v->upstream[row]);
            for (int64_t p = 0; p < v->pixels; p += 16) {
                __mmask16 kept = lanes(v->pixels - p);
                __m512 logit = _mm512_maskz_loadu_ps(kept, l + p), target = _mm512_maskz_loadu_ps(kept, x + p);
                __m512 e = exponential(opposite_of_size(logit));
                __m512 above = _mm512_mask_mov_ps(e, _mm512_cmp_ps_mask(logit, zero, _CMP_GE_OQ), one);
                __m512 mean = _mm512_div_ps(above, _mm512_add_ps(one, e));
                _mm512_mask_storeu_ps(v->gradient + row * v->pixels + p, kept,
                                      _mm512_mul_ps(scale, _mm512_sub_ps(target, mean)));
            }
        }
    }
}

static void bernoulli_work(void *data) {
    Bernoulli *v = data;
    for (;;) {
        int part = __atomic_fetch_add(&v->next, 1, __ATOMIC_RELAXED);
        if (part >= v->parts) return;
        bernoulli_rows(v, v->rows * part / v->parts, v->rows * (part + 1) / v->parts);
    }
}

void bernoulli(Bernoulli *v, Parallel parallel) {
    v->next = 0;
    in_parallel(parallel, bernoulli_work, v, v->parts);
}
