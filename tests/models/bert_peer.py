"""BertForPreTraining of transformers, with the weights of ours."""

import numpy as np
import torch
import transformers

from models import bert


def peer(size: bert.Size, params, *, dropout: float = 0.0):
  """The library's model, on the CPU."""
  config = transformers.BertConfig(
    vocab_size=size.vocabulary,
    hidden_size=size.width,
    num_hidden_layers=size.layers,
    num_attention_heads=size.heads,
    intermediate_size=size.ffn,
    hidden_act='gelu_new',
    hidden_dropout_prob=dropout,
    attention_probs_dropout_prob=dropout,
    max_position_embeddings=size.positions,
    layer_norm_eps=1e-12,
    attn_implementation='eager',
  )
  model = transformers.BertForPreTraining(config)
  state = model.state_dict()
  for name, values in tensors(size, params).items():
    state[name] = torch.tensor(np.array(values))
  # The library's other names for the tied matrix and its bias.
  heads = 'cls.predictions'
  state[f'{heads}.decoder.weight'] = state[_WORD]
  state[f'{heads}.decoder.bias'] = state[f'{heads}.bias']
  model.load_state_dict(state)
  return model


def tensors(size: bert.Size, params) -> dict[str, np.ndarray]:
  """Our parameters, or gradients, by the library's names and in its shapes."""
  encoder, width = params['encoder'], size.width
  found = {
    _WORD: encoder['word'],
    'bert.embeddings.position_embeddings.weight': encoder['position'],
    'bert.embeddings.token_type_embeddings.weight': encoder['type'],
    'cls.predictions.bias': params['output_bias'],
  }
  norms = {
    'bert.embeddings.LayerNorm': encoder['embedding_norm'],
    'cls.predictions.transform.LayerNorm': params['transform_norm'],
  }
  denses = {
    'bert.pooler.dense': params['pooler'],
    'cls.predictions.transform.dense': params['transform'],
    'cls.seq_relationship': params['next'],
  }
  for layer in range(size.layers):
    place = f'bert.encoder.layer.{layer}'
    block = {
      name: {key: np.asarray(values[layer]) for key, values in part.items()}
      for name, part in encoder['blocks'].items()
      if name != 'attention'
    }
    for name, part in encoder['blocks']['attention'].items():
      inner = 'self.' if name != 'output' else 'output.dense'
      theirs = f'{place}.attention.{inner}{name if inner == "self." else ""}'
      denses[theirs] = {
        'kernel': np.asarray(part['kernel'][layer]).reshape(width, width),
        'bias': np.asarray(part['bias'][layer]).reshape(width),
      }
    denses[f'{place}.intermediate.dense'] = block['up']
    denses[f'{place}.output.dense'] = block['down']
    norms[f'{place}.attention.output.LayerNorm'] = block['attention_norm']
    norms[f'{place}.output.LayerNorm'] = block['ffn_norm']
  for name, norm in norms.items():
    found |= {f'{name}.weight': norm['scale'], f'{name}.bias': norm['bias']}
  for name, dense in denses.items():
    found[f'{name}.weight'] = np.asarray(dense['kernel']).T
    found[f'{name}.bias'] = dense['bias']
  return found


_WORD = 'bert.embeddings.word_embeddings.weight'
