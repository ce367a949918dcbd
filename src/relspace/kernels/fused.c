/* Loops over pairs that stay in the cache: what torch does in a pass per operation.

   Every function has its counterpart in torch operations, the reference that the tests compare it
   with and that is used where no compiler was at hand. Values are float32. No Python headers are
   needed: the functions are called through ctypes, which leaves other threads running. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#define ROWS_OF_STRIP 16
#define COLUMNS_OF_STRIP 512

/* The smallest power of two that is a normal float; it is finite, so that its product with an
   affinity of 0 is 0. */
#define LOWEST_EXPONENT (-126.0f)
#define SMALLEST_POWER 0x1p-126f

/* 2^x for x <= 0, to 1e-7 of it, 1 for 0, and 0 from the lowest exponent on: a power of two times
   a polynomial on [-0.5, 0.5], fitted at Chebyshev nodes. Without a branch, which would keep the
   compiler from vectors. */
static inline __attribute__((always_inline)) float power_of_two(float x)
{
    int32_t whole = (int32_t)(x - 0.5f);
    float rest = x - (float)whole;
    float value = 1.54614475e-4f;
    value = value * rest + 1.33908674e-3f;
    value = value * rest + 9.61805667e-3f;
    value = value * rest + 5.55035710e-2f;
    value = value * rest + 2.40226509e-1f;
    value = value * rest + 6.93147188e-1f;
    value = value * rest + 1.0f;
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += whole * (1 << 23);
    memcpy(&value, &bits, sizeof value);
    return value - SMALLEST_POWER;
}

/* An exponent of the power of two, not below the lowest one. */
static inline __attribute__((always_inline)) float scaled(float value, float factor)
{
    float exponent = value * factor;
    return exponent > LOWEST_EXPONENT ? exponent : LOWEST_EXPONENT;
}

static inline __attribute__((always_inline)) float scaled_power(float value, float factor)
{
    return power_of_two(scaled(value, factor));
}

static inline __attribute__((always_inline)) void add_moments(
    const float *row, ptrdiff_t n, float factor, double sums[4])
{
    float zeroth = 0, first = 0, second = 0, third = 0;
    for (ptrdiff_t j = 0; j < n; j++) {
        float exponent = scaled(row[j], factor);
        float term = power_of_two(exponent);
        zeroth += term;
        term *= exponent;
        first += term;
        term *= exponent;
        second += term;
        term *= exponent;
        third += term;
    }
    sums[0] += zeroth;
    sums[1] += first;
    sums[2] += second;
    sums[3] += third;
}

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

static inline __attribute__((always_inline)) double exponentiate_tile(
    const float *tile, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float factor,
    float *to, ptrdiff_t to_stride, float *mirrored, ptrdiff_t mirrored_stride)
{
    float strip[ROWS_OF_STRIP][COLUMNS_OF_STRIP];
    double total = 0;
    for (ptrdiff_t top = 0; top < n_rows; top += ROWS_OF_STRIP) {
        ptrdiff_t height = n_rows - top < ROWS_OF_STRIP ? n_rows - top : ROWS_OF_STRIP;
        for (ptrdiff_t left = 0; left < n_columns; left += COLUMNS_OF_STRIP) {
            ptrdiff_t width = n_columns - left;
            width = width < COLUMNS_OF_STRIP ? width : COLUMNS_OF_STRIP;
            for (ptrdiff_t i = 0; i < height; i++) {
                const float *row = tile + (top + i) * stride + left;
                float sum = 0;
                for (ptrdiff_t j = 0; j < width; j++) {
                    float value = scaled_power(row[j], factor);
                    strip[i][j] = value;
                    sum += value;
                }
                total += sum;
                memcpy(to + (top + i) * to_stride + left, strip[i], width * sizeof(float));
            }
            if (mirrored == NULL)
                continue;
            if (height == ROWS_OF_STRIP) {
                for (ptrdiff_t j = 0; j < width; j++) {
                    float *line = mirrored + (left + j) * mirrored_stride + top;
                    for (ptrdiff_t i = 0; i < ROWS_OF_STRIP; i++)
                        line[i] = strip[i][j];
                }
            } else {
                for (ptrdiff_t j = 0; j < width; j++)
                    for (ptrdiff_t i = 0; i < height; i++)
                        mirrored[(left + j) * mirrored_stride + top + i] = strip[i][j];
            }
        }
    }
    return total;
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

/* What follows is of a whole set with itself. The three functions that take a pointer to a struct
   may run in several threads on the same one: each takes the next strip of rows that none has. */

#define MOST_ROWS_TO_LOCATE 33
#define COLUMNS_TO_LOCATE 16
#define ROWS_TO_PLACE 32

/* Write the coordinate-wise median of a few rows, the upper one of an even number; return the
   median, the lower one, of their distances from it. */
FOR_EACH_PROCESSOR
double locate(
    const float *rows, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float *origin)
{
    for (ptrdiff_t left = 0; left < n_columns; left += COLUMNS_TO_LOCATE) {
        ptrdiff_t width = n_columns - left;
        width = width < COLUMNS_TO_LOCATE ? width : COLUMNS_TO_LOCATE;
        float sorted[MOST_ROWS_TO_LOCATE][COLUMNS_TO_LOCATE] = {0};
        for (ptrdiff_t i = 0; i < n_rows; i++)
            memcpy(sorted[i], rows + i * stride + left, width * sizeof(float));
        /* Neighbours change places, all columns at once (odd-even transposition). */
        for (ptrdiff_t round = 0; round < n_rows; round++)
            for (ptrdiff_t i = round & 1; i + 1 < n_rows; i += 2)
                for (ptrdiff_t j = 0; j < COLUMNS_TO_LOCATE; j++) {
                    float one = sorted[i][j], other = sorted[i + 1][j];
                    sorted[i][j] = one < other ? one : other;
                    sorted[i + 1][j] = one < other ? other : one;
                }
        memcpy(origin + left, sorted[n_rows / 2], width * sizeof(float));
    }
    double squares[MOST_ROWS_TO_LOCATE];
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        double square = 0;
        for (ptrdiff_t j = 0; j < n_columns; j++) {
            double difference = (double)rows[i * stride + j] - origin[j];
            square += difference * difference;
        }
        ptrdiff_t k = i;
        for (; k > 0 && squares[k - 1] > square; k--)
            squares[k] = squares[k - 1];
        squares[k] = square;
    }
    return sqrt(squares[(n_rows - 1) / 2]);
}

