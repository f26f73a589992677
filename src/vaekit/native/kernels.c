/* Convolutions of bf16 images in channels-last memory, for CPUs with AVX512-BF16: see kernels.py beside this file.
 *
 * Images are (image, row, column, channel); numbers of channels that are read in vectors are multiples of 32. Every sum is
 * made in float32 and in an order that follows from the sizes and the number of parts alone, so the same inputs give the
 * same bits. The work of a call is cut into parts, which the threads of the OpenMP runtime that torch has loaded take one
 * after another.
 */

#include <immintrin.h>
#include <stdint.h>

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

/* GOMP_parallel of the runtime that torch has loaded. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

static void work(void *data) {
    Job *job = data;
    for (;;) {
        int part = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (part >= job->what->parts) return;
        job->body(job->what, part);
    }
}

/* By all of torch's threads, also where there are fewer parts: a smaller team would end the others' threads. */
static void in_parallel(Parallel parallel, void (*function)(void *), void *data, int parts) {
    if (parts > 1)
        parallel(function, data, 0, 0);
    else
        function(data);
}

static void run(Parallel parallel, Body body, const Convolution *what) {
    Job job = {what, body, 0};
    in_parallel(parallel, work, &job, what->parts);
}

static int first_image(const Convolution *v, int part) { return (int)((int64_t)v->n * part / v->parts); }

static __m512bh pairs(const void *from) { return (__m512bh)_mm512_loadu_si512(from); }

static __m512bh pair_of(const void *from) {
    int32_t both;
    __builtin_memcpy(&both, from, 4);
    return (__m512bh)_mm512_set1_epi32(both);
}

/* Pairs (a[c], b[c]) of every channel c, in the order of `channel_at`; null stands for zeros. */
static void interleave(const uint16_t *a, const uint16_t *b, uint32_t *to, int channels) {
    const __m512i zero = _mm512_setzero_si512();
    for (int c = 0; c < channels; c += 32) {
        __m512i x = a ? _mm512_loadu_si512(a + c) : zero, y = b ? _mm512_loadu_si512(b + c) : zero;
        _mm512_storeu_si512(to + c, _mm512_unpacklo_epi16(x, y));
        _mm512_storeu_si512(to + c + 16, _mm512_unpackhi_epi16(x, y));
    }
}

/* The channel whose pair `interleave` puts at a position: within 32, vectors of 16 hold four of every eight channels. */
static int channel_at(int position) {
    int within = position % 32, high = within / 16, place = within % 16;
    return position - within + place / 4 * 8 + high * 4 + place % 4;
}

/* Within 32, the position of a channel: the inverse of `channel_at`. */
static int position_of(int channel) {
    int within = channel % 32;
    return within / 4 % 2 * 16 + within / 8 * 4 + within % 4;
}

/* 32 sums in the order of `interleave`, stored in that of the channels. */
static void store_in_order(float *to, __m512 low, __m512 high) {
    const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    _mm512_storeu_ps(to, _mm512_permutex2var_ps(low, front, high));
    _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(low, back, high));
}

/* Sums of an image, or of a row, are added to those before them as a whole: so no small number is added to a large one. */
static void add_to(float *sums, __m512 low, __m512 high) {
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), low));
    _mm512_storeu_ps(sums + 16, _mm512_add_ps(_mm512_loadu_ps(sums + 16), high));
}

/* ---- Gradient of the weight of a convolution from `big` to `small`, any stride: C and D multiples of 32. ----
 *
 * gradient[d, k, m, c] = sum over images and places (i, j) of small[i, j, d] * big[i * sh + k - ph, j * sw + m - pw, c].
 * Neighbours (j, j + 1) are multiplied as pairs, by which AVX512-BF16 adds two products at once. For each tap, sums of 8 d
 * by 32 c stay in registers over an image, or over several small ones.
 */

enum { ROWS = 8, PAIRS = 112 };

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

