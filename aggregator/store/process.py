"""Settings of the process that the embedded store and Arrow want."""

import ctypes
import sys

import pyarrow as pa

_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
_KEPT_BYTES = 64 * 2**20
_SWITCH_SECONDS = 0.001


def tune_process() -> None:
    """Keep memory and wake-up delays small; call it once, before threads start.

    Two malloc arenas halve the memory of a many-threaded process. Arrow's own pool would keep
    150 MB free that nobody else can use; its threads bring nothing on columns of this size. A short
    switch interval lets API threads in while a cache miss is parsed. What arrays of up to 32 MB
    leave free is kept for the next ones: getting it from the system anew, page after page, was 40 %
    of the time it takes to write a large answer.
    """
    _libc().mallopt(_M_ARENA_MAX, 2)
    _libc().mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 2)
    _libc().mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    sys.setswitchinterval(_SWITCH_SECONDS)


def release_memory() -> None:
    """Give freed memory back to the system, after much of it was freed at once."""
    _libc().malloc_trim(0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # chDB exists for glibc only
