"""Physically contiguous memory: from a server, or from a framework in this process.

    with cma.Client("/run/cma/cma.sock") as client, client.allocate(1 << 20, "camera") as chunk:
        with chunk.map() as view:
            view[:4] = b"NV12"
        print(hex(chunk.start))

The calls are those of libcma(3), whose cma.h has the details. A call that fails raises cma.Error,
an OSError with the reasons.
"""

import ctypes
import errno
import operator
import os
import select
import threading
import time
import weakref
from collections import namedtuple

from ._library import (
    LOAD_REPLACE,
    REQUEST_AT,
    REQUEST_SHARE,
    ChunkInfo,
    Delivery,
    Error,
    EventCallback,
    HostConfig,
    Info,
    Piece as _Piece,
    Request,
    Statistics,
    library,
)

__all__ = [
    "Chunk",
    "Client",
    "Device",
    "Error",
    "Event",
    "Host",
    "Observation",
    "Pending",
    "Piece",
    "version",
]

Piece = namedtuple("Piece", "fd offset bytes")
Piece.__doc__ = """A piece of a chunk's memory: `bytes` bytes at `offset` of a file. `fd` is the
caller's to close."""

Event = namedtuple(
    "Event", "kind age_ns region start bytes request device type regions text count error last"
)
Event.__doc__ = """An event of a host. `kind` is a word, such as "placed"; the others are those of
struct cma_event, None or 0 where the kind has none."""

_KINDS = {
    1: "began",
    2: "ended",
    3: "placed",
    4: "released",
    5: "refused",
    6: "failed",
    7: "given up",
    8: "attached",
    9: "detached",
    10: "not attached",
    11: "out of service",
    12: "stuck",
    13: "resumed",
    14: "set aside",
    15: "recovered",
    16: "missed",
}


def version():
    """The version of libcma."""
    return library.cma_version().decode()


def _bytes(text):
    if text is None:
        return None
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        # It would end the text in C.
        raise ValueError(f"a text has a NUL character: {text!r}")
    return encoded


def _number(value):
    # ctypes would drop the bits of a number that has more than 64.
    number = operator.index(value)
    if not 0 <= number < 1 << 64:
        raise OverflowError(f"{number} is not in the range from 0 to 2^64 - 1")
    return number


def _text(text):
    return None if text is None else text.decode(errors="replace")


def _structure(kind):
    return kind(size=ctypes.sizeof(kind))


class _Handle:
    """Something that a call ends: at the latest when it is no longer referenced.

    A child after a fork has none of its parent's handles: it must not free the parent's chunks.
    """

    def __init__(self, handle, end):
        self._handle = handle.value
        self._end = weakref.finalize(self, _end_in, os.getpid(), end, self._handle)
        # The kernel releases all when the process ends.
        self._end.atexit = False

    def _close(self):
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()


def _end_in(pid, end, handle):
    if os.getpid() == pid:
        end(handle)


def _request(
    bytes,
    device=None,
    type=None,
    *,
    regions=None,
    alignment=0,
    above=0,
    below=0,
    boundary=0,
    at=None,
    wait=0,
    share=False,
):
    request = _structure(Request)
    request.bytes, request.alignment = _number(bytes), _number(alignment)
    request.device, request.type = _bytes(device), _bytes(type)
    request.regions = _bytes(regions)
    request.above, request.below = _number(above), _number(below)
    request.boundary = _number(boundary)
    if at is not None:
        request.flags |= REQUEST_AT
        request.at = _number(at)
    if share:
        request.flags |= REQUEST_SHARE
    request.wait_us = _number(round(wait * 1_000_000))
    return request


class _Source(_Handle):
    """What serves requests: a client or a host.

    The arguments of a request are `bytes` and either `device`, with a `type` of memory or without,
    or `regions` ("a,b|c"). The limits are `alignment`, `above`, `below`, `boundary` and `at`
    (bytes and addresses), and `wait`, in seconds.
    """

    def _call(self, name):
        return getattr(library, f"cma_{self._half}_{name}")

    def allocate(self, *arguments, **limits):
        """Allocates a Chunk. If the request waits, the call blocks."""
        handle = ctypes.c_void_p()
        request = _request(*arguments, **limits)
        self._call("allocate")(self._handle, ctypes.byref(request), ctypes.byref(handle))
        return Chunk(handle)

    def request(self, *arguments, **limits):
        """Makes a request and returns at once, with a Pending request."""
        handle = ctypes.c_void_p()
        request = _request(*arguments, **limits)
        self._call("request")(self._handle, ctypes.byref(request), ctypes.byref(handle))
        return Pending(handle)

    def info(self, device, type=None):
        """The figures of the regions that may serve a device."""
        info = _structure(Info)
        self._call("info")(self._handle, _bytes(device), _bytes(type), ctypes.byref(info))
        return info

    def info_about(self, regions):
        """The figures of the regions of a list, "a,b|c"."""
        info = _structure(Info)
        self._call("info_about")(self._handle, _bytes(regions), ctypes.byref(info))
        return info

    def get(self, path):
        """The text of an attribute, or of a folder a line for each entry."""
        get, length, capacity = self._call("get"), ctypes.c_size_t(), 4096
        while True:
            text = ctypes.create_string_buffer(capacity)
            try:
                get(self._handle, _bytes(path), text, capacity, ctypes.byref(length))
                return text.raw[: length.value].decode()
            except Error as error:
                # The text may have grown between two calls.
                if length.value < capacity:
                    raise error
                capacity, length.value = length.value + 1, 0

    def close(self):
        """Ends the handle. Chunks stay."""
        self._close()


