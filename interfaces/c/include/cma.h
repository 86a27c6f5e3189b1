/* libcma: physically contiguous memory for programs in C and C++. See libcma(3).
 *
 * A client asks a server in another process for chunks (cma_client_open). A host is a framework in
 * this process (cma_host_open). Chunks of both are used by the same calls (cma_chunk_map).
 *
 * Results. Each call returns 0, or a negative errno. Then nothing has changed, unless the call says
 * otherwise, and cma_last_error has the reason. Results are written to the places that the caller
 * names; after a failure, a place for a handle has NULL and one for a descriptor -1.
 *
 * Handles. The pointers to struct cma_host, cma_chunk and so on are handles: they lead to no memory
 * of the program. NULL, a pointer that is no handle, a handle of another kind, and one that was
 * freed or closed are -EINVAL.
 *
 * Threads. Any thread may make any call at any time. Where two calls may not use one handle at the
 * same time, one of them gets -EBUSY; the type of the handle says so. Nothing may use a mapping
 * while its chunk is unmapped or freed.
 *
 * Structures. The first field is the size, which the caller sets to sizeof: so structures can grow.
 * A caller that was compiled with a shorter or a longer one is served, unless it sets a field that
 * the library doesn't know (-E2BIG).
 *
 * Texts are UTF-8 and end with a NUL byte. Other pointers that a call gets are NULL only where the
 * call says so: -EINVAL otherwise. They must be valid for the length of the call, and no other
 * thread may write there meanwhile.
 *
 * Signals. No call is safe in a signal handler. A call that waits is not ended by a signal.
 */


#ifndef CMA_H
#define CMA_H

/* Made by `cargo xtask header` of the sources of libcma. */

#include <stddef.h>
#include <stdint.h>

/*
 A flag of cma_host_load: the plug-in replaces an allocator of the same name.
 */
#define CMA_LOAD_REPLACE 1

/*
 The observation of a region begins, with "count" live chunks and the allocator "text".
 */
#define CMA_EVENT_BEGAN 1

/*
 A region was unregistered.
 */
#define CMA_EVENT_ENDED 2

/*
 A request was served: "start" and "bytes" are the chunk.
 */
#define CMA_EVENT_PLACED 3

/*
 The chunk at "start" was freed.
 */
#define CMA_EVENT_RELEASED 4

/*
 The region refused a request; "text" is the reason. "last" is 1 if the request has failed with
 that.
 */
#define CMA_EVENT_REFUSED 5

/*
 A request failed with "text", without a region whose refusal was known to be the last.
 */
#define CMA_EVENT_FAILED 6

/*
 A request that waited was given up.
 */
#define CMA_EVENT_GIVEN_UP 7

/*
 The allocator "text" serves the region from now on.
 */
#define CMA_EVENT_ATTACHED 8

/*
 The allocator "text" serves the region no longer.
 */
#define CMA_EVENT_DETACHED 9

/*
 An allocator, or another build of it, does not serve the region, for the reason "text".
 */
#define CMA_EVENT_NOT_ATTACHED 10

/*
 The region's allocator is out of service, for the reason "text".
 */
#define CMA_EVENT_OUT_OF_SERVICE 11

/*
 The region's allocator doesn't return from a call.
 */
#define CMA_EVENT_STUCK 12

/*
 The allocator of a stuck region has returned; "count" operations were deferred.
 */
#define CMA_EVENT_RESUMED 13

/*
 Memory was set aside: a process still holds it.
 */
#define CMA_EVENT_SET_ASIDE 14

/*
 Memory that was set aside is free again.
 */
#define CMA_EVENT_RECOVERED 15

/*
 "count" events were dropped at this point.
 */
#define CMA_EVENT_MISSED 16

/*
 Something else, which "text" describes.
 */
#define CMA_EVENT_OTHER 17

/*
 A flag of struct cma_request: the chunk starts at exactly the address "at".
 */
#define CMA_REQUEST_AT 1

/*
 A flag of struct cma_request: the chunk can be given to other processes. Its size and alignment
 are rounded up to the unit in which the region's memory is shared. A server always does that.
 */
#define CMA_REQUEST_SHARE 2

