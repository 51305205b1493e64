"""3D U-Net of PyTorch's own modules, as a witness for ours."""

import itertools

import numpy as np
import torch
from torch import nn


def _block(channels, out, stride=1):
  return nn.Sequential(
    nn.Conv3d(channels, out, 3, stride, padding=1, bias=False),
    nn.InstanceNorm3d(out, affine=True),
    nn.ReLU(),
  )


def _pair(channels, out, stride=1):
  return nn.Sequential(_block(channels, out, stride), _block(out, out))


class Peer(nn.Module):
  """[N, 1, D, H, W] -> logits [N, classes, D, H, W]."""

  def __init__(self, filters, classes, params=None):
    super().__init__()
    inside = [*filters, filters[-1]]
    self.input = _pair(1, filters[0])
    self.down = nn.ModuleList(
      _pair(a, b, 2) for a, b in itertools.pairwise(inside)
    )
    self.up, self.joined = nn.ModuleList(), nn.ModuleList()
    for below, here in zip(inside[::-1], inside[-2::-1], strict=False):
      self.up.append(nn.ConvTranspose3d(below, here, 2, 2))
      self.joined.append(_pair(2 * here, here))
    self.output = nn.Conv3d(filters[0], classes, 1)
    if params is not None:
      self._take(params)

  def forward(self, x):
    x = self.input(x)
    skips = []
    for down in self.down:
      skips.append(x)
      x = down(x)
    for up, joined in zip(self.up, self.joined, strict=True):
      x = joined(torch.cat([up(x), skips.pop()], 1))
    return self.output(x)

  def named(self):
    """Ours and theirs: paths of parameters -> tensors, and the axes of each.

    The axes are those that a tensor of ours is transposed by.
    """
    pairs = {'input': self.input}
    pairs |= {f'down/{i}': pair for i, pair in enumerate(self.down)}
    pairs |= {f'joined/{i}': pair for i, pair in enumerate(self.joined)}
    for name, pair in pairs.items():
      for i, (conv, norm, _) in enumerate(pair):
        yield f'{name}/{i}/kernel', conv.weight, (4, 3, 0, 1, 2)
        yield f'{name}/{i}/scale', norm.weight, (0,)
        yield f'{name}/{i}/bias', norm.bias, (0,)
    for i, up in enumerate(self.up):
      yield f'up/{i}/kernel', up.weight, (3, 4, 0, 1, 2)
      yield f'up/{i}/bias', up.bias, (0,)
    yield 'kernel', self.output.weight, (1, 0)
    yield 'bias', self.output.bias, (0,)

  def _take(self, params):
    """Takes weights, by path."""
    for path, tensor, axes in self.named():
      value = np.transpose(params[path], axes).reshape(tensor.shape)
      tensor.data = torch.tensor(value.copy(), dtype=torch.float64)


def loss(logits, labels):
  """Half of Dice loss and cross entropy; labels int64 [N, D, H, W]."""
  truth = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)
  shares = logits.softmax(1)
  space = (2, 3, 4)
  both = (shares * truth).sum(space)[:, 1:]
  either = (shares.sum(space) + truth.sum(space))[:, 1:]
  dice = (2 * both + 1e-6) / (either + 1e-6)
  return ((1 - dice).mean() + nn.functional.cross_entropy(logits, labels)) / 2
