"""The Transformer in PyTorch's own modules, with the weights of ours."""

import math

import numpy as np
import torch


class Peer(torch.nn.Module):
  """Encoder and decoder of torch.nn; their biases of attention stay 0."""

  def __init__(self, size, params, *, dropout: float = 0.0):
    super().__init__()
    shared = {
      'd_model': size.width, 'nhead': size.heads, 'dim_feedforward': size.ffn,
      'dropout': dropout, 'layer_norm_eps': 1e-6, 'batch_first': True,
      'norm_first': True,
    }  # fmt: skip
    norm = lambda: torch.nn.LayerNorm(size.width, eps=1e-6)  # noqa: E731
    self.encoder = torch.nn.TransformerEncoder(
      torch.nn.TransformerEncoderLayer(**shared), size.layers, norm(),
      enable_nested_tensor=False,
    )  # fmt: skip
    self.decoder = torch.nn.TransformerDecoder(
      torch.nn.TransformerDecoderLayer(**shared), size.layers, norm()
    )
    self.table = torch.nn.Parameter(torch.zeros(size.vocabulary, size.width))
    self.dropout = torch.nn.Dropout(dropout)
    with torch.no_grad():
      for name, values in tensors(size, params).items():
        self.get_parameter(name).copy_(torch.tensor(np.array(values)))
    for name, parameter in self.named_parameters():
      if name.endswith(('in_proj_bias', 'out_proj.bias')):
        parameter.requires_grad_(False).zero_()

  def forward(self, source, target):
    """Tokens [B, M] and [B, L] -> logits [B, L, V]."""
    padding = source == 0
    length = target.shape[1]
    causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
    memory = self.encoder(self._embed(source), src_key_padding_mask=padding)
    x = self.decoder(
      self._embed(target, shift=True), memory,
      tgt_mask=causal, memory_key_padding_mask=padding,
    )  # fmt: skip
    return x @ self.table.T

  def _embed(self, tokens, *, shift: bool = False):
    width = self.table.shape[1]
    x = self.table[tokens.long()] * math.sqrt(width)
    x = x * (tokens != 0)[..., None]
    if shift:
      x = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
    return self.dropout(x + torch.tensor(waves(tokens.shape[1], width)))


def waves(length: int, width: int) -> np.ndarray:
  """Sines, then cosines: float32 [length, width]."""
  half = width // 2
  rates = 1e4 ** (-np.arange(half) / (half - 1))
  angles = np.arange(length)[:, None] * rates
  both = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
  return both.astype(np.float32)


def loss(logits, target, smoothing: float):
  """The mean over tokens, where PyTorch smooths over all V and not V - 1."""
  vocabulary = logits.shape[-1]
  cross = torch.nn.functional.cross_entropy(
    logits.reshape(-1, vocabulary), target.reshape(-1).long(), ignore_index=0,
    label_smoothing=smoothing * vocabulary / (vocabulary - 1),
  )  # fmt: skip
  each = smoothing / (vocabulary - 1)
  least = (1 - smoothing) * math.log(1 - smoothing)
  return cross + least + smoothing * math.log(each)


def tensors(size, params) -> dict[str, np.ndarray]:
  """Our parameters, or gradients, by the peer's names and in its shapes."""
  found = {'table': params['embedding']}
  found |= _stack(size, params, 'encoder', ('attention', 'ffn'))
  parts = ('attention', 'memory_attention', 'ffn')
  return found | _stack(size, params, 'decoder', parts)


def _stack(size, params, stack, parts):
  blocks, norm, found = params[stack]['blocks'], params[stack]['norm'], {}
  for i in range(size.layers):
    names = iter(('self_attn', 'multihead_attn'))
    for number, part in enumerate(parts, start=1):
      place = f'{stack}.layers.{i}'
      own = blocks[part.replace('memory_attention', 'memory') + '_norm']
      found[f'{place}.norm{number}.weight'] = own['scale'][i]
      found[f'{place}.norm{number}.bias'] = own['bias'][i]
      if part == 'ffn':
        for theirs, name in (('linear1', 'up'), ('linear2', 'down')):
          dense = blocks['ffn'][name]
          found[f'{place}.{theirs}.weight'] = dense['kernel'][i].T
          found[f'{place}.{theirs}.bias'] = dense['bias'][i]
      else:
        theirs = f'{place}.{next(names)}'
        found |= _attention(size.width, blocks[part], i, theirs)
  found[f'{stack}.norm.weight'] = norm['scale']
  found[f'{stack}.norm.bias'] = norm['bias']
  return found


def _attention(width, part, layer, theirs):
  one = {
    name: np.asarray(part[name]['kernel'][layer]).reshape(width, width).T
    for name in ('query', 'key', 'value', 'output')
  }
  merged = np.concatenate([one['query'], one['key'], one['value']])
  return {
    f'{theirs}.in_proj_weight': merged,
    f'{theirs}.out_proj.weight': one['output'],
  }
