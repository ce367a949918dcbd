/* Affinities of a whole set with itself, from features to matrix, every pair once.

   The threads of a team go through the same steps, and take the same decisions from the same sums.
   Within a step each takes the next strip of 16 rows; the result of a strip does not depend on the
   thread. Values are float32, sums of rows float64. */

#include "placing.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(RELSPACE_PORTABLE)
#define HAS_LEVELS
#endif

#if defined(__GNUC__) && !defined(RELSPACE_PORTABLE)
#define HAS_VECTORS
#endif

/* One strip of so many, and at most the second number, gives the start of the iteration. */
#define STRIPS_FOR_START 16
#define MOST_TO_START 8
/* One neighbour for so many strips, and at most the second number, are filled together. */
#define STRIPS_TO_SHARE 64
#define MOST_TO_SHARE 4
/* Features of two panels of 16 items that fit the first cache. */
#define FEATURES_AT_ONCE 256
#define MOST_ITERATIONS 100
/* Two solutions, and six other steps at most. */
#define MOST_STEPS 256
#define LONGEST_STEP 4.0
#define LOG2_E 1.4426950408889634

/* One thread of the team, and the step that it is in. */
struct member {
    struct whole_set *set;
    ptrdiff_t step;
};

/* The next strip of this step that no thread has taken. */
INLINE ptrdiff_t take(struct member *me)
{
#ifdef HAS_VECTORS
    return __atomic_fetch_add(&me->set->taken[me->step], 1, __ATOMIC_RELAXED);
#else
    /* Other compilers' libraries are never called by several threads (_find_team in library.py). */
    return me->set->taken[me->step]++;
#endif
}

INLINE void end_step(struct member *me)
{
    me->step++;
    if (me->set->wait != NULL)
        me->set->wait();
}

/* Where a step writes its sums: apart from those of the step before, which may still be read. */
INLINE double *sums_of_step(const struct whole_set *set, ptrdiff_t step)
{
    return set->sums + (step & 1) * 4 * count_strips(set->n);
}

typedef void (*multiplication)(const float *, const float *, ptrdiff_t, float *);

/* Write minus half the squared distances of a block of 16 rows and columns. */
INLINE void fill_block(
    struct whole_set *set, ptrdiff_t top, ptrdiff_t left, multiplication multiply)
{
    ptrdiff_t n = set->n, width = set->width;
    ptrdiff_t height = n - top < ROWS_OF_STRIP ? n - top : ROWS_OF_STRIP;
    ptrdiff_t columns = n - left < 16 ? n - left : 16;
    const float *halves = set->half_norms + top, *other = set->half_norms + left;
    float tile[ROWS_OF_STRIP * 16] = {0};
    for (ptrdiff_t begin = 0; begin < width; begin += FEATURES_AT_ONCE) {
        ptrdiff_t part = width - begin < FEATURES_AT_ONCE ? width - begin : FEATURES_AT_ONCE;
        const float *panels = set->panels + begin * ROWS_OF_STRIP;
        multiply(panels + top * width, panels + left * width, part, tile);
    }
    for (ptrdiff_t i = 0; i < height; i++) {
        float row[16], *to = set->matrix + (top + i) * n + left;
        for (ptrdiff_t j = 0; j < 16; j++)
            row[j] = minus_half_squared(tile[i * 16 + j], halves[i], other[j]);
        /* Where the size is known to the compiler, this is one instruction. */
        if (columns == 16)
            memcpy(to, row, sizeof row);
        else
            memcpy(to, row, columns * sizeof(float));
    }
}

/* Every so many-th strip, up to a count. */
struct some {
    ptrdiff_t count, every;
};

INLINE int is_among(const struct some *some, ptrdiff_t strip)
{
    return strip % some->every == 0 && strip / some->every < some->count;
}

/* Fill neighbouring strips from their blocks on the diagonal on, except those filled before; a
   column's panel is used for all of them while it is in the cache. */
