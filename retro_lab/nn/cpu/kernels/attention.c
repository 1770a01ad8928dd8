/* softmax(q k / sqrt(P)) v and its gradients, for one block of queries of a head at a time.
 *
 * The scores of a block stay in the cache and are never stored: the backward pass recomputes them
 * from the logarithm of each row's sum (Dao et al. 2022). Every product uses `product`, whose
 * operands are packed in the cache.
 */
#include "product.h"

#define BLOCK_QUERIES 66 /* whole tiles; scores for some hundred keys fit the cache */

/* Sizes; strides in numbers (heads are P numbers apart); and
 *
 * mask[b * mask_batch + i * mask_query + j]: where queries may attend; NULL for everywhere;
 * cosines, sines [positions, P]: rotation of queries and keys, see `rotate_pairs`; or NULL;
 * share [heads]: share of the previous key in each key; NULL for no smearing;
 * follows [batch, keys]: which keys have a previous key; NULL for all but the first. */
typedef struct {
    long batch, heads, queries, keys, width;
    long query_batch, query_row, key_batch, key_row, value_batch, value_row;
    const uint8_t *mask;
    long mask_batch, mask_query, causal;
    const real *query_cosines, *query_sines, *key_cosines, *key_sines;
    const real *share;
    const uint8_t *follows;
} Geometry;

static void copy(const real *from, long from_row, long rows, long width, real *to, long to_row)
{
    for (long i = 0; i < rows; i++)
        memcpy(to + i * to_row, from + i * from_row, sizeof(real) * width);
}

/* Transposes LANES rows at a time, so that writes are contiguous. */
static void transpose(const real *from, long rows, long width, real *to, long to_row)
{
    long i = 0;
    for (; i + LANES <= rows; i += LANES)
        for (long j = 0; j < width; j++)
            for (long l = 0; l < LANES; l++) to[j * to_row + i + l] = from[(i + l) * width + j];
    for (; i < rows; i++)
        for (long j = 0; j < width; j++) to[j * to_row + i] = from[i * width + j];
}

static void rotate(real *rows, long count, long width, const real *cosines, const real *sines,
                 real sign)
{
    for (long i = 0; cosines && i < count; i++)
        rotate_pairs(rows + i * width, width, cosines + i * width, sines + i * width, sign);
}

static int follows(const Geometry *g, long b, long i)
{
    return i > 0 && i < g->keys && (!g->follows || g->follows[b * g->keys + i]);
}

/* The keys of a head, smeared and rotated. */
static void take_keys(const Geometry *g, long b, long head, const real *key, real *k)
{
    const long width = g->width;
    copy(key + b * g->key_batch + head * width, g->key_row, g->keys, width, k, width);
    for (long i = g->keys - 1; g->share && i >= 0; i--)
        for (long p = 0; p < width; p += LANES) {
            real *at = k + i * width + p;
            vec before = follows(g, b, i) ? load(at - width) : all(0);
            store(at, load(at) + g->share[head] * (before - load(at)));
        }
    rotate(k, g->keys, width, g->key_cosines, g->key_sines, 1);
}

static void take_queries(const Geometry *g, long b, long head, long from, long rows,
                         const real *query, real *q)
{
    const long width = g->width, places = from * width;
    copy(query + b * g->query_batch + from * g->query_row + head * width, g->query_row, rows, width,
         q, width);
    if (g->query_cosines)
        rotate(q, rows, width, g->query_cosines + places, g->query_sines + places, 1);
}

static void give_queries(const Geometry *g, long b, long head, long from, long rows, real *of_q,
                         real *grad_query)
{
    const long width = g->width, places = from * width;
    if (g->query_cosines)
        rotate(of_q, rows, width, g->query_cosines + places, g->query_sines + places, -1);
    copy(of_q, width, rows, width,
         grad_query + b * g->query_batch + from * g->query_row + head * width, g->query_row);
}

