/* Matrix products with operands in the cache and one tile of the result in registers. */
#include "vector.h"

#define TILE_ROWS 6 /* rows of a tile; its columns are two vectors */
#define TILE_COLS (2 * LANES)

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
    for (; j + TILE_COLS <= cols; j += TILE_COLS)
        columns(2, rows, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
    if (j < cols) columns(1, rows, depth, a, a_row, a_col, b + j, b_row, c + j, c_row, add);
}