INLINE void fill_strips(
    struct whole_set *set, ptrdiff_t first, ptrdiff_t end, const struct some *filled,
    multiplication multiply)
{
    for (ptrdiff_t column = first; column < count_strips(set->n); column++)
        for (ptrdiff_t strip = first; strip < end && strip <= column; strip++)
            if (!is_among(filled, strip))
                fill_block(set, strip * ROWS_OF_STRIP, column * ROWS_OF_STRIP, multiply);
}

/* Sum 2^e e^k for k = 0 to 3 over the entries e = factor * value of a strip above the diagonal. */
INLINE void sum_strip(struct whole_set *set, ptrdiff_t strip, float factor, double sums[4])
{
    ptrdiff_t n = set->n, top = strip * ROWS_OF_STRIP;
    ptrdiff_t end = n - top < ROWS_OF_STRIP ? n : top + ROWS_OF_STRIP;
    for (int k = 0; k < 4; k++)
        sums[k] = 0;
    for (ptrdiff_t i = top; i < end; i++)
        add_moments(set->matrix + i * n + i + 1, n - i - 1, factor, sums);
}

/* Replace every entry above the diagonal by 2^(factor * entry), mirror it, and write 1 on the
   diagonal. */
INLINE void exponentiate_strip(struct whole_set *set, ptrdiff_t strip, float factor)
{
    ptrdiff_t n = set->n, top = strip * ROWS_OF_STRIP;
    ptrdiff_t end = n - top < ROWS_OF_STRIP ? n : top + ROWS_OF_STRIP;
    float *matrix = set->matrix, *right = matrix + top * n + end, *below = matrix + end * n + top;
    exponentiate_tile(right, end - top, n - end, n, factor, right, n, below, n);
    for (ptrdiff_t i = top; i < end; i++) {
        matrix[i * n + i] = 1;
        for (ptrdiff_t j = i + 1; j < end; j++) {
            float value = scaled_power(matrix[i * n + j], factor);
            matrix[i * n + j] = matrix[j * n + i] = value;
        }
    }
}

INLINE double next_step(const double moments[4], double offset)
{
    if (!(moments[0] > 0) || !(moments[1] > 0))
        return offset > 0 ? -LONGEST_STEP : LONGEST_STEP;
    double slope = moments[1] / moments[0], second = moments[2] / moments[0];
    double third = moments[3] / moments[0];
    double curvature = second - slope - slope * slope;
    double change = third - 2 * second - slope * second - (1 + 2 * slope) * curvature;
    double numerator = 6 * slope * slope - 3 * offset * curvature;
    double denominator =
        6 * slope * slope * slope - 6 * offset * slope * curvature + offset * offset * change;
    if (numerator > 0 && denominator > 0)
        return -offset * numerator / denominator;
    return -offset / slope;
}

/* The iteration of `solve_root` in density.py, which explains it, over the pairs of some strips,
   whose sums at the start are those of the step before. Return whether there is a root. */
INLINE int solve(
    struct member *me, const struct some *some, double start, double lowest, double *root,
    ptrdiff_t *iterations)
{
    struct whole_set *set = me->set;
    double n_pairs = 0, low = -FAR, high = FAR, position = start;
    for (ptrdiff_t number = 0; number < some->count; number++) {
        double top = number * some->every * ROWS_OF_STRIP, below = set->n - top;
        double height = below < ROWS_OF_STRIP ? below : ROWS_OF_STRIP;
        n_pairs += height * (below - 1) - height * (height - 1) / 2;
    }
    for (ptrdiff_t iteration = 1; iteration <= MOST_ITERATIONS; iteration++) {
        if (iteration > 1) {
            float factor = (float)(exp(-position) * LOG2_E);
            double *sums = sums_of_step(set, me->step);
            for (ptrdiff_t number; (number = take(me)) < some->count;)
                sum_strip(set, number * some->every, factor, sums + 4 * number);
            end_step(me);
        }
        const double *sums = sums_of_step(set, me->step - 1);
        double moments[4] = {0};
        for (ptrdiff_t number = 0; number < some->count; number++)
            for (int k = 0; k < 4; k++)
                moments[k] += sums[4 * number + k];
        for (int k = 1; k < 4; k++)
            for (int power = 0; power < k; power++)
                moments[k] /= -LOG2_E;
        double offset = moments[0] > 0 ? log(moments[0] / n_pairs / set->density) : -FAR;
        if (offset > 0)
            high = position < high ? position : high;
        else
            low = position > low ? position : low;
        if (high <= lowest)
            return 0;
        *iterations = iteration;
        double step = next_step(moments, offset);
        if (fabs(step) <= set->last_step) {
            *root = position + step;
            return 1;
        }
        step = step > LONGEST_STEP ? LONGEST_STEP : step;
        step = step < -LONGEST_STEP ? -LONGEST_STEP : step;
        double proposed = position + step;
        if (!(low < proposed && proposed < high))
            proposed = (low + high) / 2;
        position = proposed > lowest ? proposed : lowest;
        double size = fabs(position) > 1 ? fabs(position) : 1;
        if (high - low <= 1e-14 * size) {
            *root = position;
            return 1;
        }
    }
    return 0;
}

