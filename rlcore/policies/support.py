"""Which tokens a truncated sampler could have drawn at each place, kept small and replayed when responses are scored.

Top-k and top-p are decided by the parameters that sample. A step later they would decide differently, and the ratio of
new to old probabilities would compare distributions over different tokens; so what was decided is stored.

What it costs, for every place of every response: with top-k the ids, 4 k bytes; with top-p alone (or a k above V / 32)
one bit for each of the V tokens of the vocabulary, V / 8 bytes.

| | bytes a token | 512 responses of 1,024 tokens |
|---|---|---|
| top_k=50, any vocabulary | 200 | 0.1 GB |
| top_p, V = 49,152 (SmolLM2) | 6,144 | 3.2 GB |
| top_p, V = 151,936 (Qwen) | 18,992 | 10 GB |

So give top-p a generous top-k beside it where the vocabulary is large.
"""

import jax
import jax.numpy as jnp

from rlcore.types import Array

_BITS = 32


def pack(kept: Array, top_k: int) -> Array:
  """Stores which tokens were kept.

  Args:
    kept: `[..., V]` bool.
    top_k: static, the most tokens that can be kept; 0 if there is no such bound.

  Returns:
    `[..., k]` int32, ids in order, V where there are fewer; or, where that takes less room, `[..., ceil(V / 32)]`
    uint32, bit j of word i being token 32 i + j.
  """
  vocab = kept.shape[-1]
  words = -(-vocab // _BITS)
  if not 0 < top_k < words:
    padded = jnp.pad(kept, [(0, 0)] * (kept.ndim - 1) + [(0, words * _BITS - vocab)])
    bits = padded.reshape(*kept.shape[:-1], words, _BITS).astype(jnp.uint32)
    return jnp.sum(bits << jnp.arange(_BITS, dtype=jnp.uint32), -1, dtype=jnp.uint32)
  reached = jnp.cumsum(kept, -1, dtype=jnp.int32)  # id number j is the first place where j + 1 have been reached
  find = jnp.vectorize(lambda row: jnp.searchsorted(row, jnp.arange(1, top_k + 1)), signature="(v)->(k)")
  return find(reached).astype(jnp.int32)


def unpack(support: Array, vocab_size: int) -> Array:
  """Reads what `pack` stored: `[..., W]` to `[..., V]` bool."""
  if support.dtype == jnp.uint32:
    places = jnp.arange(vocab_size, dtype=jnp.uint32)
    words = jnp.take(support, places // _BITS, -1)
    return ((words >> (places % _BITS)) & 1) > 0
  mark = jnp.vectorize(lambda ids: jnp.zeros(vocab_size, bool).at[ids].set(True, mode="drop"), signature="(k)->(v)")
  return mark(support)


def empty(shape: tuple[int, ...], vocab_size: int, top_k: int) -> Array:
  """Returns room for the support of `shape` places, of the kind that `pack` makes."""
  like = jax.eval_shape(lambda: pack(jnp.zeros((vocab_size,), bool), top_k))
  return jnp.zeros((*shape, *like.shape), like.dtype)
