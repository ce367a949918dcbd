/* The points of a set: its origin and its size, and its items in units of these. */

#ifndef RELSPACE_PLACING_H
#define RELSPACE_PLACING_H

#include "powers.h"

#define ROWS_TO_LOCATE 33
/* Larger than any size of a set. */
#define FAR 1e300

/* A set whose affinities with itself are computed. */
struct whole_set {
    /* Given: features; the bandwidth, or 0 where it is solved for the density; the last step of
       the iteration, and the rounding of a squared distance relative to the largest half squared
       norm. */
    const float *rows;
    ptrdiff_t n, width, stride;
    double sigma, density, last_step, rounding;
    /* Memory for the result, the origin, half squared norms and points (both of a whole number of
       strips), and 8 sums for each strip. */
    float *matrix, *origin, *half_norms, *panels;
    double *sums;
    /* The level of x86-64 to use; how many threads work, a function that calls another in all of
       them, and their barrier, or NULL for both where one works. */
    ptrdiff_t level, n_threads;
    void (*team)(void (*)(void *), void *, unsigned, unsigned);
    void (*wait)(void);
    /* Found: the size of the set, and the bandwidth in units of it, as log sigma^2. */
    double unit, log_variance;
    ptrdiff_t iterations, done;
    /* How many strips of each step have been taken. */
    ptrdiff_t *taken;
};

INLINE ptrdiff_t count_strips(ptrdiff_t n)
{
    return (n + ROWS_OF_STRIP - 1) / ROWS_OF_STRIP;
}

/* Write the coordinate-wise median of a few rows, the upper one of an even number; return the
   median, the lower one, of their distances from it. */
INLINE double locate_rows(
    const float *rows, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float *origin)
{
    for (ptrdiff_t left = 0; left < n_columns; left += 16) {
        ptrdiff_t width = n_columns - left < 16 ? n_columns - left : 16;
        float sorted[ROWS_TO_LOCATE][16] = {0};
        for (ptrdiff_t i = 0; i < n_rows; i++)
            memcpy(sorted[i], rows + i * stride + left, width * sizeof(float));
        /* Neighbours change places, all columns at once (odd-even transposition). */
        for (ptrdiff_t round = 0; round < n_rows; round++)
            for (ptrdiff_t i = round & 1; i + 1 < n_rows; i += 2)
                for (ptrdiff_t j = 0; j < 16; j++) {
                    float one = sorted[i][j], other = sorted[i + 1][j];
                    sorted[i][j] = one < other ? one : other;
                    sorted[i + 1][j] = one < other ? other : one;
                }
        memcpy(origin + left, sorted[n_rows / 2], width * sizeof(float));
    }
    double squares[ROWS_TO_LOCATE];
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

/* Bring the items of a strip to the origin and size of the set. They lie feature after feature,
   16 items side by side; what is missing in the last strip is 0. */
INLINE void place_strip(struct whole_set *set, ptrdiff_t strip)
{
    ptrdiff_t top = strip * ROWS_OF_STRIP;
    ptrdiff_t height = set->n - top < ROWS_OF_STRIP ? set->n - top : ROWS_OF_STRIP;
    float *panel = set->panels + top * set->width;
    float scale = (float)(1 / set->unit);
    float squares[ROWS_OF_STRIP][16] = {{0}};
    for (ptrdiff_t left = 0; left < set->width; left += 16) {
        ptrdiff_t width = set->width - left < 16 ? set->width - left : 16;
        float block[ROWS_OF_STRIP][16] = {{0}}, origin[16] = {0};
        memcpy(origin, set->origin + left, width * sizeof(float));
        for (ptrdiff_t i = 0; i < height; i++) {
            float values[16] = {0};
            memcpy(values, set->rows + (top + i) * set->stride + left, width * sizeof(float));
            for (ptrdiff_t j = 0; j < 16; j++) {
                float value = (values[j] - origin[j]) * scale;
                block[i][j] = value;
                squares[i][j] += value * value;
            }
        }
        for (ptrdiff_t j = 0; j < width; j++)
            for (ptrdiff_t i = 0; i < ROWS_OF_STRIP; i++)
                panel[(left + j) * ROWS_OF_STRIP + i] = block[i][j];
    }
    for (ptrdiff_t i = 0; i < ROWS_OF_STRIP; i++) {
        float square = 0;
        for (ptrdiff_t j = 0; j < 16; j++)
            square += squares[i][j];
        set->half_norms[top + i] = square / 2;
    }
}

/* The largest half squared norm; FAR where one is not finite. Bits are compared, because the
   compiler is told that all values are finite. */
INLINE double find_farthest(const struct whole_set *set)
{
    int32_t largest = 0;
    for (ptrdiff_t i = 0; i < set->n; i++) {
        int32_t bits;
        memcpy(&bits, set->half_norms + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7f800000)
        return FAR;
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

#endif
