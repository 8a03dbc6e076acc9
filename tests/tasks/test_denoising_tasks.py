"""Rings and digits: the data, the rewards, and what is said where scikit-learn is missing."""

import sys

import jax
import numpy as np
import pytest

from rlcore import tasks
from rlcore.tasks import digits
from tests.tolerance import close


def test_rings_have_their_modes_and_reward_one_of_them():
  task = tasks.make_rings()
  data, condition = (np.asarray(x) for x in task.sample(jax.random.key(0), 4000))
  score = jax.jit(task.score)
  for c in range(4):
    own = data[condition == c]
    assert 800 < len(own) < 1200
    centres = np.array([[2 * np.cos(a), 2 * np.sin(a)] for a in 2 * np.pi * np.arange(8) / 8 + c * np.pi / 16])
    distance = np.linalg.norm(own[:, None] - centres, axis=-1)
    assert distance.min(1).max() < 0.15 * 5
    np.testing.assert_allclose(np.bincount(distance.argmin(1), minlength=8) / len(own), 1 / 8, atol=0.05)
    np.testing.assert_allclose(score(centres[2 * c], c), 1, rtol=1e-5)
    x = np.array([0.3, -1.1])
    close(score(x, c), np.exp(-np.sum((x - centres[2 * c])**2) / (2 * 0.8**2)), rtol=1e-4)
  assert task.judge(data[0], 0) == {} and task.shape == (2,) and task.num_conditions == 4


def test_no_image_serves_two_purposes():
  splits = digits.load_splits()
  assert {name: len(labels) for name, (_, labels) in splits.items()} == {"flow": 898, "reward": 449, "judge": 450}
  whole = np.concatenate([images for images, _ in splits.values()])
  from sklearn import datasets
  assert sorted(map(bytes, whole)) == sorted(map(bytes, datasets.load_digits().data.astype(np.float32) / 8 - 1))
  assert whole.dtype == np.float32 and whole.min() == -1 and whole.max() == 1


def test_classifiers_are_those_of_scikit_learn():
  from sklearn import neural_network
  images, labels = digits.load_splits()["flow"]
  theirs = neural_network.MLPClassifier((64,), alpha=0.1, solver="lbfgs", max_iter=300, random_state=0)
  theirs.fit(*digits.load_splits()["reward"])
  expected = theirs.predict_log_proba(images[:50])
  task = digits.make_digits()
  score = jax.jit(jax.vmap(jax.vmap(task.score, (None, 0)), (0, None)))(images[:50], np.arange(10))
  np.testing.assert_allclose(score, expected + np.log(10), rtol=1e-3, atol=1e-3)
  judged = jax.jit(jax.vmap(task.judge))(images, labels)
  judge = digits.train_classifier("judge")
  assert 0.9 < judge.accuracy == pytest.approx(float(np.mean(judged["judge_accuracy"])))
  assert np.all(np.asarray(judged["judge_log_prob"]) <= 0)


@pytest.mark.parametrize("noise, right", [(0.0, 1.0), (0.5, 0.55)])
def test_labels_are_wrong_as_often_as_asked(noise, right):
  images, labels = digits.load_splits()["flow"]
  known = {bytes(image): label for image, label in zip(images, labels)}
  data, condition = digits.make_digits(noise).sample(jax.random.key(0), 2000)
  share = np.mean([known[bytes(image)] == c for image, c in zip(np.asarray(data), np.asarray(condition))])
  assert share == pytest.approx(right, abs=0.04)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
  digits.load_splits.cache_clear()
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ImportError, match=r"pip install 'rlcore\[digits\]'"):
    digits.make_digits()
