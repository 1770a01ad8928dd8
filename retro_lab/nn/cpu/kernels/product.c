/* Activations times weights. Weights are packed once for many rows, so that a tile's weights are
 * contiguous. */
#include "product.h"

#define DEPTH (16384 / (long)sizeof(real) / TILE_COLS) /* rows of a 16 KB panel, half an L1 cache */
#define SOME_ROWS (16 * TILE_ROWS) /* rows of a task: reuse a panel, share work evenly */

static long in_tiles(long cols) { return (cols + TILE_COLS - 1) / TILE_COLS * TILE_COLS; }

/* Length of `panels` for `pack`, in numbers. */
long packed_size(long depth, long cols) { return depth * in_tiles(cols); }

/* panels: blocks of B [depth, cols], by every DEPTH rows and every TILE_COLS columns, with zeros
 * beyond the last column. B's element (k, j) is from[k * row + j * col]. */
void pack(const real *from, long depth, long cols, long row, long col, real *panels, int threads)
{
    const long wide = in_tiles(cols);
    for (long d = 0; d < depth; d += DEPTH) {
        long deep = depth - d < DEPTH ? depth - d : DEPTH;
#pragma omp parallel for num_threads(threads)
        for (long j = 0; j < wide; j += TILE_COLS) {
            real *to = panels + d * wide + j * deep;
            long left = cols - j < TILE_COLS ? cols - j : TILE_COLS;
            const real *at = from + d * row + j * col;
            if (left < TILE_COLS) memset(to, 0, sizeof(real) * TILE_COLS * deep);
            if (col == 1) /* read in the order of memory, whichever way round the matrix lies */
                for (long k = 0; k < deep; k++)
                    memcpy(to + k * TILE_COLS, at + k * row, sizeof(real) * left);
            else
                for (long l = 0; l < left; l++)
                    for (long k = 0; k < deep; k++)
                        to[k * TILE_COLS + l] = at[k * row + l * col];
        }
    }
}

/* out [rows, cols] = x B, or += with `add`, for `deep` rows of packed B. */
static void with_panels(const real *x, long x_row, long rows, long deep, const real *panels,
                        long cols, real *out, int add)
{
    real edge[SOME_ROWS * TILE_COLS];
    long j = 0;
    for (; j + TILE_COLS <= cols; j += TILE_COLS)
        columns(2, rows, deep, x, x_row, 1, panels + j * deep, TILE_COLS, out + j, cols, add);
    if (j == cols) return;
    columns(2, rows, deep, x, x_row, 1, panels + j * deep, TILE_COLS, edge, TILE_COLS, 0);
    for (long i = 0; i < rows; i++)
        for (long l = 0; j + l < cols; l++) {
            real *at = out + i * cols + j + l;
            *at = edge[i * TILE_COLS + l] + (add ? *at : 0);
        }
}

/* out [rows, cols] = x B, or beside + x B, for x [rows, depth] and packed B. */
void multiply(const real *x, long x_row, long rows, long depth, const real *panels, long cols,
              const real *beside, real *out, int threads)
{
    const long wide = in_tiles(cols);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long i = 0; i < rows; i += SOME_ROWS) {
        long some = rows - i < SOME_ROWS ? rows - i : SOME_ROWS;
        real *to = out + i * cols;
        if (beside) memcpy(to, beside + i * cols, sizeof(real) * some * cols);
        for (long d = 0; d < depth; d += DEPTH) {
            long deep = depth - d < DEPTH ? depth - d : DEPTH;
            with_panels(x + i * x_row + d, x_row, some, deep, panels + d * wide, cols, to,
                        beside || d);
        }
    }
}
