"""Real handwritten digits, 8 x 8 pixels: ten prompts, and classifiers that say how well a sample shows the asked digit.

The 1797 images that come with scikit-learn are split in three by a fixed shuffle: a half is the data of the flow
model, a quarter trains the classifier whose log-probability is the reward, and a quarter trains the judge, which
nothing is trained against. The module is imported by name (`from rlcore.tasks import digits`), since it needs the
extra `digits`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array, DenoisingTask

SIDE = 8
NUM_DIGITS = 10


class Classifier(NamedTuple):
  """Weights of a perceptron with ReLU: `kernels` and `biases` layer by layer, and its accuracy on the flow's images."""

  kernels: tuple[np.ndarray, ...]
  biases: tuple[np.ndarray, ...]
  accuracy: float


@functools.lru_cache
def load_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns `flow`, `reward` and `judge`: pairs of images `[n, 64]` float32 in [-1, 1] and labels `[n]` int32.

  Raises:
    ImportError: without scikit-learn.
  """
  try:
    from sklearn import datasets  # an extra, and slow to import
  except ImportError as error:
    raise ImportError("the digits come with scikit-learn: pip install 'rlcore[digits]'") from error
  images, labels = datasets.load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(labels))
  images, labels = images[order].astype(np.float32) / 8 - 1, labels[order].astype(np.int32)
  ends = (0, len(labels) // 2, len(labels) // 4 * 3, len(labels))
  parts = [slice(start, stop) for start, stop in zip(ends, ends[1:])]
  return {name: (images[part], labels[part]) for name, part in zip(("flow", "reward", "judge"), parts, strict=True)}


@functools.lru_cache
def train_classifier(split: str) -> Classifier:
  """Trains a perceptron of 64 units on one split; the same every time."""
  splits = load_splits()
  from sklearn import neural_network  # load_splits has said what to install
  model = neural_network.MLPClassifier((64,), alpha=0.1, solver="lbfgs", max_iter=300, random_state=0)
  model.fit(*splits[split])
  as_float32 = lambda arrays: tuple(np.asarray(x, np.float32) for x in arrays)
  return Classifier(as_float32(model.coefs_), as_float32(model.intercepts_), float(model.score(*splits["flow"])))


def class_log_probs(classifier: Classifier, x: Array) -> Array:
  """Returns the log-probabilities `[10]` that a classifier gives an image `[64]`."""
  *inner, last = zip(classifier.kernels, classifier.biases, strict=True)
  for kernel, bias in inner:
    x = jax.nn.relu(x @ kernel + bias)
  return jax.nn.log_softmax(x @ last[0] + last[1])


def make_digits(label_noise: float | Array = 0.5) -> DenoisingTask:
  """Makes the task: condition c asks for digit c.

  A flow model that is taught the data as they are hardly errs, so some examples carry a label drawn at random: what is
  left to learn from the reward is to show what was asked. The reward is the log-probability of the asked digit above
  that of a guess, `log p + log 10`, so at most 2.30. The judge, another classifier trained on other images, reports
  `judge_accuracy` and its own `judge_log_prob`.

  Args:
    label_noise: probability that an example's label is drawn at random.

  Returns:
    The task.

  Raises:
    ImportError: without scikit-learn.
  """
  images, labels = load_splits()["flow"]
  critic, judge = train_classifier("reward"), train_classifier("judge")

  def sample(key, size):
    index_key, noise_key, label_key = jax.random.split(key, 3)
    index = jax.random.randint(index_key, (size,), 0, len(labels))
    wrong = jax.random.bernoulli(noise_key, label_noise, (size,))
    drawn = jax.random.randint(label_key, (size,), 0, NUM_DIGITS)
    return jnp.asarray(images)[index], jnp.where(wrong, drawn, jnp.asarray(labels)[index])

  def score(x, condition):
    return class_log_probs(critic, x)[condition] + np.log(NUM_DIGITS)

  def judged(x, condition):
    log_probs = class_log_probs(judge, x)
    return {"judge_accuracy": (jnp.argmax(log_probs) == condition).astype(jnp.float32),
            "judge_log_prob": log_probs[condition]}

  return DenoisingTask(sample, score, judged, (SIDE * SIDE,), NUM_DIGITS)
