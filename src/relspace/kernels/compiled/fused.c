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
EXPORTED void sum_moments(
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
EXPORTED void subtract_norms(
    const float *restrict products, ptrdiff_t n_rows, ptrdiff_t n_columns,
    const float *restrict half_x, const float *restrict half_y, float *restrict to,
    ptrdiff_t stride, int on_diagonal)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const float *from = products + i * n_columns;
        float *row = to + i * stride, half = half_x[i];
        for (ptrdiff_t j = 0; j < n_columns; j++)
            row[j] = minus_half_squared(from[j], half, half_y[j]);
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

/* Write 2^(factor * tile) to a matrix, which may be the tile itself, and its transpose to another. */
FOR_EACH_PROCESSOR
EXPORTED void exponentiate(
    const float *tile, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float factor,
    float *to, ptrdiff_t to_stride, float *mirrored, ptrdiff_t mirrored_stride)
{
    exponentiate_tile(
        tile, n_rows, n_columns, stride, factor, to, to_stride, mirrored, mirrored_stride);
}

/* Turn rows, in place, into what they are described by, step by step while one is in the cache.
   With "half_x", products with landmarks become affinities 2^(factor * (product - half_x - half_y)).
   With "mean", it is subtracted from every row, and each column multiplied by "per_column" if that
   is given. With "last", rows get mean 0 and norm 1. A row's own column, unless "own" is not given
   or negative there, is 0 and does not count. */
FOR_EACH_PROCESSOR
EXPORTED void describe_rows(
    float *rows, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride,
    const float *restrict half_x, const float *restrict half_y, float factor,
    const float *restrict mean, const float *restrict per_column, const int64_t *own, int last)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        float *restrict row = rows + i * stride;
        if (half_x != NULL) {
            float half = half_x[i];
            for (ptrdiff_t j = 0; j < n_columns; j++)
                row[j] = scaled_power(minus_half_squared(row[j], half, half_y[j]), factor);
        }
        if (mean != NULL && per_column != NULL)
            for (ptrdiff_t j = 0; j < n_columns; j++)
                row[j] = (row[j] - mean[j]) * per_column[j];
        else if (mean != NULL)
            for (ptrdiff_t j = 0; j < n_columns; j++)
                row[j] -= mean[j];
        int has_own = own != NULL && own[i] >= 0;
        if (has_own)
            row[own[i]] = 0;
        if (!last)
            continue;
        float sum = 0, square = 0;
        for (ptrdiff_t j = 0; j < n_columns; j++)
            sum += row[j];
        ptrdiff_t used = n_columns - has_own;
        float center = used > 0 ? sum / used : 0;
        if (has_own)
            row[own[i]] = center;
        for (ptrdiff_t j = 0; j < n_columns; j++) {
            row[j] -= center;
            square += row[j] * row[j];
        }
        float scale = square > 0 ? 1 / sqrtf(square) : 1;
        for (ptrdiff_t j = 0; j < n_columns; j++)
            row[j] *= scale;
    }
}

/* Write scale * (row - origin), and half the squared norms of what comes out. */
FOR_EACH_PROCESSOR
EXPORTED void place_rows(
    const float *rows, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride,
    const float *restrict origin, float scale, float *restrict points, float *restrict half_norms)
{
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        const float *row = rows + i * stride;
        float *restrict point = points + i * n_columns, square = 0;
        for (ptrdiff_t j = 0; j < n_columns; j++) {
            float value = (row[j] - origin[j]) * scale;
            point[j] = value;
            square += value * value;
        }
        half_norms[i] = square / 2;
    }
}
