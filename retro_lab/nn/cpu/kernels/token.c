/* A layer's operations for one generated token. Reading the weights from memory dominates, so each
 * weight is read once, in order, and the operations between two products are fused with them. */
#include "product.h"

#define SOME_OUTPUTS 16 /* outputs of a task */

/* norm(x) for x [rows, width] if there is a gain, else a copy; the caller frees the result. */
static real *normed_or_copy(const real *x, const real *gain, real eps, long rows, long width)
{
    real *normed = room(rows * width);
    for (long row = 0; row < rows; row++)
        if (gain)
            normalise(x + row * width, gain, eps, normed + row * width, width);
        else
            memcpy(normed + row * width, x + row * width, sizeof(real) * width);
    return normed;
}

/* out [rows, outputs] = f(x W) + beside for x [rows, inputs] and W [outputs, inputs]; f is GELU if
 * `curved`, beside [rows, outputs] may be NULL. Runs inside a parallel region. */
static void team_product(const real *x, const real *weight, int curved, const real *beside,
                          real *out, long rows, long inputs, long outputs)
{
#pragma omp for
    for (long i = 0; i < outputs; i += SOME_OUTPUTS) {
        long some = outputs - i < SOME_OUTPUTS ? outputs - i : SOME_OUTPUTS;
        for (long j = i; j < i + some; j++)
            for (long row = 0; row < rows; row++)
                out[row * outputs + j] = dot(x + row * inputs, weight + j * inputs, inputs);
        for (long row = 0; row < rows && (curved || beside); row++)
            for (long j = 0; j < some; j += LANES) {
                long at = row * outputs + i + j, left = some - j;
                vec y = load_left(out + at, left, 0);
                y = curved ? gelu_of(y) : y;
                store_left(out + at, left, beside ? y + load_left(beside + at, left, 0) : y);
            }
    }
}

/* out [rows, outputs] = x W for x [rows, inputs] and W [outputs, inputs]. */
void gemv(const real *x, const real *weight, real *out, long rows, long inputs, long outputs,
              int threads)
{
#pragma omp parallel num_threads(threads)
    team_product(x, weight, 0, NULL, out, rows, inputs, outputs);
}

/* out = x + gelu(norm(x) up) down for x [rows, width], up [inner, width], down [width, inner]. */
void feed_few(const real *x, const real *gain, real eps, const real *up, const real *down,
              real *out, long rows, long width, long inner, int threads)
{
    real *normed = normed_or_copy(x, gain, eps, rows, width), *between = room(rows * inner);
#pragma omp parallel num_threads(threads)
    {
        team_product(normed, up, 1, NULL, between, rows, width, inner);
        team_product(between, down, 0, x, out, rows, inner, width);
    }
    free(normed), free(between);
}

/* Keys and values of the positions that a token may see, possibly including its own.
 *
 * keys, values: [rows, heads, capacity, P], of which `seen` positions are valid.
 * grows: the token's key and value are written to the last of these. The key is first mixed with
 *     `last` [rows, heads, P], the previous raw key, by share [heads], and then replaces `last`.
 * cosines, sines: of the token's position, [P] or rows cos_sin_row apart; NULL without rotation.
 * mask: [rows, seen] or one row for all, where a token may attend; NULL for everywhere.
 */
typedef struct {
    long rows, heads, width, capacity, seen, grows;
    real *keys, *values, *last;
    const real *share, *cosines, *sines;
    long cos_sin_row;
    const uint8_t *mask;
    long mask_row;
} Held;

static void rotate(const Held *h, long row, real *x)
{
    const long at = row * h->cos_sin_row;
    if (h->cosines) rotate_pairs(x, h->width, h->cosines + at, h->sines + at, 1);
}

/* Appends a token's key and value. */
static void join(const Held *h, long row, long head, const real *key, const real *value)
{
    const long width = h->width, each = row * h->heads + head;
    const long place = (each * h->capacity + h->seen - 1) * width;
    for (long p = 0; p < width; p += LANES) {
        vec here = load(key + p);
        if (h->share) {
            real *last = h->last + each * width + p;
            vec before = load(last);
            store(last, here);
            here += h->share[head] * (before - here);
        }
        store(h->keys + place + p, here);
        store(h->values + place + p, load(value + p));
    }
    rotate(h, row, h->keys + place);
}

static void look(const Held *h, long row, long head, const real *query, real *scores, real *out)
{
    const long width = h->width, first = (row * h->heads + head) * h->capacity * width;
    const uint8_t *mask = h->mask ? h->mask + row * h->mask_row : NULL;
    const real *keys = h->keys + first;
    real q[width], most;
    memcpy(q, query, sizeof(q));
    rotate(h, row, q);
    for (long j = 0; j < in_lanes(h->seen); j++)
        scores[j] = j < h->seen && (!mask || mask[j]) ? dot(q, keys + j * width, width) : -INFINITY;
    real total = weigh(scores, in_lanes(h->seen), 1 / sqrt((real)width), &most);
    product(1, width, h->seen, scores, 0, 1, h->values + first, width, out, width, 0);
    for (long p = 0; p < width; p++) out[p] *= total == 0 ? 0 : 1 / total;
}

/* Attention of one token of each row, x [rows, inputs], normalised first if there is a gain; adds x
 * if plus_x.
 *
 * first: [heads * P, inputs] to queries; if the past grows, [3 * heads * P, inputs] to queries,
 *     keys and values.
 * second: [inputs, heads * P]. */
void attend_few(const Held *h, const real *x, long inputs, const real *gain, real eps,
                const real *first, const real *second, long plus_x, real *out, int threads)
{
    const long width = h->width, inner = h->heads * width, projections = (h->grows ? 3 : 1) * inner;
    real *normed = normed_or_copy(x, gain, eps, h->rows, inputs), *read = room(h->rows * inner);
    real *projected = room(h->rows * projections);
#pragma omp parallel num_threads(threads)
    {
        real *scores = room(in_lanes(h->seen));
        team_product(normed, first, 0, NULL, projected, h->rows, inputs, projections);
#pragma omp for
        for (long each = 0; each < h->rows * h->heads; each++) {
            long row = each / h->heads, head = each % h->heads;
            const real *query = projected + row * projections + head * width;
            if (h->grows) join(h, row, head, query + inner, query + 2 * inner);
            look(h, row, head, query, scores, read + each * width);
        }
        team_product(read, second, 0, plus_x ? x : NULL, out, h->rows, inner, inputs);
        free(scores);
    }
    free(normed), free(read), free(projected);
}
