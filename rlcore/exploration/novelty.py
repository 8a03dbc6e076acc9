"""How badly a network predicts a state (random network distillation), and the novelty that a step gains (NovelD)."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def rnd_novelty(prediction: Array, target: Array) -> Array:
  """Measures how far the predictor of a random network is from it; as a loss it trains the predictor.

  It is the norm of the difference, as in the code of NovelD and E3B, not its square: the square would change the scale
  of every bonus. The loss of a batch is the mean of this over its states.

  Args:
    prediction: `[E]`, the trained network's embedding of a state.
    target: `[E]`, the random network's; a constant.

  Returns:
    float32[]; differentiable in `prediction`, with gradient 0 where both are equal.

  Reference: RND, arXiv:1810.12894; A Study of Global and Episodic Bonuses, arXiv:2306.03236 (its code).
  """
  prediction, target = jnp.asarray(prediction), jnp.asarray(target)
  checks.rank(1, prediction=prediction)
  checks.same_shape(prediction=prediction, target=target)
  away = prediction.astype(jnp.float32) - jax.lax.stop_gradient(target).astype(jnp.float32)
  return stats.euclidean_norm(away)


def noveld_bonus(novelty: Array, mask: Array | None = None, alpha: Array | float = 0.5) -> Array:
  """Pays for a step into a state that is more novel than the one it leaves: `max(novelty_tp1 - alpha novelty_t, 0)`.

  `alpha=0` is the novelty of the next state (RND); the code of the study below takes 0.1, NovelD 0.5.

  Args:
    novelty: `[T+1]`, of every state; entry t belongs to the state in which action t is taken, entry t+1 to the next.
    mask: `[T]`, 1 where a transition counts; None counts all.
    alpha: share of the old state's novelty that is subtracted; a negative one would be added.

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows. A novelty that is NaN stays NaN in the steps that count it.

  Reference: NovelD, Zhang et al., NeurIPS 2021; A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  novelty = jax.lax.stop_gradient(jnp.asarray(novelty)).astype(jnp.float32)
  checks.rank(1, novelty=novelty, mask=mask)
  gain = jnp.maximum(novelty[1:] - jax.lax.stop_gradient(alpha) * novelty[:-1], 0)
  checks.same_shape(**{"novelty[1:]": gain, "mask": mask})
  return stats.masked(gain, mask)
