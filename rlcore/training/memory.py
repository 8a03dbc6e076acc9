"""Memory of the host: what programs on the CPU work in is kept between their calls."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # as <malloc.h> of glibc numbers them
_NEVER = -1
_AHEAD = 2**26  # bytes asked of the system beyond what is needed, so that small pieces seldom ask


def keep_freed_memory() -> bool:
  """Makes the C library keep memory that is freed, where it would give it back to the system.

  A program on the CPU takes all its work memory anew at each call. If that went back after the last one, every page of
  it is cleared and mapped again: of an update of a small decoder (670 MB) that was a sixth of the time. Must come
  before the first computation, whose threads would otherwise have memory of their own. The process then stays as large as it
  ever was. On an accelerator, whose memory is not the C library's, nothing is won and nothing lost.

  Returns:
    Whether this C library can (glibc).
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # another C library; TypeError: Windows
    return False
  settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AHEAD))
  return all([mallopt(parameter, value) for parameter, value in settings])
