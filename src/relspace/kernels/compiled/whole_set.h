/* A set whose affinities with itself are asked for, and the steps that a team goes through. */

#ifndef RELSPACE_WHOLE_SET_H
#define RELSPACE_WHOLE_SET_H

#include "powers.h"

#define MOST_STEPS 256

struct whole_set {
    /* Given: features; a bandwidth, or 0 where the density tells; the last step of the solution
       and what float32 leaves of a squared distance, by the largest half squared norm. */
    const float *rows;
    ptrdiff_t n, width, stride;
    double sigma, density, last_step, rounding;
    /* Where results go, and room: for the origin, half the squared norms and the points, these
       for a whole number of strips; 8 sums for each strip. */
    float *matrix, *origin, *half_norms, *panels;
    double *sums;
    /* The level of x86-64 to use; what calls a function in all threads of the team, and where
       these wait for each other, or neither. */
    ptrdiff_t level;
    void (*team)(void (*)(void *), void *, unsigned, unsigned);
    void (*wait)(void);
    /* Found: the size of the set, and the bandwidth in units of it, as log sigma^2. */
    double unit, log_variance, reached;
    ptrdiff_t iterations, done;
    /* The sums of affinities, one in four for each strip. */
    const double *affinities;
    /* How many have taken part in each step. */
    ptrdiff_t *taken;
};

struct member {
    struct whole_set *set;
    ptrdiff_t step;
};

INLINE ptrdiff_t take(struct member *me)
{
    return __atomic_fetch_add(&me->set->taken[me->step], 1, __ATOMIC_RELAXED);
}

INLINE void end_step(struct member *me)
{
    me->step++;
    if (me->set->wait != NULL)
        me->set->wait();
}

INLINE ptrdiff_t count_strips(ptrdiff_t n)
{
    return (n + ROWS_OF_STRIP - 1) / ROWS_OF_STRIP;
}

/* Where a step writes its sums: not where those of the one before may still be read. */
INLINE double *sums_of_step(const struct whole_set *set, ptrdiff_t step)
{
    return set->sums + (step & 1) * 4 * count_strips(set->n);
}

#endif
