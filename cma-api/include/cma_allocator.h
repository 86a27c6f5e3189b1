/*
 * An allocator plug-in in C, version 1.
 *
 * A plug-in is a shared library called libcma_<name>_plugin.so that exports one constant:
 *
 *     const struct cma_allocator_v1 cma_allocator_v1 = { CMA_ALLOCATOR_HEADER, .name = ... };
 *
 * The contract between host and plug-in is ABI.md, beside this header's folder. It is the same as
 * for plug-ins in Rust, with one difference: a call that crashes, exits or writes outside its own
 * memory is the end of the host, which catches panics of Rust, but nothing of C.
 *
 * Everything is counted in pages of 4096 bytes. A region, a chunk or a hole is a range of page
 * numbers; page n starts at the address n * 4096. A hole is a maximal free range.
 *
 * All functions of one allocator are called one at a time, from any thread. Allocators of several
 * regions are called at the same time, so the library keeps no state of its own outside them. No
 * function may throw an exception of C++, or leave by longjmp.
 *
 * docs/my-allocator-c is a complete example.
 */
#ifndef CMA_ALLOCATOR_H
#define CMA_ALLOCATOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. */
#define CMA_ALLOCATOR_VERSION 1

/* The first two fields of `struct cma_allocator_v1`. */
#define CMA_ALLOCATOR_HEADER \
    .version = CMA_ALLOCATOR_VERSION, .size = sizeof(struct cma_allocator_v1)

/*
 * What functions return. Any other number, and BROKEN from all but `check`, ends the service of the
 * allocator for its region: it is not called again, not even by `cleanup`.
 */
#define CMA_ALLOCATOR_OK 0      /* done; every result is written */
#define CMA_ALLOCATOR_REFUSED 1 /* refused; nothing has changed */
#define CMA_ALLOCATOR_BROKEN 2  /* the allocator's own data are broken */

/* The size in bytes of the buffer `reason`: text in UTF-8 for the user, which ends with a 0. */
#define CMA_ALLOCATOR_REASON 256

/* The pages of a 64-bit address space: the boundary of a request without one. */
#define CMA_ALLOCATOR_ADDRESS_SPACE (UINT64_C(1) << 52)

/* Pages: the number of the lowest, and how many. */
struct cma_allocator_range {
    uint64_t first;
    uint64_t pages;
};

/* The place of a chunk. */
struct cma_allocator_placement {
    struct cma_allocator_range range;
    /* The allocator's own number for the chunk. The host passes it to `free`. */
    uint64_t tag;
};

/* A request for a chunk. */
struct cma_allocator_request {
    /* The size: at least 1, and at most `boundary`. */
    uint64_t pages;
    /* A power of two in pages, of which the first page is a multiple. May exceed the region. */
    uint64_t alignment;
    /* A power of two in pages, of which the chunk crosses no multiple. */
    uint64_t boundary;
    /* The chunk lies in this range, which may lie partly or wholly outside the region. */
    struct cma_allocator_range window;
    /* The (device, type) pair that requests; 0 for none. Only equality is meaningful. */
    uint32_t asker;
    /* 0. A later host may write another value, which may be ignored. */
    uint32_t hints;
};

/* What a plug-in exports, with all fields constant. Functions that may be null have a default. */
struct cma_allocator_v1 {
    /* CMA_ALLOCATOR_HEADER. A host refuses another version or another size. */
    uint32_t version;
    uint32_t size;

    /*
     * The name by which regions select it: 1 to 64 printable ASCII characters, none of
     * `=@/:;(),[]*?`. Then the algorithm's own version, and a description: 1 to 256 bytes of UTF-8
     * on one line.
     */
    const char *name;
    const char *algorithm_version;
    const char *description;