/* Adds the pixels (count, channels) of an image to `sums`. */
static void add_pixels(const uint16_t *x, int64_t count, int channels, float *sums) {
    for (int c = 0; c < channels; c += 16) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t p = 0; p < count; p++) {
            __m256i half = _mm256_loadu_si256((const __m256i *)(x + p * channels + c));
            sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
        }
        _mm512_storeu_ps(sums + c, _mm512_add_ps(_mm512_loadu_ps(sums + c), sum));
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
                                for (int p = 0; p < P; p++, there += C, here += D) {
                                    __m512bh front = pairs(there), back = pairs(there + 16);
#pragma GCC unroll 8
                                    for (int t = 0; t < ROWS; t++) {
                                        __m512bh one = pair_of(here + t);
                                        low[t] = _mm512_dpbf16_ps(low[t], front, one);
                                        high[t] = _mm512_dpbf16_ps(high[t], back, one);
                                    }
                                }
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

int64_t weight_scratch(const Convolution *v) {
    int64_t pairs_in_row = (v->w + 1) / 2, count = (int64_t)v->kh * v->kw * v->C * v->D;
    int64_t one_image = v->h * pairs_in_row * v->D + v->kw * v->H * pairs_in_row * v->C;
    return 4 * (count + (v->C > v->D ? v->C : v->D) + images_at_once(v) * one_image);
}

void weight_gradient(const Convolution *v, Parallel parallel) {
    run(parallel, weight_part, v);
    run(parallel, weight_total, v);
}

/* ---- From `small` back to `big`: a transposed convolution, or the gradient of what a convolution reads; any stride. ----
 *
 * result[r, q, c] = sum over d and the taps with i * sh + k - ph = r, j * sw + m - pw = q of small[i, j, d] * weight[d, k, m, c],
 * plus the bias; C and D multiples of 32. Pixels of one row that are sw apart meet the same taps: up to 8 of them by 32 c stay
 * in registers over all taps and d. Neighbours (d, d + 1) are multiplied as pairs.
 */

enum { PIXELS = 8 };

typedef struct {
    const uint16_t *pixel; /* of padded `small`: what the first pixel meets through a tap */
    const uint16_t *weight; /* pairs (D / 2, 32) */
} Tap;

