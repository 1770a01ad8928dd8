/* Counts what followed a context in a text database, for all its lengths at once.

   Sorted contexts (sorted_contexts.py) put all tokens that follow the same last n tokens in one
   interval. Each longer context narrows it. The counts of a longer context are part of those of
   every shorter one, so one pass from the longest to the shortest counts each entry once. An
   interval of more than `most` entries is sampled: every s-th one, in a pass of its own. The pass of
   the shortest context is most of the work, and serves all queries in turn that end alike.

   Legend: C chunks of M tokens, D documents, E entries of a segment, S segments, O orders (lengths of
   context), W weightings of documents, T queries, L most tokens of a context, V vocabulary. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_WEIGHTINGS 8
#define MOST_LENGTH 64

typedef struct {
    long base, entries;
    const uint32_t *order;  /* [E] */
    const void *following;  /* [E] */
} Segment;

typedef struct {
    const void *tokens;           /* [C * M] */
    long token_bytes;             /* of a token id: 2 or 4 */
    const int32_t *document;      /* [C] */
    const int64_t *first_chunk;   /* [D + 1] */
    long chunk_size, boundary, vocabulary, documents;
    long num_segments;
    const Segment *segments;      /* [S] */
    long num_orders;
    const long *orders;           /* [O], ascending */
    long length;                  /* L */
    long most;
    long max_run;                 /* ignores occurrences whose match is longer; 0 for none */
    long num_weightings;
} Memory;

typedef struct {
    const int32_t *contexts;  /* [T, L], last token first, -1 beyond the document's start */
    const int32_t *targets;   /* [T] */
    const int64_t *limits;    /* [T], or NULL: flat place from which on occurrences are left out */
    const float *weights;     /* [D, W]; 0 in the first column excludes a document */
    const float *shares;      /* [T, O, W], or NULL: weight of each distribution in `mixture` */
    const int64_t *turns;     /* [T], the order in which the queries are answered */
} Queries;

typedef struct {
    float *total, *hit, *best;         /* [T, O, W]: weight of all, of the target, of the favourite */
    int32_t *favourite;                /* [T, O, W], -1 without evidence */
    int32_t *types, *documents;        /* [T, O] */
    float *mixture;                    /* [T, V], or NULL */
} Evidence;

typedef struct {
    float *value;       /* [V, W] */
    int32_t *seen;      /* [V], tokens with a count */
    int32_t *stamp;     /* [D], number of the count that met the document last */
    int32_t now, num_seen, documents;
    int shift;          /* log2 of the chunk size; -1 if it is no power of two */
    int64_t limit;
    double total[MOST_WEIGHTINGS];
    float best[MOST_WEIGHTINGS];
    int32_t favourite[MOST_WEIGHTINGS];
} Histogram;

typedef struct {
    long low[MOST_LENGTH + 1], high[MOST_LENGTH + 1];
} Intervals;

/* A sampled interval: `low` and `high` in each of S segments, and what was counted. */
typedef struct {
    long size, *low, *high;
    Histogram counts;
} Sampled;

/* Functions that count are compiled once for each usual number of weightings, `w`. */
#define FOR_EACH_W static inline __attribute__((always_inline)) void

static inline int32_t id_at(const void *ids, long width, long at) {
    return width == 2 ? ((const uint16_t *)ids)[at] : ((const int32_t *)ids)[at];
}

/* The n-th token before an entry; -1 beyond its document's start. Only a boundary token can be the
   first of a document, so others need no look at where the document starts. */
static inline int32_t before(const Memory *m, const Segment *s, long entry, long n, int checked) {
    long place = s->base + s->order[entry];
    if (checked) {
        long chunk = place / m->chunk_size;
        if (place - n < m->first_chunk[m->document[chunk]] * m->chunk_size) return -1;
    }
    return id_at(m->tokens, m->token_bytes, place - n);
}