    /*
     * Makes an allocator for a region of at least one page, which is free, and stores a pointer to
     * it, not null, in `*allocator`. `params` is the text in parentheses after the allocator's
     * name, or empty. It refuses parameters that it does not know, and names them in `reason`.
     * OK or REFUSED with a reason.
     */
    int (*initialise)(struct cma_allocator_range region, const char *params, void **allocator,
                      char *reason);

    /* Releases an allocator. It may have live chunks. */
    void (*cleanup)(void *allocator);

    /*
     * Stores in `*place` a place of exactly `request->pages` pages in the region, within the limits
     * of the request and free, and marks it as in use. OK, REFUSED or BROKEN.
     */
    int (*allocate)(void *allocator, const struct cma_allocator_request *request,
                    struct cma_allocator_placement *place);

    /*
     * Stores in `*hole` the hole in which `allocate` would place the request if it were the next
     * call. Changes nothing that another call can observe. REFUSED exactly if `allocate` would
     * refuse; BROKEN.
     */
    int (*fit)(void *allocator, const struct cma_allocator_request *request,
               struct cma_allocator_range *hole);

    /* Frees a live chunk, as `allocate` placed it or with the tag from `adopt`. OK or BROKEN. */
    int (*free)(void *allocator, const struct cma_allocator_placement *chunk);

    /*
     * Calls `visit` with `context` for each hole in ascending order. Both are valid only until it
     * returns.
     */
    void (*holes)(void *allocator,
                  void (*visit)(void *context, struct cma_allocator_range hole), void *context);

    /*
     * Marks `range`, which lies in the region, as in use, and stores the tag of the new chunk in
     * `*tag`, which is 0 before. REFUSED with a reason if part of it is in use, or if the
     * allocator's data can't represent it; BROKEN.
     * Null: nothing is adopted. Then requests for fixed places are refused, and the allocator can't
     * take over a region with live chunks.
     */
    int (*adopt)(void *allocator, struct cma_allocator_range range, uint64_t *tag, char *reason);

    /*
     * The pages of the largest request with an alignment of 1 that could be served now.
     * Null: those of the largest hole.
     */
    uint64_t (*largest_request)(void *allocator);

    /*
     * Verifies the allocator's own data: OK, or BROKEN with the first fault as the reason, which
     * the host reports; the allocator stays in service. It is for tests and diagnosis, and may be
     * slow.
     * Null: always OK.
     */
    int (*check)(void *allocator, char *reason);
};

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
extern const struct cma_allocator_v1 cma_allocator_v1;

/* The page after the last one of a range in the address space. */
static inline uint64_t cma_allocator_end(struct cma_allocator_range range)
{
    return range.first + range.pages;
}

/* Whether a chunk that starts at page `first` crosses a multiple of the request's boundary. */
static inline int cma_allocator_crosses(const struct cma_allocator_request *request, uint64_t first)
{
    return (first ^ (first + request->pages - 1)) >= request->boundary;
}

/*
 * The lowest place in `hole` that serves the request: size, alignment, window and boundary. Returns
 * 1 and stores it in `*place`, or returns 0 if there is none. Nothing here wraps, because page
 * numbers, sizes and alignments are at most 2^52.
 */
static inline int cma_allocator_lowest_place(const struct cma_allocator_request *request,
                                             struct cma_allocator_range hole,
                                             struct cma_allocator_range *place)
{
    uint64_t window_end = cma_allocator_end(request->window);
    uint64_t first = hole.first, end = cma_allocator_end(hole);

    if (first < request->window.first)
        first = request->window.first;
    if (end > window_end)
        end = window_end;
    first = (first + request->alignment - 1) & ~(request->alignment - 1);
    if (cma_allocator_crosses(request, first))
        /* To the multiple that is crossed. It is aligned: the boundary exceeds the alignment. */
        first = (first + request->pages - 1) & ~(request->boundary - 1);
    if (first >= end || end - first < request->pages)
        return 0;
    place->first = first;
    place->pages = request->pages;
    return 1;
}

#ifdef __cplusplus
}
#endif

#endif