class Client(_Source):
    """A server in another process. Without a path it is that of CMA_SOCKET or
    /run/cma/cma.sock."""

    _half = "client"

    def __init__(self, socket=None):
        handle = ctypes.c_void_p()
        library.cma_client_open(_bytes(socket), ctypes.byref(handle))
        super().__init__(handle, library.cma_client_close)


class Host(_Source):
    """A framework in this process. The arguments are those of struct cma_host_config."""

    _half = "host"

    def __init__(self, regions, map=None, *, banks=None, memory=None, allocators=None):
        config, handle = _structure(HostConfig), ctypes.c_void_p()
        config.regions, config.map, config.banks = _bytes(regions), _bytes(map), _bytes(banks)
        config.memory, config.allocators = _bytes(memory), _bytes(allocators)
        library.cma_host_open(ctypes.byref(config), ctypes.byref(handle))
        super().__init__(handle, library.cma_host_close)

    def load(self, path, *, trial=None, replace=False):
        """Loads an allocator from a plug-in. `trial` is the path of the program cma."""
        flags = LOAD_REPLACE if replace else 0
        library.cma_host_load(self._handle, _bytes(path), _bytes(trial), flags)

    def device(self, name, type=None):
        """Opens a Device, which finds its regions once."""
        handle = ctypes.c_void_p()
        library.cma_device_open(self._handle, _bytes(name), _bytes(type), ctypes.byref(handle))
        return Device(handle, library.cma_device_close)

    def statistics(self, region):
        """The figures of one region."""
        statistics = _structure(Statistics)
        library.cma_host_statistics(self._handle, _bytes(region), ctypes.byref(statistics))
        return statistics

    def set_map(self, map):
        """Puts a map in force, at once and whole."""
        library.cma_host_set_map(self._handle, _bytes(map))

    def set_allocator(self, region, allocator):
        """Gives a region another allocator, which adopts its live chunks."""
        library.cma_host_set_allocator(self._handle, _bytes(region), _bytes(allocator))

    def set(self, path, text):
        """Writes an attribute."""
        library.cma_host_set(self._handle, _bytes(path), _bytes(text))

    def observe(self, callback):
        """Has `callback` called with each Event, by a thread of the library."""
        return Observation(self._handle, callback)


class Device(_Handle):
    """A device of a host. One thread uses it at a time."""

    def alloc(self, bytes, alignment=0):
        """Allocates a Chunk."""
        handle = ctypes.c_void_p()
        size, alignment = _number(bytes), _number(alignment)
        library.cma_device_alloc(self._handle, size, alignment, ctypes.byref(handle))
        return Chunk(handle)

    def close(self):
        """Ends the handle. Chunks stay."""
        self._close()