struct placing {
    const float *rows, *origin;
    ptrdiff_t n_rows, n_columns, stride;
    float scale;
    float *points, *half_norms;
    ptrdiff_t next;
};

/* Write scale * (row - origin) and half its squared norm. */
FOR_EACH_PROCESSOR
void place_rows(struct placing *work)
{
    for (;;) {
        ptrdiff_t top = ROWS_TO_PLACE * __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (top >= work->n_rows)
            return;
        ptrdiff_t end = top + ROWS_TO_PLACE < work->n_rows ? top + ROWS_TO_PLACE : work->n_rows;
        for (ptrdiff_t i = top; i < end; i++) {
            const float *restrict row = work->rows + i * work->stride, *restrict origin = work->origin;
            float *restrict point = work->points + i * work->n_columns;
            float scale = work->scale, square = 0;
            for (ptrdiff_t j = 0; j < work->n_columns; j++) {
                float value = (row[j] - origin[j]) * scale;
                point[j] = value;
                square += value * value;
            }
            work->half_norms[i] = square / 2;
        }
    }
}

/* A matrix whose entries above the diagonal are worked on, in strips of 16 rows. Where "fresh",
   they are products still, of which half the squared norms are to be taken away. */
struct strips {
    float *matrix;
    const float *half_norms;
    ptrdiff_t n, first, end;
    float factor;
    int fresh;
    double *sums;
    ptrdiff_t next;
};

static inline __attribute__((always_inline)) void subtract_halves(
    float *row, const float *halves, ptrdiff_t n, float half)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        float value = row[j] - half - halves[j];
        row[j] = value < 0 ? value : 0;
    }
}

/* Of the rows from first, a whole number of strips, to end: sum 2^e e^k for k = 0 to 3 over the
   entries e = factor * value above the diagonal, four sums for each strip. */
FOR_EACH_PROCESSOR
void sum_strips(struct strips *work)
{
    for (;;) {
        ptrdiff_t strip = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        ptrdiff_t top = work->first + strip * ROWS_OF_STRIP;
        if (top >= work->end)
            return;
        ptrdiff_t end = top + ROWS_OF_STRIP < work->end ? top + ROWS_OF_STRIP : work->end;
        double *sums = work->sums + 4 * (top / ROWS_OF_STRIP);
        for (int k = 0; k < 4; k++)
            sums[k] = 0;
        for (ptrdiff_t i = top; i < end; i++) {
            float *row = work->matrix + i * work->n + i + 1;
            if (work->fresh)
                subtract_halves(
                    row, work->half_norms + i + 1, work->n - i - 1, work->half_norms[i]);
            add_moments(row, work->n - i - 1, work->factor, sums);
        }
    }
}

/* Write 2^(factor * value) of every entry above the diagonal there and to its mirror image, and 1
   on the diagonal; the first sum of a strip is that of the entries above the diagonal. */
FOR_EACH_PROCESSOR
void exponentiate_strips(struct strips *work)
{
    ptrdiff_t n = work->n;
    for (;;) {
        ptrdiff_t strip = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        ptrdiff_t top = strip * ROWS_OF_STRIP;
        if (top >= n)
            return;
        ptrdiff_t end = top + ROWS_OF_STRIP < n ? top + ROWS_OF_STRIP : n;
        if (work->fresh)
            for (ptrdiff_t i = top; i < end; i++)
                subtract_halves(
                    work->matrix + i * n + i + 1, work->half_norms + i + 1, n - i - 1,
                    work->half_norms[i]);
        float *right = work->matrix + top * n + end, *below = work->matrix + end * n + top;
        double total = exponentiate_tile(
            right, end - top, n - end, n, work->factor, right, n, below, n);
        for (ptrdiff_t i = top; i < end; i++) {
            work->matrix[i * n + i] = 1;
            for (ptrdiff_t j = i + 1; j < end; j++) {
                float value = scaled_power(work->matrix[i * n + j], work->factor);
                work->matrix[i * n + j] = work->matrix[j * n + i] = value;
                total += value;
            }
        }
        work->sums[4 * strip] = total;
    }
}