/* Backward pass of `take_keys`: gradients of a head's keys and of its share. */
static void give_keys(const Geometry *g, long b, long head, const real *key, real *of_k,
                      real *grad_key, real *grad_share)
{
    const long width = g->width, from = b * g->key_batch + head * width;
    vec total = {0};
    rotate(of_k, g->keys, width, g->key_cosines, g->key_sines, -1);
    for (long i = 0; g->share && i < g->keys; i++)
        for (long p = 0; p < width; p += LANES) {
            const real *raw = key + from + i * g->key_row + p;
            real *at = of_k + i * width + p;
            vec before = follows(g, b, i) ? load(raw - g->key_row) : all(0);
            vec after = follows(g, b, i + 1) ? load(at + width) : all(0);
            total += load(at) * (before - load(raw));
            store(at, load(at) + g->share[head] * (after - load(at)));
        }
    copy(of_k, width, g->keys, width, grad_key + from, g->key_row);
    if (g->share) grad_share[b * g->heads + head] = sum(total);
}

/* Writes minus infinity where query i of batch b may not attend, up to `wide`. */
static void hide(const Geometry *g, real *scores, long b, long i, long keys, long wide)
{
    long seen = g->causal && i + 1 < keys ? i + 1 : keys;
    for (long j = seen; j < wide; j++) scores[j] = -INFINITY;
    if (!g->mask) return;
    const uint8_t *mask = g->mask + b * g->mask_batch + i * g->mask_query, *end = mask + seen;
    for (const uint8_t *at = mask; (at = memchr(at, 0, end - at)); at++)
        scores[at - mask] = -INFINITY;
}

/* Writes out [batch, queries, heads, width] and log_sum [batch, heads, queries]. */
void attend(const Geometry *g, const real *query, const real *key, const real *value,
            real *out, real *log_sum, int threads)
{
    const long width = g->width, row = g->heads * width, wide_row = in_lanes(g->keys);
    const real scale = 1 / sqrt(width);
#pragma omp parallel num_threads(threads)
    {
        real *packed = room(g->keys * width), *across = room(wide_row * width);
        real *scores = room(wide_row * BLOCK_QUERIES), *q = room(BLOCK_QUERIES * width);
        real *read = room(BLOCK_QUERIES * width), sums[BLOCK_QUERIES];
#pragma omp for schedule(dynamic)
        for (long each = 0; each < g->batch * g->heads; each++) {
            long b = each / g->heads, head = each % g->heads, at = head * width;
            take_keys(g, b, head, key, packed);
            transpose(packed, g->keys, width, across, wide_row);
            copy(value + b * g->value_batch + at, g->value_row, g->keys, width, packed, width);
            for (long from = 0; from < g->queries; from += BLOCK_QUERIES) {
                long rows = g->queries - from < BLOCK_QUERIES ? g->queries - from : BLOCK_QUERIES;
                long keys = g->causal && from + rows < g->keys ? from + rows : g->keys;
                long wide = in_lanes(keys);
                take_queries(g, b, head, from, rows, query, q);
                product(rows, wide, width, q, width, 1, across, wide_row, scores, wide_row, 0);
                for (long i = 0; i < rows; i++) {
                    real *of_row = scores + i * wide_row, most;
                    hide(g, of_row, b, from + i, keys, wide);
                    sums[i] = weigh(of_row, wide, scale, &most);
                    log_sum[each * g->queries + from + i] =
                        sums[i] == 0 ? INFINITY : most * scale + log(sums[i]);
                }
                product(rows, width, keys, scores, wide_row, 1, packed, width, read, width, 0);
                for (long i = 0; i < rows; i++) {
                    real share = sums[i] == 0 ? 0 : 1 / sums[i];
                    real *to = out + (b * g->queries + from + i) * row + at;
                    for (long p = 0; p < width; p += LANES)
                        store(to + p, load(read + i * width + p) * share);
                }
            }
        }
        free(packed), free(across), free(scores), free(q), free(read);
    }
}

