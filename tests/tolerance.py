"""How far a float32 result may lie from its float64 reference."""

import numpy as np


def close(actual, expected, *operands, rtol: float = 1e-5):
  """Asserts that two arrays agree up to `rtol` of the largest number that went into them.

  A relative tolerance alone fails by luck where terms cancel to about 0: rounding scales with the terms, not with their
  sum. A fixed absolute one is too strict for large terms and blind for small ones.

  Args:
    actual: what the library computed.
    expected: the reference, broadcast against `actual`.
    *operands: terms that were added or subtracted on the way; NaN and inf among them (junk behind a mask) count for
      nothing.
    rtol: relative tolerance, of each element and of the scale.

  Raises:
    AssertionError: as `np.testing.assert_allclose`.
  """
  sizes = [np.abs(np.ravel(np.asarray(x, np.float64))) for x in (expected, *operands)]
  sizes = np.concatenate(sizes)
  scale = np.max(sizes, initial=0, where=np.isfinite(sizes))
  np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol, atol=rtol * scale)