/*
 A live chunk.

 Any thread may use it. Two calls at once with the same chunk are safe; one of them may fail with
 -EBUSY while the other maps, shares or frees it. A chunk of a server belongs to the process that
 allocated it: after a fork, the child may use the mapping and descriptors of it, no handle.
 */
struct cma_chunk;

/*
 A server that was reached. Any number of threads may use it at the same time. After a fork of a
 process with one thread the child may use it, too. Each request takes a connection of its own.
 */
struct cma_client;

/*
 A device that allocates memory of one type again and again: it finds its regions once. One
 thread uses it at a time; a second call meanwhile gets -EBUSY. Each thread opens its own.
 */
struct cma_device;

/*
 A framework in this process. Any number of threads may use it at the same time. A child has none
 after a fork: its threads are gone, and its memory is the parent's.
 */
struct cma_host;

/*
 An observation of a host. Any thread may use it.
 */
struct cma_observation;

/*
 A request that is not answered yet. One thread uses it at a time; a second call gets -EBUSY.
 */
struct cma_pending;

/*
 Place and memory of a chunk. Set "size" before the call.
 */
struct cma_chunk_info {
  /*
   sizeof(struct cma_chunk_info).
   */
  uint32_t size;
  /*
   1 if the chunk has memory, 0 if it has addresses alone.
   */
  uint32_t has_memory;
  /*
   The lowest address, as the device sees it. A chunk of a host moves at the first call that
   uses its memory if a process still holds memory of its place, so read the address after it.
   */
  uint64_t start;
  /*
   The size in bytes: the requested one, rounded up.
   */
  uint64_t bytes;
  /*
   The unit in which the region's memory is shared, in bytes; 0 without memory.
   */
  uint64_t granule_bytes;
};

/*
 A piece of a chunk's memory: "bytes" bytes at "offset" of a file. Set "size" before the call.
 */
struct cma_piece {
  /*
   sizeof(struct cma_piece).
   */
  uint32_t size;
  /*
   A new descriptor of the file. The caller closes it. It is closed by exec.
   */
  int fd;
  /*
   The offset in the file, in bytes.
   */
  uint64_t offset;
  /*
   The length in bytes.
   */
  uint64_t bytes;
};

/*
 A request for a chunk, with limits. Set "size" to sizeof(struct cma_request) and every other
 field to its value or to 0. Give either "device" or "regions".
 */
struct cma_request {
  /*
   sizeof(struct cma_request).
   */
  uint32_t size;
  /*
   CMA_REQUEST_AT and CMA_REQUEST_SHARE, or 0.
   */
  uint32_t flags;
  /*
   The size of the chunk in bytes. It is rounded up to whole pages.
   */
  uint64_t bytes;
  /*
   The chunk starts at a multiple of this, a power of two; 0 for a page.
   */
  uint64_t alignment;
  /*
   The device. The map says which regions it may use.
   */
  const char *device;
  /*
   The type of memory; NULL for "common". For a device alone.
   */
  const char *type;
  /*
   The regions, as in a rule of the map: "a,b|c" tries a, then that of b and c which fits best.
   */
  const char *regions;
  /*
   No byte of the chunk lies below this address.
   */
  uint64_t above;
  /*
   Every byte of the chunk lies below this address; 0 for no limit.
   */
  uint64_t below;
  /*
   The chunk crosses no multiple of this, a power of two; 0 for no limit.
   */
  uint64_t boundary;
  /*
   The address of the chunk, with CMA_REQUEST_AT.
   */
  uint64_t at;
  /*
   The longest time to wait for room, in microseconds; 0 for no waiting.
   */
  uint64_t wait_us;
};

/*
 The figures of the regions that may serve a request. Set "size" before the call.
 */
struct cma_info {
  /*
   sizeof(struct cma_info).
   */
  uint32_t size;
  /*
   The number of regions.
   */
  uint32_t regions;
  /*
   The lowest address of any of them.
   */
  uint64_t start;
  /*
   The bytes from there to the end of the highest one; UINT64_MAX for 2^64.
   */
  uint64_t span_bytes;
  /*
   The sum of their sizes in bytes.
   */
  uint64_t total_bytes;
  /*
   The sum of their free space in bytes.
   */
  uint64_t free_bytes;
  /*
   The size of chunks that are given to other processes is a multiple of this, in bytes.
   */
  uint64_t granule_bytes;
};

