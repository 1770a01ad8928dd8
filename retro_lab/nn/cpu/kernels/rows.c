/* Operations on rows between two matrix products, each with its backward pass.
 *
 * A row holds a token's activations, of any width.
 */
#include "vector.h"

#define PARTS 16 /* partial sums over rows: a fixed number gives equal bits for any thread count */

long lanes(void) { return LANES; }

/* out = x / rms(x) * gain. */
void rms_norm(const real *x, const real *gain, real eps, real *out, long rows, long width,
              int threads)
{
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < rows; row++)
        normalise(x + row * width, gain, eps, out + row * width, width);
}

static void norm_row(const real *x, const real *gain, real eps, const real *grad,
                     const real *beside, real *grad_x, real *grad_gain, long width)
{
    real scale = inverse_rms(x, width, eps);
    vec along = {0};
    for (long i = 0; i < width; i += LANES) {
        long left = width - i;
        vec both = load_left(grad + i, left, 0) * load_left(x + i, left, 0) * scale;
        store_left(grad_gain + i, left, load_left(grad_gain + i, left, 0) + both);
        along += both * load_left(gain + i, left, 0);
    }
    real shared = sum(along) / width * scale;
    for (long i = 0; i < width; i += LANES) {
        long left = width - i;
        vec of_x = load_left(grad + i, left, 0) * load_left(gain + i, left, 0);
        of_x = (of_x - load_left(x + i, left, 0) * shared) * scale;
        store_left(grad_x + i, left, beside ? of_x + load_left(beside + i, left, 0) : of_x);
    }
}

/* grad_x from the gradient of rms_norm's result, plus `beside` if any; adds to grad_gain. */
void rms_norm_backward(const real *x, const real *gain, real eps, const real *grad,
                       const real *beside, real *grad_x, real *grad_gain, long rows, long width,
                       int threads)
{
    real *sums = calloc(PARTS * width, sizeof(real));
#pragma omp parallel for num_threads(threads)
    for (long part = 0; part < PARTS; part++)
        for (long row = rows * part / PARTS; row < rows * (part + 1) / PARTS; row++)
            norm_row(x + row * width, gain, eps, grad + row * width,
                     beside ? beside + row * width : NULL, grad_x + row * width,
                     sums + part * width, width);
    for (long part = 0; part < PARTS; part++)
        for (long i = 0; i < width; i++) grad_gain[i] += sums[part * width + i];
    free(sums);
}

/* out = gelu(x), n numbers. */
void gelu(const real *x, real *out, long n, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < n; i += LANES) {
        vec here = load_left(x + i, n - i, 0);
        store_left(out + i, n - i, gelu_of(here));
    }
}

/* Replaces grad, the gradient of gelu(x), by that of x; out = gelu(x), recomputed. */
void gelu_backward(const real *x, real *grad, real *out, long n, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (long i = 0; i < n; i += LANES) {
        long left = n - i;
        vec here = load_left(x + i, left, 0), square = here * here;
        vec share = logistic(here * (STEEP + CUBIC * square)), value = here * share;
        vec slope = share + (value - value * share) * (STEEP + 3 * CUBIC * square);
        store_left(out + i, left, value);
        store_left(grad + i, left, load_left(grad + i, left, 0) * slope);
    }
}

/* Rotates all heads of x [tokens, heads * P]; token t is at position t % length of cosines and
 * sines [length, P], see `rotate_pairs`. */
void rotate(real *x, long tokens, long heads, long width, const real *cosines, const real *sines,
          long length, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (long t = 0; t < tokens; t++)
        for (long h = 0; h < heads; h++)
            rotate_pairs(x + (t * heads + h) * width, width, cosines + t % length * width,
                       sines + t % length * width, 1);
}

/* Replaces logits by the gradient of their cross-entropy: probabilities, minus 1 at the target.
 * nats = -log p(target). A target below 0 is unscored: zeros. */
void cross_entropy(real *logits, const int64_t *targets, real *nats, long rows, long width,
              int threads)
{
#pragma omp parallel for num_threads(threads)
    for (long row = 0; row < rows; row++) {
        real *x = logits + row * width;
        nats[row] = 0;
        if (targets[row] < 0) {
            memset(x, 0, sizeof(real) * width);
            continue;
        }
        real wanted = x[targets[row]];
        vec top = all(-INFINITY), total = {0};
        for (long i = 0; i < width; i += LANES) {
            vec here = load_left(x + i, width - i, -INFINITY);
            top = pick(here < top, top, here);
        }
        real most = largest(top);
        for (long i = 0; i < width; i += LANES) {
            vec weight = exponential(load_left(x + i, width - i, -INFINITY) - most);
            store_left(x + i, width - i, weight);
            total += weight;
        }
        real whole = sum(total), share = 1 / whole;
        for (long i = 0; i < width; i++) x[i] *= share;
        x[targets[row]] -= 1;
        nats[row] = most + log(whole) - wanted;
    }
}
