"""The calls of libcma.so.1, as its header cma.h declares them."""

import ctypes
import json
import os
from ctypes import POINTER, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p


class Error(OSError):
    """A call of libcma that failed.

    `errno` and `strerror` are those of OSError, `call` is the name of the call, and `regions` has
    a (region, reason) pair for each region of a host that refused a request.
    """

    def __init__(self, number, text, call, regions=()):
        super().__init__(number, text)
        self.call = call
        self.regions = list(regions)


class Request(ctypes.Structure):
    """struct cma_request."""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("bytes", c_uint64),
        ("alignment", c_uint64),
        ("device", c_char_p),
        ("type", c_char_p),
        ("regions", c_char_p),
        ("above", c_uint64),
        ("below", c_uint64),
        ("boundary", c_uint64),
        ("at", c_uint64),
        ("wait_us", c_uint64),
    ]


class HostConfig(ctypes.Structure):
    """struct cma_host_config."""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("regions", c_char_p),
        ("map", c_char_p),
        ("banks", c_char_p),
        ("memory", c_char_p),
        ("allocators", c_char_p),
    ]


class Info(ctypes.Structure):
    """struct cma_info: the figures of the regions that may serve a request."""

    _fields_ = [
        ("size", c_uint32),
        ("regions", c_uint32),
        ("start", c_uint64),
        ("span_bytes", c_uint64),
        ("total_bytes", c_uint64),
        ("free_bytes", c_uint64),
        ("granule_bytes", c_uint64),
    ]


class Statistics(ctypes.Structure):
    """struct cma_statistics: the figures of one region of a host."""

    _fields_ = [
        ("size", c_uint32),
        ("chunks", c_uint32),
        ("start", c_uint64),
        ("bytes", c_uint64),
        ("free_bytes", c_uint64),
        ("largest_hole_bytes", c_uint64),
        ("high_water_bytes", c_uint64),
        ("waiters", c_uint64),
        ("served", c_uint64),
        ("served_pages", c_uint64),
        ("refused", c_uint64),
        ("refused_pages", c_uint64),
        ("freed", c_uint64),
        ("freed_pages", c_uint64),
    ]


class ChunkInfo(ctypes.Structure):
    """struct cma_chunk_info."""

    _fields_ = [
        ("size", c_uint32),
        ("has_memory", c_uint32),
        ("start", c_uint64),
        ("bytes", c_uint64),
        ("granule_bytes", c_uint64),
    ]


class Piece(ctypes.Structure):
    """struct cma_piece."""

    _fields_ = [("size", c_uint32), ("fd", c_int), ("offset", c_uint64), ("bytes", c_uint64)]


class Event(ctypes.Structure):
    """struct cma_event."""

    _fields_ = [
        ("size", c_uint32),
        ("kind", c_uint32),
        ("age_ns", c_uint64),
        ("region", c_char_p),
        ("start", c_uint64),
        ("bytes", c_uint64),
        ("request", c_uint64),
        ("device", c_char_p),
        ("type", c_char_p),
        ("regions", c_char_p),
        ("text", c_char_p),
        ("count", c_uint64),
        ("error", c_int32),
        ("last", c_uint32),
    ]


class Delivery(ctypes.Structure):
    """struct cma_delivery: how far the delivery of events has come."""

    _fields_ = [
        ("size", c_uint32),
        ("reserved", c_uint32),
        ("received", c_uint64),
        ("missed", c_uint64),
        ("waiting", c_uint64),
    ]


STRUCTURES = {
    "cma_request": Request,
    "cma_host_config": HostConfig,
    "cma_info": Info,
    "cma_statistics": Statistics,
    "cma_chunk_info": ChunkInfo,
    "cma_piece": Piece,
    "cma_event": Event,
    "cma_delivery": Delivery,
}

REQUEST_AT = 1
REQUEST_SHARE = 2
LOAD_REPLACE = 1

EventCallback = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Event))

_HANDLE = POINTER(c_void_p)
_TEXT = [c_char_p, c_void_p, c_size_t, POINTER(c_size_t)]

# The arguments of each call. A handle is a c_void_p.
CALLS = {
    "cma_chunk_info": [c_void_p, POINTER(ChunkInfo)],
    "cma_chunk_map": [c_void_p, _HANDLE],
    "cma_chunk_unmap": [c_void_p],
    "cma_chunk_descriptor": [c_void_p, POINTER(c_int), POINTER(c_uint64)],
    "cma_chunk_piece_count": [c_void_p, POINTER(c_uint64)],
    "cma_chunk_piece": [c_void_p, c_uint64, POINTER(Piece)],
    "cma_chunk_free": [c_void_p],
    "cma_client_open": [c_char_p, _HANDLE],
    "cma_client_close": [c_void_p],
    "cma_client_allocate": [c_void_p, POINTER(Request), _HANDLE],
    "cma_client_request": [c_void_p, POINTER(Request), _HANDLE],
    "cma_client_info": [c_void_p, c_char_p, c_char_p, POINTER(Info)],
    "cma_client_info_about": [c_void_p, c_char_p, POINTER(Info)],
    "cma_client_get": [c_void_p, *_TEXT],
    "cma_host_open": [POINTER(HostConfig), _HANDLE],
    "cma_host_close": [c_void_p],
    "cma_host_load": [c_void_p, c_char_p, c_char_p, c_uint32],
    "cma_host_allocate": [c_void_p, POINTER(Request), _HANDLE],
    "cma_host_request": [c_void_p, POINTER(Request), _HANDLE],
    "cma_host_info": [c_void_p, c_char_p, c_char_p, POINTER(Info)],
    "cma_host_info_about": [c_void_p, c_char_p, POINTER(Info)],
    "cma_host_statistics": [c_void_p, c_char_p, POINTER(Statistics)],
    "cma_host_set_map": [c_void_p, c_char_p],
    "cma_host_set_allocator": [c_void_p, c_char_p, c_char_p],
    "cma_host_get": [c_void_p, *_TEXT],
    "cma_host_set": [c_void_p, c_char_p, c_char_p],
    "cma_host_observe": [c_void_p, EventCallback, c_void_p, _HANDLE],
    "cma_device_open": [c_void_p, c_char_p, c_char_p, _HANDLE],
    "cma_device_alloc": [c_void_p, c_uint64, c_uint64, _HANDLE],
    "cma_device_close": [c_void_p],
    "cma_observation_catch_up": [c_void_p, c_uint64],
    "cma_observation_delivery": [c_void_p, POINTER(Delivery)],
    "cma_observation_end": [c_void_p],
    "cma_pending_descriptor": [c_void_p, POINTER(c_int)],
    "cma_pending_finish": [c_void_p, _HANDLE],
    "cma_pending_cancel": [c_void_p],
}


def _failure(result):
    failed = json.loads(library.cma_last_error_json())
    regions = [(region["region"], region["reason"]) for region in failed["regions"] or []]
    return Error(-result, failed["message"], failed["call"], regions)


def _check(result, _call, _arguments):
    if result != 0:
        raise _failure(result)
    return result


def _load():
    path = os.environ.get("CMA_LIBRARY", "libcma.so.1")
    try:
        loaded = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"{error}: install libcma (cargo xtask install-c), or set CMA_LIBRARY to its path"
        ) from None
    for name, arguments in CALLS.items():
        call = getattr(loaded, name)
        call.argtypes, call.restype, call.errcheck = arguments, c_int, _check
    for name in ["cma_version", "cma_last_error", "cma_last_error_json"]:
        call = getattr(loaded, name)
        call.argtypes, call.restype = [], c_char_p
    return loaded


library = _load()
