"""Names of the reference's variables, for logs and for its checkpoint."""

_DENSE = ('kernel', 'bias')
# Ours -> the reference's, of a layer and of the rest.
_PARTS = {
  **{
    f'attention/{name}/{kind}': f'attention/self/{name}/{kind}'
    for name in ('query', 'key', 'value')
    for kind in _DENSE
  },
  **{f'attention/output/{kind}': f'attention/output/dense/{kind}'
     for kind in _DENSE},
  **{f'up/{kind}': f'intermediate/dense/{kind}' for kind in _DENSE},
  **{f'down/{kind}': f'output/dense/{kind}' for kind in _DENSE},
  'attention_norm/scale': 'attention/output/LayerNorm/gamma',
  'attention_norm/bias': 'attention/output/LayerNorm/beta',
  'ffn_norm/scale': 'output/LayerNorm/gamma',
  'ffn_norm/bias': 'output/LayerNorm/beta',
}  # fmt: skip
_REST = {
  'encoder/word': 'bert/embeddings/word_embeddings',
  'encoder/position': 'bert/embeddings/position_embeddings',
  'encoder/type': 'bert/embeddings/token_type_embeddings',
  'encoder/embedding_norm/scale': 'bert/embeddings/LayerNorm/gamma',
  'encoder/embedding_norm/bias': 'bert/embeddings/LayerNorm/beta',
  'pooler/kernel': 'bert/pooler/dense/kernel',
  'pooler/bias': 'bert/pooler/dense/bias',
  'transform/kernel': 'cls/predictions/transform/dense/kernel',
  'transform/bias': 'cls/predictions/transform/dense/bias',
  'transform_norm/scale': 'cls/predictions/transform/LayerNorm/gamma',
  'transform_norm/bias': 'cls/predictions/transform/LayerNorm/beta',
  'output_bias': 'cls/predictions/output_bias',
  'next/kernel': 'cls/seq_relationship/output_weights',
  'next/bias': 'cls/seq_relationship/output_bias',
}


def by_path(layers: int) -> dict[str, list[str]]:
  """Path of a parameter -> its variables, one or one a layer."""
  found = {path: [name] for path, name in _REST.items()}
  for path, name in _PARTS.items():
    found[f'encoder/blocks/{path}'] = [
      f'bert/encoder/layer_{layer}/{name}' for layer in range(layers)
    ]
  return found


def tensors(layers: int) -> list[str]:
  """The names of all variables."""
  return [name for each in by_path(layers).values() for name in each]
