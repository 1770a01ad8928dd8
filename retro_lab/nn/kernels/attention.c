/* softmax(q k / sqrt(P)) v and its gradients, a block of queries of one head at a time.
 *
 * The scores of a block stay in the cache and are never stored: the backward pass has them again
 * from the logarithm of each row's sum (Dao et al. 2022). Every product goes through `product`,
 * whose operands lie packed in the cache.
 */
#include "vector.h"

#define TILE_ROWS 6      /* rows of a product that are held in registers */
#define BLOCK_QUERIES 66 /* whole tiles, whose scores for some hundred keys fit the cache */

/* Sizes, distances between elements in numbers (heads lie P numbers apart), and where queries may
 * look: mask[b * mask_batch + i * mask_query + j], or everywhere. */
typedef struct {
    long batch, heads, queries, keys, width;
    long query_batch, query_row, key_batch, key_row, value_batch, value_row;
    const uint8_t *mask;
    long mask_batch, mask_query;
    long causal;
} Geometry;

static inline __attribute__((always_inline)) void
tile(const int rows, const int vecs, long depth, const real *a, long a_row, long a_col,
     const real *b, long b_row, real *c, long c_row, int add)
{
    vec held[TILE_ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++)
            held[i][j] = add ? load(c + i * c_row + j * LANES) : (vec){0};
    for (long k = 0; k < depth; k++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < vecs; j++)
                held[i][j] += a[i * a_row + k * a_col] * load(b + k * b_row + j * LANES);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++) store(c + i * c_row + j * LANES, held[i][j]);
}

static inline __attribute__((always_inline)) void
columns(const int vecs, long rows, long depth, const real *a, long a_row, long a_col,
        const real *b, long b_row, real *c, long c_row, int add)
{
    for (long i = 0; i < rows; i += TILE_ROWS) {
        const real *from = a + i * a_row;
        real *to = c + i * c_row;
        switch (rows - i) { /* so that the compiler knows how many registers a tile takes */
#define TILE(n) tile(n, vecs, depth, from, a_row, a_col, b, b_row, to, c_row, add)
        case 1: TILE(1); break;
        case 2: TILE(2); break;
        case 3: TILE(3); break;
        case 4: TILE(4); break;
        case 5: TILE(5); break;
        default: TILE(TILE_ROWS);
#undef TILE
        }
    }
}