/* The whole computation, in every thread. All return early together: where a set has no size, where
   it is not finite, and where float32 may be too coarse. */
INLINE void compute(struct whole_set *set, multiplication multiply)
{
    struct member of_team = {set, 0}, *me = &of_team;
    ptrdiff_t n = set->n, n_strips = count_strips(n);
    if (take(me) == 0) {
        ptrdiff_t every = (n + ROWS_TO_LOCATE - 1) / ROWS_TO_LOCATE;
        set->unit = locate_rows(
            set->rows, (n + every - 1) / every, set->width, every * set->stride, set->origin);
    }
    end_step(me);
    if (!(set->unit > 0))
        return;
    for (ptrdiff_t strip; (strip = take(me)) < n_strips;)
        place_strip(set, strip);
    end_step(me);

    double farthest = find_farthest(set), lowest = log(set->rounding * farthest);
    /* The typical half squared norm in this frame is 1/2, and that of a difference 1. */
    double start = set->sigma > 0 ? 2 * log(set->sigma / set->unit) : -log(-log(set->density));
    if (farthest >= FAR || start < lowest)
        return;
    float factor = (float)(exp(-start) * LOG2_E);
    struct some none = {0, 1};
    if (set->sigma > 0) {
        for (ptrdiff_t strip; (strip = take(me)) < n_strips;) {
            fill_strips(set, strip, strip + 1, &none, multiply);
            exponentiate_strip(set, strip, factor);
        }
        set->done = 1;
        return;
    }

    /* Strips spread over the first half give the start, if they have a root. They meet all other
       rows, so that a pattern in the order of rows does no harm. */
    struct some first = {n_strips / STRIPS_FOR_START, 1}, all = {n_strips, 1};
    double root;
    ptrdiff_t iterations;
    first.count = first.count < MOST_TO_START ? first.count : MOST_TO_START;
    if (first.count > 1) {
        first.every = n_strips / (2 * first.count);
        for (ptrdiff_t number; (number = take(me)) < first.count;) {
            ptrdiff_t strip = number * first.every;
            fill_strips(set, strip, strip + 1, &none, multiply);
            sum_strip(set, strip, factor, sums_of_step(set, me->step) + 4 * number);
        }
        end_step(me);
        if (solve(me, &first, start, lowest, &root, &iterations))
            start = root > lowest ? root : lowest;
        factor = (float)(exp(-start) * LOG2_E);
    } else
        first.count = 0;
    ptrdiff_t together = n_strips / STRIPS_TO_SHARE;
    together = together < 1 ? 1 : together > MOST_TO_SHARE ? MOST_TO_SHARE : together;
    for (ptrdiff_t strip; (strip = together * take(me)) < n_strips;) {
        ptrdiff_t end = strip + together < n_strips ? strip + together : n_strips;
        fill_strips(set, strip, end, &first, multiply);
        for (; strip < end; strip++)
            sum_strip(set, strip, factor, sums_of_step(set, me->step) + 4 * strip);
    }
    end_step(me);
    if (!solve(me, &all, start, lowest, &root, &iterations) || root < lowest)
        return;
    factor = (float)(exp(-root) * LOG2_E);
    for (ptrdiff_t strip; (strip = take(me)) < n_strips;)
        exponentiate_strip(set, strip, factor);
    set->log_variance = root;
    set->iterations = iterations;
    set->done = 1;
}