/*
 The configuration of a host. Set "size" to sizeof(struct cma_host_config); fields that are NULL
 have a default.
 */
struct cma_host_config {
  /*
   sizeof(struct cma_host_config).
   */
  uint32_t size;
  /*
   0.
   */
  uint32_t flags;
  /*
   The regions, as in "b1=32M;b2=16M@0x48000000:buddy".
   */
  const char *regions;
  /*
   The map, as in "codec/frame=b1;*=b1,b2"; NULL for an empty one, to be set later.
   */
  const char *map;
  /*
   The banks of memory, as in "2G@0x40000000;2G@0x800000000", in which regions lie that have no
   physical addresses. NULL for one bank from 1 MiB to 1 TiB.
   */
  const char *banks;
  /*
   The memory of the regions: "simulated" (addresses alone), "memfd" (ordinary memory),
   "hugetlb" (huge pages), "auto" (huge pages, else ordinary memory), or by region, as in
   "b1=hugetlb,memfd". NULL for "memfd".
   */
  const char *memory;
  /*
   The allocators that are registered at once: any of best-fit, tlsf, buddy, bitmap and
   packing, separated by commas. The first is the default one. NULL for "best-fit"; "" for
   none.
   */
  const char *allocators;
};

/*
 The figures of one region of a host. Set "size" before the call.
 */
struct cma_statistics {
  /*
   sizeof(struct cma_statistics).
   */
  uint32_t size;
  /*
   Live chunks.
   */
  uint32_t chunks;
  /*
   The lowest address.
   */
  uint64_t start;
  /*
   The size in bytes; UINT64_MAX for 2^64.
   */
  uint64_t bytes;
  /*
   Free space in bytes.
   */
  uint64_t free_bytes;
  /*
   The largest free range in bytes. An allocator may refuse a request that would fit there.
   */
  uint64_t largest_hole_bytes;
  /*
   The most bytes that were ever in use at once.
   */
  uint64_t high_water_bytes;
  /*
   Requests that wait for the region.
   */
  uint64_t waiters;
  /*
   Requests that it has served.
   */
  uint64_t served;
  /*
   Their pages, of 4096 bytes.
   */
  uint64_t served_pages;
  /*
   Requests that it has refused.
   */
  uint64_t refused;
  /*
   Their pages.
   */
  uint64_t refused_pages;
  /*
   Chunks that were freed.
   */
  uint64_t freed;
  /*
   Their pages.
   */
  uint64_t freed_pages;
};

/*
 An event. It and its texts are valid during the call of the callback. Texts are NULL and numbers
 0 where the kind of event has none.
 */
struct cma_event {
  /*
   The size of the structure that the library passes. A later version may pass a longer one,
   and never a shorter one than sizeof(struct cma_event) of this header.
   */
  uint32_t size;
  /*
   CMA_EVENT_BEGAN and so on. A later version may have further kinds.
   */
  uint32_t kind;
  /*
   How long ago it happened, in nanoseconds, when the callback is called.
   */
  uint64_t age_ns;
  /*
   The region.
   */
  const char *region;
  /*
   The chunk or the range.
   */
  uint64_t start;
  /*
   Its size in bytes; for a request that was not served, the requested size.
   */
  uint64_t bytes;
  /*
   A number that distinguishes the requests of this process; the same in all events of one.
   */
  uint64_t request;
  /*
   The device of the request.
   */
  const char *device;
  /*
   The type of memory of the request.
   */
  const char *type;
  /*
   The regions that the request named instead of a device.
   */
  const char *regions;
  /*
   What the kind of event says.
   */
  const char *text;
  /*
   What the kind of event says.
   */
  uint64_t count;
  /*
   The errno of a request that failed (CMA_EVENT_FAILED), positive.
   */
  int32_t error;
  /*
   1 if a request has failed with this refusal (CMA_EVENT_REFUSED).
   */
  uint32_t last;
};

/*
 A function that receives events. "context" is that of cma_host_observe.
 */
typedef void (*cma_event_callback)(void *context, const struct cma_event *event);