/* C [rows, cols] = A B, or += with `add`; cols a multiple of LANES, A with any strides. */
static void product(long rows, long cols, long depth, const real *a, long a_row, long a_col,
                    const real *b, long b_row, real *c, long c_row, int add)
{
    long j = 0;
    for (; j + 2 * LANES <= cols; j += 2 * LANES)
        columns(2, rows, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
    if (j < cols) columns(1, rows, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
}

static real *room(long numbers)
{
    real *space = aligned_alloc(64, (sizeof(real) * numbers + 63) / 64 * 64);
    memset(space, 0, sizeof(real) * numbers);
    return space;
}

static long in_lanes(long n) { return (n + LANES - 1) / LANES * LANES; }

static void copy(const real *from, long from_row, long rows, long width, real *to, long to_row)
{
    for (long i = 0; i < rows; i++)
        memcpy(to + i * to_row, from + i * from_row, sizeof(real) * width);
}

static void transpose(const real *from, long rows, long width, real *to, long to_row)
{
    for (long j = 0; j < width; j++)
        for (long i = 0; i < rows; i++) to[j * to_row + i] = from[i * width + j];
}

/* Minus infinity wherever query i of batch b may not look, up to `wide`. */
static void hide(const Geometry *g, real *scores, long b, long i, long keys, long wide)
{
    long seen = g->causal && i + 1 < keys ? i + 1 : keys;
    for (long j = seen; j < wide; j++) scores[j] = -INFINITY;
    if (!g->mask) return;
    const uint8_t *mask = g->mask + b * g->mask_batch + i * g->mask_query, *end = mask + seen;
    for (const uint8_t *at = mask; (at = memchr(at, 0, end - at)); at++)
        scores[at - mask] = -INFINITY;
}

/* Scores become weights, which are to be divided by the sum that is reacross; `most` is what the
 * largest score was. A row that may look nowhere has weights and a sum of zero. */
static real weigh(real *scores, long wide, real scale, real *most)
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

/* out [batch, queries, heads, width] and log_sum [batch, heads, queries]. */
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
        for (long head = 0; head < g->batch * g->heads; head++) {
            long b = head / g->heads, at = head % g->heads * width;
            copy(key + b * g->key_batch + at, g->key_row, g->keys, width, packed, width);
            transpose(packed, g->keys, width, across, wide_row);
            copy(value + b * g->value_batch + at, g->value_row, g->keys, width, packed, width);
            for (long from = 0; from < g->queries; from += BLOCK_QUERIES) {
                long rows = g->queries - from < BLOCK_QUERIES ? g->queries - from : BLOCK_QUERIES;
                long keys = g->causal && from + rows < g->keys ? from + rows : g->keys;
                long wide = in_lanes(keys);
                copy(query + b * g->query_batch + from * g->query_row + at, g->query_row, rows,
                     width, q, width);
                product(rows, wide, width, q, width, 1, across, wide_row, scores, wide_row, 0);
                for (long i = 0; i < rows; i++) {
                    real *of_row = scores + i * wide_row, most;
                    hide(g, of_row, b, from + i, keys, wide);
                    sums[i] = weigh(of_row, wide, scale, &most);
                    log_sum[head * g->queries + from + i] =
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

/* Scores become weights again, and `slopes` (gradients of the weights) those of the scores. */
static void weigh_again(real *scores, real *slopes, long wide, real scale, real log_sum,
                        real shared)
{
    for (long j = 0; j < wide; j += LANES) {
        vec weight = exponential(load(scores + j) * scale - log_sum);
        store(scores + j, weight);
        store(slopes + j, weight * (load(slopes + j) - shared) * scale);
    }
}

/* Gradients [batch, queries or keys, heads, width] of grad, which is laid out as out is. */
void attend_backward(const Geometry *g, const real *query, const real *key, const real *value,
                     const real *out, const real *log_sum, const real *grad, real *grad_query,
                     real *grad_key, real *grad_value, int threads)
{
    const long width = g->width, row = g->heads * width, wide_row = in_lanes(g->keys);
    const long all_keys = g->keys * width;
    const real scale = 1 / sqrt(width);
#pragma omp parallel num_threads(threads)
    {
        real *k = room(all_keys), *k_across = room(wide_row * width);
        real *v_across = room(wide_row * width), *of_k = room(all_keys), *of_v = room(all_keys);
        real *q = room(BLOCK_QUERIES * width), *of_q = room(BLOCK_QUERIES * width);
        real *of_out = room(BLOCK_QUERIES * width);
        real *scores = room(wide_row * BLOCK_QUERIES), *slopes = room(wide_row * BLOCK_QUERIES);
#pragma omp for schedule(dynamic)
        for (long head = 0; head < g->batch * g->heads; head++) {
            long b = head / g->heads, at = head % g->heads * width;
            copy(value + b * g->value_batch + at, g->value_row, g->keys, width, k, width);
            transpose(k, g->keys, width, v_across, wide_row);
            copy(key + b * g->key_batch + at, g->key_row, g->keys, width, k, width);
            transpose(k, g->keys, width, k_across, wide_row);
            memset(of_k, 0, sizeof(real) * all_keys), memset(of_v, 0, sizeof(real) * all_keys);
            for (long from = 0; from < g->queries; from += BLOCK_QUERIES) {
                long rows = g->queries - from < BLOCK_QUERIES ? g->queries - from : BLOCK_QUERIES;
                long keys = g->causal && from + rows < g->keys ? from + rows : g->keys;
                long wide = in_lanes(keys), outer = (b * g->queries + from) * row + at;
                long inner = b * g->query_batch + from * g->query_row + at;
                copy(query + inner, g->query_row, rows, width, q, width);
                copy(grad + outer, row, rows, width, of_out, width);
                product(rows, wide, width, q, width, 1, k_across, wide_row, scores, wide_row, 0);
                product(rows, wide, width, of_out, width, 1, v_across, wide_row, slopes, wide_row,
                        0);
                for (long i = 0; i < rows; i++) {
                    real *of_row = scores + i * wide_row;
                    hide(g, of_row, b, from + i, keys, wide);
                    weigh_again(of_row, slopes + i * wide_row, wide, scale,
                                log_sum[head * g->queries + from + i],
                                dot(out + outer + i * row, of_out + i * width, width));
                }
                product(keys, width, rows, scores, 1, wide_row, of_out, width, of_v, width, 1);
                product(keys, width, rows, slopes, 1, wide_row, q, width, of_k, width, 1);
                product(rows, width, keys, slopes, wide_row, 1, k, width, of_q, width, 0);
                copy(of_q, width, rows, width, grad_query + outer, row);
            }
            copy(of_k, width, g->keys, width, grad_key + b * g->keys * row + at, row);
            copy(of_v, width, g->keys, width, grad_value + b * g->keys * row + at, row);
        }
        free(k), free(k_across), free(v_across), free(of_k), free(of_v), free(q), free(of_q);
        free(of_out), free(scores), free(slopes);
    }
}