/* Sums of the first `many` pixels of a tile; `many` is known where this is inlined. */
static inline __attribute__((always_inline)) void tile(const int many, const Tap *taps, int count, int D, __m512 front,
                                                       __m512 back, __m512 (*sums)[2]) {
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

static void tile_of(int many, const Tap *taps, int count, int D, __m512 front, __m512 back, __m512 (*sums)[2]) {
    switch (many) {
    case 1: tile(1, taps, count, D, front, back, sums); break;
    case 2: tile(2, taps, count, D, front, back, sums); break;
    case 3: tile(3, taps, count, D, front, back, sums); break;
    case 4: tile(4, taps, count, D, front, back, sums); break;
    case 5: tile(5, taps, count, D, front, back, sums); break;
    case 6: tile(6, taps, count, D, front, back, sums); break;
    case 7: tile(7, taps, count, D, front, back, sums); break;
    default: tile(8, taps, count, D, front, back, sums);
    }
}

/* Rounds 32 sums to bf16 and stores them in the result, with zeros where the ReLU or the mask has them. */
static void put(const Convolution *v, int64_t at, __m512 low, __m512 high) {
    __m512i found = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    __mmask32 kept = 0xffffffff;
    if (v->relu) kept = _mm512_cmpgt_epi16_mask(found, _mm512_set1_epi16(-128)); /* and NaN */
    if (v->masked) kept = _mm512_cmpgt_epi16_mask(_mm512_loadu_si512(v->big + at), _mm512_setzero_si512());
    _mm512_storeu_si512(v->result + at, _mm512_maskz_mov_epi16(kept, found));
}

/* Scratch, zero at first: weights as pairs (kh, kw, C / 32, D / 2, 32); an image of `small` with kw zeros left and right. */
static void back_part(const Convolution *v, int part) {
    int H = v->H, W = v->W, C = v->C, h = v->h, w = v->w, D = v->D, kh = v->kh, kw = v->kw, wide = w + 2 * kw + PIXELS;
    uint16_t *weights = (uint16_t *)(v->scratch + part * v->scratch_bytes);
    uint16_t *padded = weights + (int64_t)kh * kw * C * D;
    const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    uint16_t *to = weights;
    for (int tap = 0; tap < kh * kw; tap++)
        for (int c = 0; c < C; c += 32)
            for (int d = 0; d < D; d += 2, to += 64) {
                const uint16_t *from = v->weight + ((int64_t)d * kh * kw + tap) * C + c;
                __m512i a = _mm512_loadu_si512(from), b = _mm512_loadu_si512(from + (int64_t)kh * kw * C);
                __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
                _mm512_storeu_si512(to, _mm512_permutex2var_epi32(low, front, high));
                _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi32(low, back, high));
            }
    for (int image = first_image(v, part); image < first_image(v, part + 1); image++) {
        const uint16_t *x = v->small + (int64_t)image * h * w * D;
        for (int i = 0; i < h; i++)
            __builtin_memcpy(padded + ((int64_t)i * wide + kw) * D, x + (int64_t)i * w * D, 2 * (int64_t)w * D);
        for (int r = 0; r < H; r++)
            for (int phase = 0; phase < v->sw && phase < W; phase++) {
                int pixels = (W - phase + v->sw - 1) / v->sw, tiles = (pixels + PIXELS - 1) / PIXELS;
                for (int c = 0; c < C; c += 32) {
                    __m512 first = v->bias ? _mm512_loadu_ps(v->bias + c) : _mm512_setzero_ps();
                    __m512 second = v->bias ? _mm512_loadu_ps(v->bias + c + 16) : _mm512_setzero_ps();
                    for (int number = 0; number < tiles; number++) {
                        int begin = pixels * number / tiles, many = pixels * (number + 1) / tiles - begin, count = 0;
                        int q = phase + begin * v->sw;
                        Tap taps[kh * kw];
                        for (int k = (r + v->ph) % v->sh; k < kh; k += v->sh) {
                            int i = (r + v->ph - k) / v->sh; /* may lie outside, where no row is */
                            if (r + v->ph < k || i >= h) continue;
                            for (int m = (q + v->pw) % v->sw; m < kw; m += v->sw) {
                                int j = q + v->pw - m; /* a multiple of sw, from -kw + 1 on */
                                j = j < 0 ? -(-j / v->sw) : j / v->sw;
                                if (j >= w + kw) continue;
                                taps[count].pixel = padded + ((int64_t)i * wide + j + kw) * D;
                                taps[count++].weight = weights + ((int64_t)(k * kw + m) * C + c) * D;
                            }
                        }
                        __m512 sums[PIXELS][2];
                        tile_of(many, taps, count, D, first, second, sums);
                        for (int t = 0; t < many; t++) {
                            int64_t at = (((int64_t)image * H + r) * W + q + t * v->sw) * C + c;
                            put(v, at, sums[t][0], sums[t][1]);
                        }
                    }
                }
            }
    }
}

int64_t back_scratch(const Convolution *v) {
    int64_t padded = (int64_t)v->h * (v->w + 2 * v->kw + PIXELS) * v->D;
    return 2 * ((int64_t)v->kh * v->kw * v->C * v->D + padded);
}

void back(const Convolution *v, Parallel parallel) { run(parallel, back_part, v); }