/* The first entry of [low, high) whose n-th token before it is at least `token`. */
static long first_from(const Memory *m, const Segment *s, long low, long high, long n,
                       int32_t token, int checked) {
    while (low < high) {
        long middle = low + (high - low) / 2;
        if (before(m, s, middle, n, checked) < token) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The interval of each length of context; empty from the first length on that does not occur. */
static void narrow(const Memory *m, const Segment *s, const int32_t *context, Intervals *found) {
    long low = 0, high = s->entries;
    found->low[0] = low;
    found->high[0] = high;
    for (long n = 1; n <= m->length; n++) {
        int32_t token = context[n - 1];
        if (token < 0) high = low;
        if (low < high) {
            int checked = n > 1 && context[n - 2] == m->boundary;
            low = first_from(m, s, low, high, n, token, checked);
            high = first_from(m, s, low, high, n, token + 1, checked);
        }
        found->low[n] = low;
        found->high[n] = high;
    }
}

FOR_EACH_W clear(Histogram *h, long w) {
    for (long i = 0; i < h->num_seen; i++) memset(h->value + h->seen[i] * w, 0, w * sizeof(float));
    for (long k = 0; k < w; k++) {
        h->total[k] = 0;
        h->best[k] = 0;
        h->favourite[k] = -1;
    }
    h->num_seen = h->documents = 0;
    h->now++;
}

/* Counts one entry, unless its document is excluded. Of equally frequent tokens the favourite is
   the one with the lowest id: a count only grows, so comparing the grown one suffices. */
FOR_EACH_W count(const Memory *m, const Segment *s, long entry, const float *weights, Histogram *h,
                 long w) {
    long place = s->base + s->order[entry];
    if (place >= h->limit) return;
    long chunk = h->shift < 0 ? place / m->chunk_size : place >> h->shift;
    int32_t document = m->document[chunk];
    const float *weight = weights + document * w;
    if (weight[0] == 0) return;
    int32_t token = id_at(s->following, m->token_bytes, entry);
    float *value = h->value + (long)token * w;
    if (value[0] == 0) h->seen[h->num_seen++] = token;
    if (h->stamp[document] != h->now) {
        h->stamp[document] = h->now;
        h->documents++;
    }
    for (long k = 0; k < w; k++) {
        value[k] += weight[k];
        h->total[k] += weight[k];
        if (value[k] > h->best[k] || (value[k] == h->best[k] && token < h->favourite[k])) {
            h->best[k] = value[k];
            h->favourite[k] = token;
        }
    }
}

/* Counts every s-th entry of the intervals, outside the ignored ones. */
FOR_EACH_W sample(const Memory *m, const Intervals *all, long n, long size, long ignored,
                  const float *weights, Histogram *h, long w) {
    long step = (size + m->most - 1) / m->most, skip = 0;
    for (long i = 0; i < m->num_segments; i++) {
        long low = all[i].low[n], high = all[i].high[n], entry = low + skip;
        for (; entry < high; entry += step) {
            int out = ignored && entry >= all[i].low[ignored] && entry < all[i].high[ignored];
            if (!out) count(m, m->segments + i, entry, weights, h, w);
        }
        skip = entry - high;
    }
}

/* The sample of a query's shortest context, or the last one if that is of the same entries. */
FOR_EACH_W sample_shortest(const Memory *m, const Intervals *all, long n, long size, long ignored,
                           const float *weights, Sampled *of, long w) {
    int same = of->size == size && !ignored;
    for (long i = 0; same && i < m->num_segments; i++)
        same = of->low[i] == all[i].low[n] && of->high[i] == all[i].high[n];
    if (same && of->counts.limit == INT64_MAX) return;
    clear(&of->counts, w);
    sample(m, all, n, size, ignored, weights, &of->counts, w);
    of->size = size;
    for (long i = 0; i < m->num_segments; i++) {
        of->low[i] = all[i].low[n];
        of->high[i] = all[i].high[n];
    }
}

FOR_EACH_W record(const Histogram *h, int32_t target, long row, const Evidence *out, long w) {
    out->types[row] = h->num_seen;
    out->documents[row] = h->documents;
    for (long k = 0; k < w; k++) {
        out->total[row * w + k] = (float)h->total[k];
        out->hit[row * w + k] = target < 0 ? 0 : h->value[(long)target * w + k];
        out->best[row * w + k] = h->best[k];
        out->favourite[row * w + k] = h->favourite[k];
    }
}

FOR_EACH_W mix(const Histogram *h, const float *shares, float *mixture, long w) {
    for (long k = 0; k < w; k++) {
        if (shares[k] == 0 || h->total[k] == 0) continue;
        double factor = shares[k] / h->total[k];
        for (long i = 0; i < h->num_seen; i++)
            mixture[h->seen[i]] += (float)(factor * h->value[(long)h->seen[i] * w + k]);
    }
}

FOR_EACH_W read_one(const Memory *m, const Queries *q, long t, Intervals *all, Histogram *h,
                    Sampled *shortest, const Evidence *out, long w) {
    long ignored = m->max_run && m->max_run < m->length ? m->max_run + 1 : 0;
    long counted = ignored ? ignored : m->length + 1;  /* length whose entries are done */
    for (long i = 0; i < m->num_segments; i++)
        narrow(m, m->segments + i, q->contexts + t * m->length, all + i);
    clear(h, w);
    h->limit = shortest->counts.limit = q->limits ? q->limits[t] : INT64_MAX;
    for (long o = m->num_orders - 1; o >= 0; o--) {
        long n = m->orders[o], size = 0, row = t * m->num_orders + o;
        if (!ignored || n < ignored)
            for (long i = 0; i < m->num_segments; i++) size += all[i].high[n] - all[i].low[n];
        const Histogram *counts = h;
        if (size > m->most && o == 0) {
            sample_shortest(m, all, n, size, ignored, q->weights, shortest, w);
            counts = &shortest->counts;
        } else if (size > m->most) {
            clear(h, w);
            sample(m, all, n, size, ignored, q->weights, h, w);
        } else if (size > 0) {
            for (long i = 0; i < m->num_segments; i++) {
                long low = all[i].low[n], high = all[i].high[n];
                long from = low, to = low;  /* entries of longer contexts, already counted */
                if (counted <= m->length && all[i].low[counted] < all[i].high[counted]) {
                    from = all[i].low[counted];
                    to = all[i].high[counted];
                }
                for (long e = low; e < from; e++) count(m, m->segments + i, e, q->weights, h, w);
                for (long e = to; e < high; e++) count(m, m->segments + i, e, q->weights, h, w);
            }
            counted = n;
        }
        record(counts, q->targets[t], row, out, w);
        if (out->mixture && q->shares)
            mix(counts, q->shares + row * w, out->mixture + t * m->vocabulary, w);
    }
    clear(h, w);
}

/* Room for counts, all zero; 0 if memory ran out. */
static int open_histogram(const Memory *m, Histogram *h) {
    h->value = calloc(m->vocabulary * m->num_weightings, sizeof(float));
    h->seen = malloc(m->vocabulary * sizeof(int32_t));
    h->stamp = calloc(m->documents, sizeof(int32_t));
    h->shift = m->chunk_size & (m->chunk_size - 1) ? -1 : __builtin_ctzl(m->chunk_size);
    return h->value && h->seen && h->stamp;
}

static void close_histogram(Histogram *h) {
    free(h->value);
    free(h->seen);
    free(h->stamp);
}

/* Returns 0, or 1 if memory ran out. */
int read_contexts(const Memory *m, const Queries *q, long count, const Evidence *out, int threads) {
    int failed = 0;
    #pragma omp parallel num_threads(threads)
    {
        Histogram h = {0};
        Sampled shortest = {0};
        Intervals *all = malloc(m->num_segments * sizeof(Intervals));
        shortest.low = malloc(m->num_segments * sizeof(long));
        shortest.high = malloc(m->num_segments * sizeof(long));
        int opened = open_histogram(m, &h) & open_histogram(m, &shortest.counts);
        if (!opened || !all || !shortest.low || !shortest.high) {
            #pragma omp atomic write
            failed = 1;
        }
        #pragma omp barrier
        if (!failed) {
            #pragma omp for schedule(dynamic, 8)
            for (long turn = 0; turn < count; turn++) {
                long t = q->turns[turn];
                if (m->num_weightings == 1) read_one(m, q, t, all, &h, &shortest, out, 1);
                else if (m->num_weightings == 3) read_one(m, q, t, all, &h, &shortest, out, 3);
                else read_one(m, q, t, all, &h, &shortest, out, m->num_weightings);
            }
        }
        close_histogram(&h);
        close_histogram(&shortest.counts);
        free(shortest.low);
        free(shortest.high);
        free(all);
    }
    return failed;
}
