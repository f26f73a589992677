/* By whose threads a kernel works: a call is cut into parts, which the threads of the runtime that torch has loaded take one
 * after another.
 */

#pragma once

/* GOMP_parallel of the runtime that torch has loaded. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

/* By all of torch's threads, also where there are fewer parts: a smaller team would end the others' threads. */
static inline void in_parallel(Parallel parallel, void (*function)(void *), void *data, int parts) {
    if (parts > 1)
        parallel(function, data, 0, 0);
    else
        function(data);
}