#ifdef HAS_VECTORS
/* For a kind of processors: how to add the products of two panels to a tile of 16 by 16, as many
   rows and vectors at once as it has registers for; and the whole, made for it. */
#define DEFINE_FOR(kind, target, lanes, n_rows, n_vectors)                                        \
    typedef float vector_##kind __attribute__((vector_size(4 * lanes), aligned(4), may_alias));   \
    static target void multiply_##kind(                                                           \
        const float *a, const float *b, ptrdiff_t width, float *tile)                             \
    {                                                                                             \
        for (ptrdiff_t top = 0; top < ROWS_OF_STRIP; top += n_rows)                               \
            for (ptrdiff_t left = 0; left < 16; left += lanes * n_vectors) {                      \
                vector_##kind sums[n_rows][n_vectors];                                            \
                float *corner = tile + top * 16 + left;                                           \
                for (int i = 0; i < n_rows; i++)                                                  \
                    for (int v = 0; v < n_vectors; v++)                                           \
                        sums[i][v] = *(vector_##kind *)(corner + i * 16 + v * lanes);             \
                for (ptrdiff_t k = 0; k < width; k++)                                             \
                    for (int i = 0; i < n_rows; i++)                                              \
                        for (int v = 0; v < n_vectors; v++)                                       \
                            sums[i][v] += a[k * 16 + top + i] *                                   \
                                *(const vector_##kind *)(b + k * 16 + left + v * lanes);          \
                for (int i = 0; i < n_rows; i++)                                                  \
                    for (int v = 0; v < n_vectors; v++)                                           \
                        *(vector_##kind *)(corner + i * 16 + v * lanes) = sums[i][v];             \
            }                                                                                     \
    }                                                                                             \
    static target void compute_##kind(void *set)                                                  \
    {                                                                                             \
        compute(set, multiply_##kind);                                                            \
    }

DEFINE_FOR(any, , 4, 4, 2)
#else
/* The same in standard C. */
static void multiply_any(const float *a, const float *b, ptrdiff_t width, float *tile)
{
    for (ptrdiff_t top = 0; top < ROWS_OF_STRIP; top++) {
        float sums[16];
        memcpy(sums, tile + top * 16, sizeof sums);
        for (ptrdiff_t k = 0; k < width; k++)
            for (int j = 0; j < 16; j++)
                sums[j] += a[k * 16 + top] * b[k * 16 + j];
        memcpy(tile + top * 16, sums, sizeof sums);
    }
}

static void compute_any(void *set)
{
    compute(set, multiply_any);
}
#endif
#ifdef HAS_LEVELS
DEFINE_FOR(v3, __attribute__((target("arch=x86-64-v3"))), 8, 4, 2)
DEFINE_FOR(v4, __attribute__((target("arch=x86-64-v4"))), 16, 16, 1)
#endif

/* Which structures and functions there are: raised with every change of either, here and as INTERFACE
   in installation.py, so that a library built from other sources is never called. */
EXPORTED int interface_of_kernels(void)
{
    return 3;
}

/* The level of x86-64 that this processor and the compiler have, of those that make a difference:
   0, 3 or 4. */
EXPORTED int level_of_processor(void)
{
#ifdef HAS_LEVELS
    if (__builtin_cpu_supports("x86-64-v4"))
        return 4;
    if (__builtin_cpu_supports("x86-64-v3"))
        return 3;
#endif
    return 0;
}

/* Affinities of a set with itself, and its bandwidth where none is given. Where "done" stays 0 the
   result is of no use, and the caller takes another way. */
EXPORTED void affinities_of_set(struct whole_set *set)
{
    ptrdiff_t taken[MOST_STEPS] = {0};
    set->taken = taken;
    void (*work)(void *) = compute_any;
#ifdef HAS_LEVELS
    if (set->level == 4)
        work = compute_v4;
    else if (set->level == 3)
        work = compute_v3;
#endif
    if (set->team != NULL)
        set->team(work, set, (unsigned)set->n_threads, 0);
    else
        work(set);
}