/*
 How far the delivery of events has come. Set "size" before the call.
 */
struct cma_delivery {
  /*
   sizeof(struct cma_delivery).
   */
  uint32_t size;
  /*
   0.
   */
  uint32_t reserved;
  /*
   The events that the callback has received.
   */
  uint64_t received;
  /*
   The events that were dropped because it was slower than they came.
   */
  uint64_t missed;
  /*
   The events on the way to it.
   */
  uint64_t waiting;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 The version of the library, as "0.3.0". Programs that were linked with libcma.so.1 work with
 every version of that name.
 */
const char *cma_version(void);

/*
 Reads place and kind of a chunk.
 */
int cma_chunk_info(struct cma_chunk *chunk, struct cma_chunk_info *info);

/*
 Maps the whole chunk for reading and writing, also if it consists of several pieces. The memory
 of a new chunk is zero. A chunk is mapped once: later calls return the same address. The mapping
 ends when the chunk is unmapped or freed. -ENODEV or -EINVAL if the chunk has addresses alone.
 */
int cma_chunk_map(struct cma_chunk *chunk, void **address);

/*
 Unmaps the chunk. The content stays. Nothing may use the address any more. Does nothing if the
 chunk is not mapped.
 */
int cma_chunk_unmap(struct cma_chunk *chunk);

/*
 One descriptor for the whole chunk, for another process, an mmap of the program's own, or a
 registration with a driver. The chunk begins at byte "offset" of the file; "offset" may be NULL
 for a caller that takes only chunks that begin at 0, and gets -EOPNOTSUPP else. The caller
 closes the descriptor; exec does, too. -EOPNOTSUPP if the chunk consists of several pieces.

 The memory may be used through the descriptor, and by those who got it, after the chunk is
 freed; its address is not theirs any more then.
 */
int cma_chunk_descriptor(struct cma_chunk *chunk, int *fd, uint64_t *offset);

/*
 The number of pieces that make up the chunk's memory.
 */
int cma_chunk_piece_count(struct cma_chunk *chunk, uint64_t *count);

/*
 Piece number "index" of the chunk, from 0 on in the order of addresses. -EINVAL if there is none
 of that number.
 */
int cma_chunk_piece(struct cma_chunk *chunk, uint64_t index, struct cma_piece *piece);

/*
 Unmaps and frees the chunk, and ends the handle. For a chunk of a server the call returns when
 the server has answered. If another process still holds memory of the chunk, or this one has a
 descriptor or a mapping of its own, a server frees the chunk when nobody has any more; a host
 frees it at once, and the next chunk there gets another place.

 -EINVAL for a handle that is none, -EBUSY while another call uses the chunk. Otherwise 0.
 */
int cma_chunk_free(struct cma_chunk *chunk);

/*
 Reaches the server that listens at the path "socket"; NULL for the path in the environment
 variable CMA_SOCKET, or else /run/cma/cma.sock, that of the service. -ENODEV if there is none.
 */
int cma_client_open(const char *socket, struct cma_client **client);

/*
 Ends the handle. Chunks and requests of the client stay.
 */
int cma_client_close(struct cma_client *client);

/*
 Allocates a chunk of "bytes" bytes for "device", in memory of "type" (NULL for "common"), at a
 multiple of "alignment" bytes (0 for a page). The size is rounded up.

 The errno is that of the specification, or of the server: -ENOMEM if no region has room, -ENOENT
 if no rule of the map matches the device, -EACCES if the server's rules don't allow it, -EDQUOT
 at the limit of the user. cma_last_error has the reasons.
 */
int cma_client_alloc(struct cma_client *client,
                     const char *device,
                     const char *type,
                     uint64_t bytes,
                     uint64_t alignment,
                     struct cma_chunk **chunk);

/*
 Allocates a chunk with limits. If the request waits, the call blocks; -ETIMEDOUT if its time is
 over. Otherwise as cma_client_alloc.
 */
int cma_client_allocate(struct cma_client *client,
                        const struct cma_request *request,
                        struct cma_chunk **chunk);

/*
 Makes a request and returns at once. cma_pending_descriptor returns a descriptor that becomes
 readable when it is answered; cma_pending_finish takes the answer.
 */
int cma_client_request(struct cma_client *client,
                       const struct cma_request *request,
                       struct cma_pending **pending);

/*
 The figures of the regions that may serve "device" for "type" (NULL for "common").
 */
int cma_client_info(struct cma_client *client,
                    const char *device,
                    const char *type,
                    struct cma_info *info);

/*
 The figures of the regions of a list, "a,b|c".
 */
int cma_client_info_about(struct cma_client *client, const char *regions, struct cma_info *info);

/*
 Reads an attribute of the server's framework, as cma_host_get. -EACCES unless this process runs
 as root or as the server's user.
 */
int cma_client_get(struct cma_client *client,
                   const char *path,
                   char *text,
                   size_t capacity,
                   size_t *length);

/*
 Opens a device: a handle for requests of "device" for memory of "type" (NULL for "common").
 Whether the map has a rule for it is checked at each request.
 */
int cma_device_open(struct cma_host *host,
                    const char *device,
                    const char *type,
                    struct cma_device **opened);

/*
 Allocates a chunk for the device, as cma_host_alloc.
 */
int cma_device_alloc(struct cma_device *device,
                     uint64_t bytes,
                     uint64_t alignment,
                     struct cma_chunk **chunk);

/*
 Ends the handle. Its chunks stay.
 */
int cma_device_close(struct cma_device *device);

/*
 Why the last call that failed in this thread failed: one line, for people. Empty if none has
 failed. The text stays until the next call that fails in this thread. Any thread may call it.

 Call it in a statement behind the call that failed: C evaluates the arguments of one function in
 any order.
 */
const char *cma_last_error(void);

/*
 The same as a JSON object in one line, for programs: "call", the name of the call; "errno",
 positive; "message", the text of cma_last_error; and "regions", for a request that the regions
 of a host refused: a list of objects, each with "region" and "reason", in the order in which the
 regions were tried. "regions" is null otherwise; a server sends its reasons as text, which is in
 the message. The whole text is "null" if no call has failed. It stays until the next call that
 fails in this thread. Any thread may call it.
 */
const char *cma_last_error_json(void);

/*
 Makes a host: reserves memory for its regions, and registers them and the allocators. If a
 region can't be had, nothing is made; cma_last_error names each such region with the reason.
 */
int cma_host_open(const struct cma_host_config *config, struct cma_host **host);

/*
 Ends the handle. Chunks, devices, pending requests and observations of the host stay usable
 until they end; the memory is released with the last of them.
 */
int cma_host_close(struct cma_host *host);

/*
 Loads an allocator from the plug-in at "path", libcma_NAME_plugin.so, and registers it. Regions
 that wait for it are served from then on. Without CMA_LOAD_REPLACE an allocator of the same name
 is -EEXIST. With it, the new one adopts the live chunks of the regions that the old one serves;
 a region whose chunks it can't adopt keeps the old one. -ENOEXEC if the file is no plug-in for
 this library.

 "trial" is the path of the program cma, which tries the plug-in in processes of its own first,
 so that one that crashes doesn't end this process. NULL for no trial. A plug-in is native code
 and can do what this process can.
 */
int cma_host_load(struct cma_host *host, const char *path, const char *trial, uint32_t flags);

/*
 Allocates a chunk of "bytes" bytes for "device", in memory of "type" (NULL for "common"), at a
 multiple of "alignment" bytes (0 for a page). The size is rounded up to whole pages.

 The errno is that of the specification: -ENOMEM if no region has room, -ENOENT if no rule of the
 map matches the device, -EIO if an allocator doesn't return. cma_last_error and
 cma_last_error_json have the reason of each region.
 */
int cma_host_alloc(struct cma_host *host,
                   const char *device,
                   const char *type,
                   uint64_t bytes,
                   uint64_t alignment,
                   struct cma_chunk **chunk);

/*
 Allocates a chunk with limits. If the request waits, the call blocks; -ETIMEDOUT if its time is
 over. Otherwise as cma_host_alloc.
 */
int cma_host_allocate(struct cma_host *host,
                      const struct cma_request *request,
                      struct cma_chunk **chunk);

/*
 Makes a request and returns at once. cma_pending_descriptor returns a descriptor that becomes
 readable when it is worth calling cma_pending_finish. Requests wait in the order of their
 asking: one that could be served and is not finished holds up those behind it.
 */
int cma_host_request(struct cma_host *host,
                     const struct cma_request *request,
                     struct cma_pending **pending);

/*
 The figures of the regions that may serve "device" for "type" (NULL for "common").
 */
int cma_host_info(struct cma_host *host,
                  const char *device,
                  const char *type,
                  struct cma_info *info);

/*
 The figures of the regions of a list, "a,b|c".
 */
int cma_host_info_about(struct cma_host *host, const char *regions, struct cma_info *info);

/*
 The figures of the region of that name. -ENOENT if there is none, -EIO while its allocator
 doesn't return.
 */
int cma_host_statistics(struct cma_host *host,
                        const char *region,
                        struct cma_statistics *statistics);

/*
 Puts a map in force, at once and whole: "codec/frame=b1;*=b1,b2". If it is invalid, -EINVAL, and
 nothing has changed.
 */
int cma_host_set_map(struct cma_host *host, const char *map);

/*
 Gives a region another allocator, by its name, with parameters or without. The new one adopts
 the live chunks, each at its place. If it can't, -EBUSY, and the old one stays.
 */
int cma_host_set_allocator(struct cma_host *host, const char *region, const char *allocator);

/*
 Reads the attribute at "path", such as "map" or "regions/b1/free", as a text with a NUL
 byte. For a folder the text has a line for each entry: "name" for an attribute, "name/" for a
 folder, "name -> target" for a link; "" is the root. "length", unless it is NULL, gets the
 length of the whole text. -ERANGE if it doesn't fit with its NUL byte into "capacity" bytes;
 nothing is written then, and "text" may be NULL with the capacity 0. The text may be longer at
 the next call. -ENOENT if there is nothing at the path.
 */
int cma_host_get(struct cma_host *host,
                 const char *path,
                 char *text,
                 size_t capacity,
                 size_t *length);

/*
 Writes the attribute at "path". -EACCES for one that is read-only, -EINVAL for a text that is
 wrong; then nothing has changed.
 */
int cma_host_set(struct cma_host *host, const char *path, const char *text);

/*
 Has "callback" called for each event of the host, with "context", by a thread of its own. It
 begins with an event CMA_EVENT_BEGAN for each region.

 The callback may block and may use the host. No request waits for it: up to 65,536 events wait
 for the callback, and further ones are dropped and counted (CMA_EVENT_MISSED); after that each
 region concerned begins anew. It must return: no exception of C++ and no longjmp may leave it.
 An observed host is slower.
 */
int cma_host_observe(struct cma_host *host,
                     cma_event_callback callback,
                     void *context,
                     struct cma_observation **observation);

/*
 Waits until the callback has received the events up to now, "longest_ms" milliseconds at most.
 -ETIMEDOUT if it has not. Not for the callback itself.
 */
int cma_observation_catch_up(struct cma_observation *observation, uint64_t longest_ms);

/*
 Reads how many events were delivered, dropped, and are on the way.
 */
int cma_observation_delivery(struct cma_observation *observation, struct cma_delivery *delivery);

/*
 Ends the observation and the handle. When it returns, the callback is not called any more, and
 no call is in progress: the call waits for one. Inside the callback itself it may be called too;
 then that call is the last. Events that still waited are dropped.
 */
int cma_observation_end(struct cma_observation *observation);

/*
 A descriptor that becomes readable when it is worth calling cma_pending_finish. The library owns
 it: it is valid until the request is finished or cancelled, and only for poll(2), select(2) and
 epoll(7).
 */
int cma_pending_descriptor(struct cma_pending *pending, int *fd);

/*
 Takes the answer: the chunk, or the error that a call that blocks would have returned. Either
 ends the handle. -EAGAIN if there is no answer yet; then the handle stays.
 */
int cma_pending_finish(struct cma_pending *pending, struct cma_chunk **chunk);

/*
 Gives the request up and ends the handle. A chunk that it has got meanwhile is freed.
 */
int cma_pending_cancel(struct cma_pending *pending);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CMA_H */
