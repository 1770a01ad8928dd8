/* Vectors of the processor's width, and row operations: norms, GELU, softmax weights.
 *
 * Uses the vector extensions of GCC and Clang without intrinsics, so that one source serves AVX2,
 * AVX-512 and NEON. With -DDOUBLE everything is in double precision, slow but exact, for tests.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#ifdef __AVX512F__
#define BYTES 64
#else
#define BYTES 32
#endif

#ifdef DOUBLE
typedef double real;
typedef int64_t whole;
#else
typedef float real;
typedef int32_t whole;
#endif

#define LANES ((long)(BYTES / sizeof(real)))

typedef real vec __attribute__((vector_size(BYTES)));
typedef whole ivec __attribute__((vector_size(BYTES)));
typedef vec loose __attribute__((aligned(4))); /* unaligned in memory */

static inline vec load(const real *from) { return *(const loose *)from; }
static inline void store(real *to, vec x) { *(loose *)to = x; }
static inline vec all(real x) { return x - (vec){0}; }

/* `load` and `store` for the last n numbers of a row; `fill` replaces the others. */
static inline vec load_left(const real *from, long n, real fill)
{
    if (n >= LANES) return load(from);
    vec x = all(fill);
    memcpy(&x, from, sizeof(real) * n);
    return x;
}

static inline void store_left(real *to, long n, vec x)
{
    if (n >= LANES)
        store(to, x);
    else
        memcpy(to, &x, sizeof(real) * n);
}

static inline vec pick(ivec where, vec one, vec other)
{
    return (vec)(((ivec)one & where) | ((ivec)other & ~where));
}

/* Adds halves, then halves of those: a shorter chain of dependent additions. */
static inline real sum(vec x)
{
    real part[LANES];
    memcpy(part, &x, BYTES);
    for (long half = LANES / 2; half; half /= 2)
        for (long i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

static inline real largest(vec x)
{
    real most = x[0];
    for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* Two independent sums, since each addition waits for the one before. */
static inline real dot(const real *one, const real *other, long n)
{
    vec even = {0}, odd = {0};
    long i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even += load(one + i) * load(other + i);
        odd += load(one + i + LANES) * load(other + i + LANES);
    }
    for (; i < n; i += LANES) even += load_left(one + i, n - i, 0) * load_left(other + i, n - i, 0);
    return sum(even + odd);
}

/* Rotates pairs of features (p, p + P/2) of a head by a position's angles, or back with sign -1.
 *
 * cosines, sines: [P], of which the second halves are used.
 */
static inline void rotate_pairs(real *x, long width, const real *cosines, const real *sines,
                              real sign)
{
    const long half = width / 2;
    for (long p = 0; p < half; p += LANES) {
        long left = half - p;
        vec one = load_left(x + p, left, 0), other = load_left(x + half + p, left, 0);
        vec cosine = load_left(cosines + half + p, left, 0);
        vec sine = load_left(sines + half + p, left, 0) * sign;
        store_left(x + p, left, one * cosine - other * sine);
        store_left(x + half + p, left, other * cosine + one * sine);
    }
}

#ifdef DOUBLE
static inline vec exponential(vec x)
{
    for (int i = 0; i < LANES; i++) x[i] = exp(x[i]);
    return x;
}
#else
/* e^x to a unit or two in the last place, for x up to 88; exactly 0 below -87, so that masked
 * scores get weight 0 and products avoid denormal numbers. NaN stays NaN.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial for e^r.
 */
static inline vec exponential(vec x)
{
    ivec nothing = x < all(-87.0f);
    x = pick(nothing, all(0.0f), x);
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vec n = (x * 1.44269504f + round) - round;
    vec r = x - n * 0.693359375f - n * -2.12194440e-4f;
    vec p = r * 1.98756915e-4f + 1.39819995e-3f;
    p = p * r + 8.33345191e-3f;
    p = p * r + 4.16657959e-2f;
    p = p * r + 1.66666655e-1f;
    p = p * r + 5.00000012e-1f;
    p = p * r * r + r + 1.0f;
    vec two_to_n = (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
    return pick(nothing, all(0.0f), p * two_to_n);
}
#endif

static inline long in_lanes(long n) { return (n + LANES - 1) / LANES * LANES; }

/* Zeroed memory; the caller frees it. */
static inline real *room(long numbers)
{
    real *space = aligned_alloc(64, (sizeof(real) * numbers + 63) / 64 * 64);
    memset(space, 0, sizeof(real) * numbers);
    return space;
}

static inline real inverse_rms(const real *x, long width, real eps)
{
    return 1 / sqrt(dot(x, x, width) / width + eps);
}

/* out = x / rms(x) * gain, for one row. */
static inline void normalise(const real *x, const real *gain, real eps, real *out, long width)
{
    real scale = inverse_rms(x, width, eps);
    for (long i = 0; i < width; i += LANES) {
        long left = width - i;
        store_left(out + i, left,
                   load_left(x + i, left, 0) * scale * load_left(gain + i, left, 0));
    }
}

/* Tanh form of GELU: x s(w), s the logistic function, w = 2 sqrt(2 / pi) (x + 0.044715 x^3). */
#define STEEP ((real)1.5957691216057308)
#define CUBIC (STEEP * (real)0.044715)

static inline vec logistic(vec x)
{
    vec share = 1 / (1 + exponential(-x));
    return pick(x < all(-80), all(0), share); /* before the exponential overflows */
}

static inline vec gelu_of(vec x) { return x * logistic(x * (STEEP + CUBIC * x * x)); }

/* Turns scores into weights, not yet divided by the returned sum; `most` becomes the largest score.
 * A fully masked row has weights and sum zero. */
static inline real weigh(real *scores, long wide, real scale, real *most)
{
    vec top = all(-INFINITY), total = {0};
    for (long j = 0; j < wide; j += LANES) {
        vec x = load(scores + j);
        top = pick(x < top, top, x);
    }
    *most = largest(top) == -INFINITY ? 0 : largest(top);
    for (long j = 0; j < wide; j += LANES) {
        vec weight = exponential((load(scores + j) - *most) * scale);
        store(scores + j, weight);
        total += weight;
    }
    return sum(total);
}
