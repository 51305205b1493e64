"""Our Transformer in the modules of the transformers library, same weights.

M2M100 is the Transformer with normalisation first and sines before cosines. Of
what remains: biases of attention are set to 0, positions count from 0, and the
table that it looks up is apart from its softmax, because ours has a zero for
padding there. It is started by a token of its own, number V, which it can not
write.
"""

import math

import numpy as np
import torch
import transformers

from tests.models import modules_peer


def arrange(size, params, *, longest: int):
  """Their model of `params`, as our `Transformer` has them, for fp32."""
  config = transformers.M2M100Config(
    vocab_size=size.vocabulary + 1,
    d_model=size.width,
    encoder_layers=size.layers, decoder_layers=size.layers,
    encoder_attention_heads=size.heads, decoder_attention_heads=size.heads,
    encoder_ffn_dim=size.ffn, decoder_ffn_dim=size.ffn,
    activation_function='relu', scale_embedding=True,
    dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    encoder_layerdrop=0.0, decoder_layerdrop=0.0,
    max_position_embeddings=longest,
    pad_token_id=0, eos_token_id=1, bos_token_id=None,
    decoder_start_token_id=size.vocabulary,
    tie_word_embeddings=False,
  )  # fmt: skip
  model = transformers.M2M100ForConditionalGeneration(config).eval()
  with torch.no_grad():
    _copy_tables(model, size, params['embedding'])
    for side, names in (
      ('encoder', {'self_attn': 'attention'}),
      ('decoder', {'self_attn': 'attention',
                   'encoder_attn': 'memory_attention'}),
    ):  # fmt: skip
      stack = getattr(model.model, side)
      _copy_stack(stack, params[side], names)
      stack.embed_positions.padding_idx = -1  # so that they count from 0
      stack.embed_positions.weights = _waves(longest, size.width)
  return model


def generate(model, source, *, beams: int, extra_length: int):
  """The best translation of each source int32 [B, M], without its start.

  Scores are sums of log probabilities, alpha 0 of ours; its penalty for length
  is another.
  """
  source = torch.tensor(np.asarray(source)).long()
  with torch.no_grad():
    found = model.generate(
      source, attention_mask=source != 0, num_beams=beams, do_sample=False,
      length_penalty=0.0, early_stopping='never', use_cache=True,
      max_new_tokens=source.shape[1] + extra_length,
    )  # fmt: skip
  return found[:, 1:].numpy()


def cut(tokens: np.ndarray, length: int) -> np.ndarray:
  """Zeros behind the end, which theirs repeats, up to `length`."""
  behind = np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0
  tokens = np.where(behind, 0, tokens)
  return np.pad(tokens, ((0, 0), (0, length - tokens.shape[1])))


def _copy_tables(model, size, table) -> None:
  table = torch.tensor(np.array(table))
  looked_up = torch.cat([table, torch.zeros(1, size.width)])
  looked_up[0] = 0
  for module in (
    model.model.shared,
    model.model.encoder.embed_tokens,
    model.model.decoder.embed_tokens,
  ):
    module.weight.copy_(looked_up)
  head = torch.nn.Linear(size.width, size.vocabulary + 1)
  head.weight.copy_(torch.cat([table, torch.zeros(1, size.width)]))
  head.bias.zero_()
  head.bias[-1] = -1e9
  model.lm_head = head


def _copy_stack(stack, params, names) -> None:
  blocks = params['blocks']
  for i, layer in enumerate(stack.layers):
    for theirs, ours in names.items():
      part = getattr(layer, theirs)
      for projection, name in (
        ('q_proj', 'query'), ('k_proj', 'key'), ('v_proj', 'value'),
        ('out_proj', 'output'),
      ):  # fmt: skip
        kernel = np.array(blocks[ours][name]['kernel'][i])
        linear = getattr(part, projection)
        linear.weight.copy_(_matrix(kernel.reshape(2 * [_width(kernel)])))
        linear.bias.zero_()
      norm = getattr(layer, f'{theirs}_layer_norm')
      _copy_norm(norm, blocks[ours.replace('memory_attention', 'memory')
                              + '_norm'], i)  # fmt: skip
    for theirs, ours in (('fc1', 'up'), ('fc2', 'down')):
      linear, dense = getattr(layer, theirs), blocks['ffn'][ours]
      linear.weight.copy_(_matrix(dense['kernel'][i]))
      linear.bias.copy_(torch.tensor(np.array(dense['bias'][i])))
    _copy_norm(layer.final_layer_norm, blocks['ffn_norm'], i)
  _copy_norm(stack.layer_norm, params['norm'], ...)


def _width(kernel) -> int:
  """The width W of a kernel [W, H, D] or [H, D, W]."""
  return math.isqrt(kernel.size)


def _copy_norm(norm, params, layer) -> None:
  norm.weight.copy_(torch.tensor(np.array(params['scale'][layer])))
  norm.bias.copy_(torch.tensor(np.array(params['bias'][layer])))
  norm.eps = 1e-6


def _matrix(kernel):
  return torch.tensor(np.array(kernel)).T


def _waves(longest: int, width: int):
  return torch.nn.Buffer(torch.tensor(modules_peer.waves(longest + 2, width)))
