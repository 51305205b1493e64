"""Average precision of boxes and masks, as COCO's own evaluation has it."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster
import numpy as np

# pycocotools, by which the tests judge this, takes twelve times as long.


@dataclasses.dataclass(frozen=True)
class Objects:
  """Objects that are to be found, N in all."""

  image: np.ndarray  # int [N], the id of the image
  label: np.ndarray  # int [N]
  box: np.ndarray  # float64 [N, 4], x y width height
  area: np.ndarray  # float64 [N]
  crowd: np.ndarray  # bool [N]


@dataclasses.dataclass(frozen=True)
class Found:
  """Detections, N in all."""

  image: np.ndarray  # int [N], the id of the image
  label: np.ndarray  # int [N]
  box: np.ndarray  # [N, 4], x y width height
  score: np.ndarray  # [N]


def gathered(predictions: Iterable[Mapping[str, Any]], *, images: int) -> Found:
  """Detections of batches -> those with a score, of rows with a weight.

  Args:
    predictions: batches of B rows with D detections: `id` [B], `weight` [B],
      `boxes` [B, D, 4], `scores` [B, D], `labels` [B, D].
    images: that must be seen, each once; RuntimeError otherwise.
  """
  seen, parts = [], []
  for each in predictions:
    rows = np.asarray(each['weight']) > 0
    seen.append(np.asarray(each['id'])[rows])
    scores = np.asarray(each['scores'])[rows]
    row, place = np.nonzero(scores > 0)
    parts.append(
      Found(
        seen[-1][row],
        np.asarray(each['labels'])[rows][row, place],
        np.asarray(each['boxes'])[rows][row, place],
        scores[row, place],
      )
    )
  ids = np.concatenate(seen) if seen else np.zeros(0, int)
  if len(ids) != images or len(np.unique(ids)) != images:
    raise RuntimeError(
      f'Expected an eval over {images} images, each once, got {len(ids)}, of '
      f'which {len(np.unique(ids))} differ.'
    )
  return Found(*(
    np.concatenate([getattr(part, field.name) for part in parts])
    for field in dataclasses.fields(Found)
  ))  # fmt: skip


def box_ap(truth: Objects, found: Found) -> float:
  """AP at overlaps of 0.5 to 0.95, of all areas, of 100 boxes a class.

  Boxes that are not finite find nothing. Without objects there is no AP:
  ValueError.
  """
  if not (~truth.crowd).any():
    raise ValueError('Expected objects that are no crowds, got none.')
  finite = np.isfinite(found.box).all(axis=1)
  if not finite.any():
    return 0.0
  results = np.column_stack([found.image, found.box, found.score, found.label])[
    finite
  ]
  return _ap(_dataset(truth, found), results.astype(np.float64), 'bbox')


def mask_ap(
  truth: Objects,
  outlines: Sequence[Any],
  sizes: Mapping[int, tuple[int, int]],
  found: Found,
  masks: Sequence[Mapping[str, Any]],
) -> float:
  """The same of masks; the area of an object is that of `truth`.

  Args:
    truth: objects.
    outlines: of each object, as COCO's file of annotations has it.
    sizes: height and width of the image of an id, for all images.
    found: detections.
    masks: of each detection, in runs; see `coco_masks.pasted`.
  """
  if not (~truth.crowd).any():
    raise ValueError('Expected objects that are no crowds, got none.')
  if not masks:
    return 0.0
  wanted = _dataset(truth, found)
  for each, outline in zip(wanted['annotations'], outlines, strict=True):
    each['segmentation'] = outline
  for each in wanted['images']:
    each['height'], each['width'] = sizes[each['id']]
  columns = zip(
    found.image.tolist(),
    found.label.tolist(),
    found.score.tolist(),
    masks,
    strict=True,
  )
  results = [
    {
      'image_id': image,
      'category_id': label,
      'score': score,
      'segmentation': mask,
    }
    for image, label, score, mask in columns
  ]
  return _ap(wanted, results, 'segm')


def _ap(dataset: dict[str, Any], results: Any, kind: str) -> float:
  """AP of results, in a form that COCO's `loadRes` reads."""
  silent = {'print_function': lambda *_: None}
  wanted = COCO(**silent)
  wanted.dataset = dataset
  wanted.createIndex()
  scored = COCOeval_faster(wanted, wanted.loadRes(results), kind, **silent)
  scored.evaluate()
  scored.accumulate()
  scored.summarize()
  return float(scored.stats[0])


def _dataset(truth: Objects, found: Found) -> dict[str, Any]:
  """The truth, as COCO's file of annotations has it."""
  images = np.union1d(truth.image, found.image).tolist()
  labels = np.union1d(truth.label, found.label).tolist()
  each = zip(
    *(getattr(truth, f.name).tolist() for f in dataclasses.fields(Objects)),
    strict=True,
  )
  return {
    'info': {},
    'images': [{'id': number} for number in images],
    'categories': [{'id': number, 'name': str(number)} for number in labels],
    'annotations': [
      {
        'id': number,
        'image_id': image,
        'category_id': label,
        'bbox': box,
        'area': area,
        'iscrowd': int(crowd),
      }
      for number, (image, label, box, area, crowd) in enumerate(each, start=1)
    ],
  }
