r"""3D U-Net here and in PyTorch: train steps, evals, and the reading of crops.

  python studies/unet3d_pytorch.py --what=step,eval --filters=8,16,32 --side=16
  python studies/unet3d_pytorch.py --what=input

Steps and evals start from the same weights and see the same volumes; losses and
labels are compared. An eval of PyTorch's is done as the reference does it: one
window at a time, its logits added up beside the sum of the weights. Crops are
read as the reference reads them: both files of a volume as a whole, and for
every crop with foreground the connected pieces of a class anew. Seconds are
those of the CPU, of all threads together, and those of the clock; sides take
turns.

It needs what the tests need: pip install -e '.[dev]'.
"""

import dataclasses
import os
import statistics
import sys
import tempfile
import time

from absl import app, flags, logging
import jax
import numpy as np
from scipy import ndimage
import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from input_pipelines.kits19 import prepare, read, tiny, windows
from input_pipelines.reading import mapped
from suite import benchmark as benchmark_lib
from suite.benchmark import DataSet
from suite.benchmarks.unet3d import task as unet3d_task
from suite.clock import Clock
from suite.run import sharding
from suite.run.program import Program, host_rows
from tests.models import unet3d_peer

_WHAT = flags.DEFINE_list('what', ['step', 'eval', 'input'], 'Of these.')
_FILTERS = flags.DEFINE_list('filters', ['8', '16', '32'], 'Of each level.')
_SIDE = flags.DEFINE_integer('side', 16, 'Voxels of a crop and a window.')
_ROWS = flags.DEFINE_integer('rows', 8, 'Crops, or windows, of a batch.')
_FOLD = flags.DEFINE_bool('fold', True, 'Fold planes in our convolutions.')
_THREADS = flags.DEFINE_integer(
  'threads', None, "PyTorch's; on a busy machine more than one spin."
)
_TURNS = flags.DEFINE_integer('turns', 5, 'Of which medians are taken.')
_SHAPE = flags.DEFINE_list(
  'shape', ['190', '333', '333'], 'Voxels of the volumes that crops are of.'
)
_VOLUMES = flags.DEFINE_integer('volumes', 3, 'Such volumes.')

# Of a volume that crops are of: centre, radius, class.
_BALLS = ((0.3, 0.1, 1), (0.7, 0.1, 1), (0.3, 0.05, 2))


