/* Powers of two and their sums, which every compiled loop is about. Values are float32. */

#ifndef RELSPACE_POWERS_H
#define RELSPACE_POWERS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _MSC_VER
#define INLINE static __forceinline
#else
#define INLINE static inline __attribute__((always_inline))
#endif

#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED
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
INLINE float power_of_two(float x)
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
INLINE float scaled(float value, float factor)
{
    float exponent = value * factor;
    return exponent > LOWEST_EXPONENT ? exponent : LOWEST_EXPONENT;
}

INLINE float scaled_power(float value, float factor)
{
    return power_of_two(scaled(value, factor));
}

/* Minus half the squared distance of two points, at most 0, from their scalar product and half
   their squared norms. */
INLINE float minus_half_squared(float product, float half, float other)
{
    float value = product - half - other;
    return value < 0 ? value : 0;
}

INLINE void add_moments(const float *row, ptrdiff_t n, float factor, double sums[4])
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

INLINE void exponentiate_tile(
    const float *tile, ptrdiff_t n_rows, ptrdiff_t n_columns, ptrdiff_t stride, float factor,
    float *to, ptrdiff_t to_stride, float *mirrored, ptrdiff_t mirrored_stride)
{
    float strip[ROWS_OF_STRIP][COLUMNS_OF_STRIP];
    for (ptrdiff_t top = 0; top < n_rows; top += ROWS_OF_STRIP) {
        ptrdiff_t height = n_rows - top < ROWS_OF_STRIP ? n_rows - top : ROWS_OF_STRIP;
        for (ptrdiff_t left = 0; left < n_columns; left += COLUMNS_OF_STRIP) {
            ptrdiff_t width = n_columns - left;
            width = width < COLUMNS_OF_STRIP ? width : COLUMNS_OF_STRIP;
            for (ptrdiff_t i = 0; i < height; i++) {
                const float *row = tile + (top + i) * stride + left;
                for (ptrdiff_t j = 0; j < width; j++)
                    strip[i][j] = scaled_power(row[j], factor);
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
}

#endif
