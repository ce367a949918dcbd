/* Loops over pairs that stay in the cache: what torch does in a pass per operation.

   Every function has its counterpart in torch operations, the reference that the tests compare it
   with and that is used where no compiler was at hand. Values are float32. No Python headers are
   needed: the functions are called through ctypes, which leaves other threads running. */

#include "powers.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* Sum 2^e e^k for k = 0 to 3 over e = factor * tile. Where period is not 0 the entry of row i in
   column i % period is left out: it is an item's pair with itself. */
FOR_EACH_PROCESSOR
void sum_moments(
    const float *tile, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float factor,
    ptrdiff_t period, double sums[4])
{
    for (int k = 0; k < 4; k++)
        sums[k] = 0;
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const float *row = tile + i * stride;
        ptrdiff_t own = period ? i % period : n_columns;
        add_moments(row, own, factor, sums);
        if (own < n_columns)
            add_moments(row + own + 1, n_columns - own - 1, factor, sums);
    }
}

/* Write min(0, product - half_x - half_y) of a tile; of one on the diagonal the half above it,
   mirrored, and zeros on it. */
FOR_EACH_PROCESSOR
void subtract_norms(
    const float *restrict products, ptrdiff_t n_rows, ptrdiff_t n_columns,
    const float *restrict half_x, const float *restrict half_y, float *restrict to,
    ptrdiff_t stride, int on_diagonal)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const float *from = products + i * n_columns;
        float *row = to + i * stride, half = half_x[i];
        for (ptrdiff_t j = 0; j < n_columns; j++) {
            float value = from[j] - half - half_y[j];
            row[j] = value < 0 ? value : 0;
        }
    }
    if (!on_diagonal)
        return;
    for (ptrdiff_t top = 0; top < n_rows; top += ROWS_OF_STRIP) {
        ptrdiff_t end = top + ROWS_OF_STRIP < n_rows ? top + ROWS_OF_STRIP : n_rows;
        for (ptrdiff_t j = 0; j < end; j++)
            for (ptrdiff_t i = top > j + 1 ? top : j + 1; i < end; i++)
                to[i * stride + j] = to[j * stride + i];
    }
    for (ptrdiff_t i = 0; i < n_rows; i++)
        to[i * stride + i] = 0;
}

/* Write 2^(factor * tile) to one place and its mirror image to another; return the sum. The first
   place may be the tile itself. */
FOR_EACH_PROCESSOR
double exponentiate(
    const float *tile, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float factor,
    float *to, ptrdiff_t to_stride, float *mirrored, ptrdiff_t mirrored_stride)
{
    return exponentiate_tile(
        tile, n_rows, n_columns, stride, factor, to, to_stride, mirrored, mirrored_stride);
}