class Ours:
  """The benchmark's own programs, of another size."""

  def __init__(self):
    size = benchmark_lib.get('unet3d').size('tiny')
    hp = vars(size.hparams) | {
      'filters': tuple(map(int, _FILTERS.value)),
      'fold_planes': _FOLD.value,
      'global_batch_size': _ROWS.value,
      'last_batch': 'padded',
      'eval_batch_size': _ROWS.value,
      'eval_slots': 96,
      'training_input_shape': _SIDE.value,
      'validation_input_shape': _SIDE.value,
      'warmup_epochs': 0,
    }
    data = DataSet('', size.data.train_samples, size.data.eval_samples)
    self.task = unet3d_task.make_task(type(size.hparams)(**hp), data)
    self.mesh = sharding.make_mesh()
    self.made = Program.build(self.task, self.mesh, Clock())
    self.state = self.made.fresh_state(0)
    self.rate = hp['base_learning_rate']

  def weights(self):
    """By path, as the peer takes them."""
    return {
      sharding.path_of(path): np.asarray(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(self.state.params)
    }

  def step(self, image, label):
    """Takes a step; returns its loss."""
    batch = {
      'image': image,
      'label': label,
      'weight': np.ones(len(image), np.float32),
    }
    put = sharding.put_rows(batch, self.mesh)
    self.state, metrics = self.made.train_step(self.state, put)
    return float(metrics['loss'])

  def dice(self, volumes):
    """Mean Dice of volumes."""
    shapes = tuple(v.image.shape for v in volumes)
    facts = unet3d_task.VolumeFacts(shapes)
    carry, found = self.made.carry(), []
    for batch in read.eval_batches(
      volumes, self.task._lanes_of(shapes), threads=2
    ):
      put = sharding.put_rows(batch, self.mesh)
      carry, output = self.made.predict(self.state, put, carry)
      found.append(output)
    voxels = self.task._voxels(facts)
    return unet3d_task.mean_dice(map(host_rows, found), voxels)


class Theirs:
  """PyTorch's modules and SGD."""

  def __init__(self, ours):
    filters = list(map(int, _FILTERS.value))
    self.net = unet3d_peer.Peer(filters, 3, ours.weights()).float()
    self.optimizer = torch.optim.SGD(
      self.net.parameters(), lr=ours.rate, momentum=0.9, nesterov=True
    )

  def step(self, image, label):
    """Takes a step; returns its loss."""
    self.optimizer.zero_grad()
    logits = self.net(torch.tensor(image)[:, None])
    loss = unet3d_peer.loss(logits, torch.tensor(label.astype(np.int64)))
    loss.backward()
    self.optimizer.step()
    return loss.item()

  @torch.no_grad()
  def dice(self, volumes):
    """Mean Dice of volumes, one window at a time."""
    side, weight = (
      _SIDE.value,
      torch.tensor(unet3d_task.window_weight(_SIDE.value)[0, None, ..., 0]),
    )
    scores = []
    for volume in volumes:
      axes = [windows.axis_of(size, side) for size in volume.image.shape]
      kept = tuple(slice(a.first, a.first + a.size) for a in axes)
      pad = [(a.front, a.tiles * side // 2 - a.size - a.front) for a in axes]
      image = torch.tensor(
        np.pad(volume.image[kept], pad, constant_values=read.PAD)
      )
      total = torch.zeros((1, 3, *image.shape))
      weights = torch.zeros_like(total)
      for place in np.ndindex(*(a.windows for a in axes)):
        cut = tuple(slice(p * side // 2, p * side // 2 + side) for p in place)
        total[(..., *cut)] += self.net(image[cut][None, None]) * weight
        weights[(..., *cut)] += weight
      inside = tuple(slice(a.front, a.front + a.size) for a in axes)
      found = (total / weights).argmax(1)[0][inside].numpy()
      label = volume.label[kept]
      for number in (1, 2):
        both = ((found == number) & (label == number)).sum()
        either = (found == number).sum() + (label == number).sum()
        scores.append((2 * both + 1e-6) / (either + 1e-6))
    return float(np.mean(scores))


def measured(name, sides, *arguments):
  """Runs both sides in turns; prints medians and what they return."""
  clocks = (time.process_time, time.perf_counter)
  taken = {side: [] for side in sides}
  for turn in range(_TURNS.value + 1):
    for side, function in sides.items():
      start = [clock() for clock in clocks]
      value = function(*arguments)
      spent = [c() - s for c, s in zip(clocks, start, strict=True)]
      if turn:  # the first turn warms up
        taken[side].append(spent)
  medians = {
    side: [statistics.median(each) for each in zip(*found, strict=True)]
    for side, found in taken.items()
  }
  for side, (cpu, wall) in medians.items():
    print(f'{name}, {side}: {cpu * 1e3:.1f} ms of CPU, {wall * 1e3:.1f} ms')
  ours, theirs = medians.values()
  print(
    f'{name}: here {theirs[0] / ours[0]:.2f} times as fast by CPU, '
    f'{theirs[1] / ours[1]:.2f} by the clock; last value {value:.5f}',
    flush=True,
  )


def compare_nets(what):
  """Steps and evals."""
  ours = Ours()
  theirs = Theirs(ours)
  rng = np.random.default_rng(0)
  shape = (_ROWS.value, *3 * (_SIDE.value,))
  image = rng.standard_normal(shape).astype(np.float32)
  label = (image > 1).astype(np.uint8) + (image > 2)
  if 'eval' in what:
    with tempfile.TemporaryDirectory() as folder:
      volumes = read.load(tiny.build(folder), 'validation')[:3]
      dice = [side.dice(volumes) for side in (ours, theirs)]
      np.testing.assert_allclose(*dice, atol=2e-4)
      sides = {'here': ours.dice, 'PyTorch': theirs.dice}
      measured('eval', sides, volumes)
  if 'step' in what:
    losses = [side.step(image, label) for side in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    sides = {'here': ours.step, 'PyTorch': theirs.step}
    measured('step', sides, image, label)


def compare_input():
  """Crops of 128 voxels a side."""
  shape = tuple(map(int, _SHAPE.value))
  rng = np.random.default_rng(0)
  side = min(128, *shape)
  cropping = read.Cropping(side, 0.4, 1 / 3, 0.1, (0.7, 1.3), 0.1, 0.1)
  with tempfile.TemporaryDirectory() as folder:
    paths, volumes = [], []
    for number in range(_VOLUMES.value):
      image = rng.standard_normal(shape, np.float32)
      label = np.zeros(shape, np.uint8)
      for centre, radius, value in (
        (0.3, 0.1, 1),
        (0.7, 0.1, 1),
        (0.3, 0.05, 2),
      ):
        grid = np.ogrid[tuple(slice(size) for size in shape)]
        distance = sum(
          np.square((g - centre * n) / (radius * n))
          for g, n in zip(grid, shape, strict=True)
        )
        label[distance < 1] = value
      names = [
        mapped.path_of(folder, str(number), kind) for kind in read.DTYPES
      ]
      for path, array in zip(names, (image, label), strict=True):
        np.save(path, array[None])
      boxes = np.reshape(prepare.boxes(label), (-1, 7)).tolist()
      arrays = [np.load(path, mmap_mode='r')[0] for path in names]
      paths.append(names)
      volumes.append(
        read.Volume(
          str(number),
          *arrays,
          tuple(read.Box(b[0], tuple(b[1:4]), tuple(b[4:])) for b in boxes),
        )
      )
    crops = 8
    draws = np.random.default_rng(1)
    image = np.empty((side,) * 3, np.float32)
    label = np.empty((side,) * 3, np.uint8)

    def ours():
      for n in range(crops):
        cropping.fill(volumes[n % len(volumes)], draws, image, label)
      return image.mean()

    def theirs():
      for n in range(crops):
        whole = [np.load(path)[0] for path in paths[n % len(paths)]]
        boxes = ()
        if draws.random() < 0.4:
          present = np.unique(whole[1][whole[1] > 0])
          chosen = draws.choice(present)
          pieces, _ = ndimage.label(whole[1] == chosen)
          found = ndimage.find_objects(pieces)
          boxes = tuple(
            read.Box(
              int(chosen),
              tuple(s.start for s in cut),
              tuple(s.stop for s in cut),
            )
            for cut in found
          )
        drawn = dataclasses.replace(cropping, oversampling=float(bool(boxes)))
        drawn.fill(read.Volume('', *whole, boxes), draws, image, label)
      return image.mean()

    measured(f'{crops} crops', {'here': ours, 'as the reference': theirs})


def main(argv):
  del argv
  logging.set_verbosity(logging.WARNING)
  torch.set_num_threads(_THREADS.value or len(os.sched_getaffinity(0)))
  what = _WHAT.value
  if 'input' in what:
    compare_input()
  if {'step', 'eval'} & {*what}:
    compare_nets(what)


if __name__ == '__main__':
  app.run(main)
