"""GAIL's reward against its formula."""

import numpy as np
import pytest

from rlcore import rewards
from tests.tolerance import close


def test_gail_pays_minus_the_log_of_one_minus_d():
  logits, mask = np.array([-30.0, -1.0, 0.0, 2.0, np.nan, 90.0]), np.array([1, 1, 1, 1, 0, 1])
  share = lambda x: 1 / (1 + np.exp(-x))
  want = [-np.log1p(-share(-30.0)), -np.log(1 - share(-1.0)), np.log(2), -np.log(1 - share(2.0)), 0, 90]
  close(rewards.gail_reward(logits, mask), want, rtol=1e-5)
  with pytest.raises(AssertionError, match="rewards.gail_reward: mask has shape"):
    rewards.gail_reward(logits, mask[:3])