/* ---- Convolutions from `big` to few channels D of `small`, with stride 1: C a multiple of 32. ---- */

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
static void few_forward_part(const Convolution *v, int part) {
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

int64_t few_forward_scratch(const Convolution *v) {
    return 2 * ((int64_t)(v->H + 2 * v->ph) * (v->W + 2 * v->pw) + 4) * v->C;
}

void few_forward(const Convolution *v, Parallel parallel) { run(parallel, few_forward_part, v); }

/* Both gradients in one pass: big is read once for its zeros and once for the weight.
 *
 * Scratch of a part, zero at first: gradient of the weight (D, kh, kw, C) in the order of `interleave`; weights as pairs of
 * the taps (m + 1, m), (D, kh, (kw + 1) / 2, C); the gradient of `small` as D planes with kh - 1 rows and kw columns around.
 */
static void few_backward_part(const Convolution *v, int part) {
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

static void few_total(const Convolution *v) {
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

int64_t few_backward_scratch(const Convolution *v) {
    int64_t taps = (int64_t)v->D * v->kh * v->C;
    int64_t planes = (int64_t)v->D * (v->h + 2 * v->kh) * (v->w + 2 * v->kw + 2);
    return (4 * taps * v->kw + 4 * taps * ((v->kw + 1) / 2) + 2 * planes + 63) / 64 * 64;
}

void few_backward(const Convolution *v, Parallel parallel) {
    run(parallel, few_backward_part, v);
    if (v->gradient) few_total(v);
}

/* ---- Convolutions from few channels C of `big`, any stride: D a multiple of 32. ----
 *
 * What a place of `small` reads, kh * kw * C numbers, is laid out as a row, with zeros to an even number or one of eight.
 */

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
static void narrow_forward_part(const Convolution *v, int part) {
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
                __m512 first = v->bias ? _mm512_loadu_ps(v->bias + d) : _mm512_setzero_ps();
                __m512 second = v->bias ? _mm512_loadu_ps(v->bias + d + 16) : _mm512_setzero_ps();
                tile_of(many, &tap, 1, length, first, second, sums);
                for (int t = 0; t < many; t++)
                    put(v, ((int64_t)image * places + place + t) * D + d, sums[t][0], sums[t][1]);
            }
    }
}

int64_t narrow_forward_scratch(const Convolution *v) {
    return 2 * ((int64_t)(v->D + v->h * v->w) * in_pairs(v) + padded_size(v));
}

void narrow_forward(const Convolution *v, Parallel parallel) { run(parallel, narrow_forward_part, v); }

/* Scratch, zero at first: sums (D / 32, reads in eights, 32) in the order of `interleave`, sums of channels (D), a padded image,
 * its rows, and pairs of them. */
static void narrow_gradient_part(const Convolution *v, int part) {
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
#pragma GCC unroll 8
                    for (int t = 0; t < ROWS; t++) {
                        __m512bh one = pair_of(here + t);
                        low[t] = _mm512_dpbf16_ps(low[t], front, one);
                        high[t] = _mm512_dpbf16_ps(high[t], back, one);
                    }
                }
#pragma GCC unroll 8
                for (int t = 0; t < ROWS; t++) add_to(sum + 32 * t, low[t], high[t]);
            }
    }
}

int64_t narrow_gradient_scratch(const Convolution *v) {
    int64_t length = in_eights(v), places = (int64_t)v->h * v->w;
    return 4 * (v->D * length + v->D + (places + 1) / 2 * length) + 2 * (padded_size(v) + places * length);
}

void narrow_gradient(const Convolution *v, Parallel parallel) {
    run(parallel, narrow_gradient_part, v);
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

/* ---- Bernoulli pixels on logits, float32. Rows of logits are (samples * images), and the target has a row an image. ----
 *
 * log p = sum over pixels of target * logit - log(1 + exp(logit)), and log(1 + exp(l)) = max(l, 0) + log(1 + exp(-|l|)).
 * The last logarithms are those of one product for each of 16 lanes; every factor lies in (1, 2], so 96 of them fit.
 */

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

/* ---- Random words: SplitMix64's finalizer on a counter at each level, as in noise.py, to the bit. ---- */

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