class Pending(_Handle):
    """A request that is not answered yet. fileno() is for select, poll and event loops."""

    def __init__(self, handle):
        super().__init__(handle, library.cma_pending_cancel)

    def fileno(self):
        """A descriptor that becomes readable when it is worth calling finish."""
        fd = ctypes.c_int()
        library.cma_pending_descriptor(self._handle, ctypes.byref(fd))
        return fd.value

    def finish(self):
        """The Chunk; None if there is no answer yet."""
        handle = ctypes.c_void_p()
        try:
            library.cma_pending_finish(self._handle, ctypes.byref(handle))
        except Error as error:
            if error.errno == errno.EAGAIN:
                return None
            self._end.detach()
            raise
        self._end.detach()
        return Chunk(handle)

    def wait(self, timeout=None):
        """Waits for the answer, `timeout` seconds at most; None if there is none then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            ready = poll.poll(None if left is None else left * 1000)
            chunk = self.finish()
            if chunk is not None or not ready:
                return chunk

    def cancel(self):
        """Gives the request up."""
        self._close()


class Chunk(_Handle):
    """A live chunk. It is freed by free(), at the end of a with block, or when neither it nor a
    view of its memory is referenced any more."""

    def __init__(self, handle):
        super().__init__(handle, library.cma_chunk_free)
        self._lock = threading.Lock()
        # The memory as an object, while a view of it exists.
        self._memory = lambda: None

    def _info(self):
        info = _structure(ChunkInfo)
        library.cma_chunk_info(self._handle, ctypes.byref(info))
        return info

    @property
    def start(self):
        """The lowest address, as the device sees it."""
        return self._info().start

    @property
    def bytes(self):
        """The size in bytes."""
        return self._info().bytes

    @property
    def granule_bytes(self):
        """The unit in which the region's memory is shared, in bytes; 0 without memory."""
        return self._info().granule_bytes

    @property
    def has_memory(self):
        """Whether the chunk has memory, not addresses alone."""
        return bool(self._info().has_memory)

    def map(self):
        """The memory of the whole chunk, as a writable memoryview of bytes.

        The chunk is live as long as a view exists, or a slice or an array made of it: free() and
        unmap() raise BufferError then. view.release() ends a view.
        """
        with self._lock:
            memory = self._memory()
            if memory is None:
                address = ctypes.c_void_p()
                library.cma_chunk_map(self._handle, ctypes.byref(address))
                memory = (ctypes.c_ubyte * self.bytes).from_address(address.value)
                # A view refers to the memory, and the memory to the chunk.
                memory.chunk = self
                self._memory = weakref.ref(memory)
            return memoryview(memory).cast("B")

    def unmap(self):
        """Ends the mapping. The content stays."""
        with self._lock:
            self._without_views()
            library.cma_chunk_unmap(self._handle)

    def descriptor(self):
        """A new descriptor of the whole chunk, and the chunk's offset in that file. The caller
        closes it. EOPNOTSUPP if the chunk consists of several pieces."""
        fd, offset = ctypes.c_int(), ctypes.c_uint64()
        library.cma_chunk_descriptor(self._handle, ctypes.byref(fd), ctypes.byref(offset))
        return fd.value, offset.value

    def piece_count(self):
        """The number of pieces that make up the memory."""
        count = ctypes.c_uint64()
        library.cma_chunk_piece_count(self._handle, ctypes.byref(count))
        return count.value

    def piece(self, index):
        """Piece number `index`."""
        piece = _structure(_Piece)
        library.cma_chunk_piece(self._handle, _number(index), ctypes.byref(piece))
        return Piece(piece.fd, piece.offset, piece.bytes)

    def free(self):
        """Unmaps and frees the chunk. BufferError while a view of its memory exists."""
        with self._lock:
            self._without_views()
            self._close()

    def _without_views(self):
        if self._memory() is not None:
            raise BufferError("a view of the chunk's memory exists; release it first")

    def __exit__(self, *_):
        self.free()


class Observation:
    """An observation of a host, until end() or the end of a with block."""

    def __init__(self, host, callback):
        running = []

        def receive(_, event):
            running[:] = [threading.get_ident()]
            event = event.contents
            callback(
                Event(
                    _KINDS.get(event.kind, "other"),
                    event.age_ns,
                    _text(event.region),
                    event.start,
                    event.bytes,
                    event.request,
                    _text(event.device),
                    _text(event.type),
                    _text(event.regions),
                    _text(event.text),
                    event.count,
                    event.error,
                    bool(event.last),
                )
            )

        handle = ctypes.c_void_p()
        function = EventCallback(receive)
        library.cma_host_observe(host, function, None, ctypes.byref(handle))
        self._handle = handle.value
        # Ended at exit too: a callback needs the interpreter.
        self._end = weakref.finalize(
            self, _end_observation, os.getpid(), self._handle, function, running
        )

    def catch_up(self, longest=60.0):
        """Waits until the callback has received the events up to now; ETIMEDOUT if it has not
        after `longest` seconds. Not for the callback itself."""
        library.cma_observation_catch_up(self._handle, _number(round(longest * 1000)))

    def delivery(self):
        """How many events were received, missed, and are waiting."""
        delivery = _structure(Delivery)
        library.cma_observation_delivery(self._handle, ctypes.byref(delivery))
        return delivery

    def end(self):
        """Ends it. No call of the callback begins or is in progress afterwards, unless the
        callback itself ends it."""
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


# Functions that ended their own observation: they were still running then.
_ENDED_BY_THEMSELVES = []


def _end_observation(pid, handle, function, running):
    _end_in(pid, library.cma_observation_end, handle)
    if threading.get_ident() in running:
        _ENDED_BY_THEMSELVES.append(function)