/* Turns scores into weights, and `slopes` from the weights' gradients into the scores'. */
static void weigh_again(real *scores, real *slopes, long wide, real scale, real log_sum,
                        real shared)
{
    for (long j = 0; j < wide; j += LANES) {
        vec weight = exponential(load(scores + j) * scale - log_sum);
        store(scores + j, weight);
        store(slopes + j, weight * (load(slopes + j) - shared) * scale);
    }
}

/* Gradients from grad, which has the layout of out. Each gradient has the layout of its input;
 * grad_share is [batch, heads]. */
void attend_backward(const Geometry *g, const real *query, const real *key, const real *value,
                     const real *out, const real *log_sum, const real *grad, real *grad_query,
                     real *grad_key, real *grad_value, real *grad_share, int threads)
{
    const long width = g->width, row = g->heads * width, wide_row = in_lanes(g->keys);
    const long all_keys = g->keys * width;
    const real scale = 1 / sqrt(width);
#pragma omp parallel num_threads(threads)
    {
        real *k = room(all_keys), *k_across = room(wide_row * width);
        real *v_across = room(wide_row * width), *of_k = room(all_keys), *of_v = room(all_keys);
        real *q = room(BLOCK_QUERIES * width), *of_q = room(BLOCK_QUERIES * width);
        real *of_out = room(BLOCK_QUERIES * width), shared[BLOCK_QUERIES];
        real *scores = room(wide_row * BLOCK_QUERIES), *slopes = room(wide_row * BLOCK_QUERIES);
#pragma omp for schedule(dynamic)
        for (long each = 0; each < g->batch * g->heads; each++) {
            long b = each / g->heads, head = each % g->heads, at = head * width;
            copy(value + b * g->value_batch + at, g->value_row, g->keys, width, k, width);
            transpose(k, g->keys, width, v_across, wide_row);
            take_keys(g, b, head, key, k);
            transpose(k, g->keys, width, k_across, wide_row);
            memset(of_k, 0, sizeof(real) * all_keys), memset(of_v, 0, sizeof(real) * all_keys);
            for (long from = 0; from < g->queries; from += BLOCK_QUERIES) {
                long rows = g->queries - from < BLOCK_QUERIES ? g->queries - from : BLOCK_QUERIES;
                long keys = g->causal && from + rows < g->keys ? from + rows : g->keys;
                long wide = in_lanes(keys), outer = (b * g->queries + from) * row + at;
                take_queries(g, b, head, from, rows, query, q);
                copy(grad + outer, row, rows, width, of_out, width);
                for (long i = 0; i < rows; i++) /* all at once, as each waits for memory */
                    shared[i] = dot(out + outer + i * row, of_out + i * width, width);
                product(rows, wide, width, q, width, 1, k_across, wide_row, scores, wide_row, 0);
                product(rows, wide, width, of_out, width, 1, v_across, wide_row, slopes, wide_row,
                        0);
                for (long i = 0; i < rows; i++) {
                    real *of_row = scores + i * wide_row;
                    hide(g, of_row, b, from + i, keys, wide);
                    weigh_again(of_row, slopes + i * wide_row, wide, scale,
                                log_sum[each * g->queries + from + i], shared[i]);
                }
                product(keys, width, rows, scores, 1, wide_row, of_out, width, of_v, width, 1);
                product(keys, width, rows, slopes, 1, wide_row, q, width, of_k, width, 1);
                product(rows, width, keys, slopes, wide_row, 1, k, width, of_q, width, 0);
                give_queries(g, b, head, from, rows, of_q, grad_query);
            }
            give_keys(g, b, head, key, of_k, grad_key, grad_share);
            copy(of_v, width, g->keys, width, grad_value + b * g->value_batch + at, g->value_row);
        }
        free(k), free(k_across), free(v_across), free(of_k), free(of_v), free(q), free(of_q);
        free(of_out), free(scores), free(slopes);
    }
}
