"""Compares shuffled clicks with the MD5 sums that MLPerf published.

They are of the files that the second version's reference writes: for each day
to train on, labels and numbered values as NumPy saves them. Those of the
logarithms are left out: their last bits depend on the processor.
"""

from collections.abc import Mapping, Sequence
import hashlib
import io

import numpy as np

from input_pipelines.criteo import CATEGORIES, shuffle
from input_pipelines.writing import work

_LABELS = (
  '4db255ce4388893e7aa1dcf157077975',
  'fb40746738a7c6f4ee021033bdd518c5',
  'f0adfec8191781e3f201d45f923e6ea1',
  '69caadf4d219f18b83f3591fe76f17c7',
  'c4a6a16342f0770d67d689c6c173c681',
  '9e3e17f345474cfbde5d62b543e07d6b',
  '945cef1132ceab8b23f4d0e269522be2',
  '5ff5e7eef5b88b80ef03d06fc7e81bcf',
  '43871397750dfdc69cadcbee7e95f2bd',
  'f851934555147d436131230ebbdd5609',
  'e3b3f6f974c4820064db0046bbf954c8',
  '26219e9c89c6ce831e7da273da666df1',
  'f0ca7ce0ab6033cdd355df94d11c7ed7',
  '4b099b9200bbb490afc08b5cd63daa0e',
  '80cae15e032ffb9eff292738ba4d0dce',
  'a6a730d1ef55368f3f0b21d32b039662',
  '5a71a29d8df1e8baf6bf28353f1588d4',
  '0a814b7eb83f375dd5a555ade6908356',
  'a4fa26ada0d4c312b7e3354de0f5ee30',
  'b21ad457474b01bd3f95fc46b6b9f04b',
  '9555e572e8bee22d71db8c2ac121ea8a',
  '672edc866e7ff1928d15338a99e5f336',
  '733da710c5981cb67d041aa1039e4e6b',
)
_SPARSE = (
  '8b444e74159dbede896e2f3b5ed31ac0',
  '61e95a487c955b515155b31611444f32',
  '0473d30872cd6e582c5da0272a0569f8',
  'd6b0d02ff18da470b7ee17f97d5380e0',
  'ca54008489cb84becc3f37e7b29035c7',
  'd1374ee84f80ea147957f8af0e12ebe4',
  'e4df1c271e1edd72ee4658a39cca2888',
  'cbcb7501a6b74a45dd5c028c13a4afbc',
  'c1fb4369c7da27d23f4c7f97c8893250',
  'e4ac0fb8a030f0769541f88142c9f931',
  '1018a9ab88c4a7369325c9d6df73b411',
  'f1596fc0337443a6672a864cd541fb05',
  '03a2ebd22b01cc18b6e338de77b4103f',
  '2b507e0f97d972ea6ada9b3af64de151',
  '3dccc979f7c71fae45a10c98ba6c9cb7',
  'c852516852cc404cb40d4de8626d2ca1',
  '6c838050751697a91bbf3e68ffd4a696',
  '40d2bc23fbcccb3ddb1390cc5e694cf0',
  '51711de9194737813a74bfb25c0f5d30',
  'dd4b72cd704981441d17687f526e42ae',
  'bc9a8c79c93ea39f32230459b4c4572a',
  'e4a8ae42a6d46893da6edb73e7d8a3f7',
  '42ef88d6bb2550a88711fed6fc144846',
)
# File -> MD5: md5sums_preprocessed_criteo_click_logs_dataset.txt in
# recommendation_v2/torchrec_dlrm of github.com/mlcommons/training.
PUBLISHED = {
  **{f'day_{day}_labels.npy': sum for day, sum in enumerate(_LABELS)},
  **{f'day_{day}_sparse.npy': sum for day, sum in enumerate(_SPARSE)},
}


def check(
  buckets: shuffle.Buckets,
  rows: Sequence[int],
  expected: Mapping[str, str] = PUBLISHED,
  *,
  threads: int | None = None,
  progress: work.Progress | None = None,
) -> None:
  """Raises ValueError unless the clicks of all days have their sums.

  Args:
    buckets: all clicks, by place.
    rows: of each day to train on.
    expected: MD5 by name of the file.
    threads: that read a day each; None for one a core.
    progress: told of the clicks.
  """
  ends = np.cumsum(rows).tolist()

  def sums(day: int, tick: work.Tick) -> dict[str, str]:
    labels = hashlib.md5(_header(rows[day], 1))
    ids = hashlib.md5(_header(rows[day], CATEGORIES))
    for part in buckets.between(ends[day] - rows[day], ends[day]):
      labels.update(np.ascontiguousarray(part['label']))
      ids.update(np.ascontiguousarray(part['ids']))
      tick(len(part))
    return {
      f'day_{day}_labels.npy': labels.hexdigest(),
      f'day_{day}_sparse.npy': ids.hexdigest(),
    }

  found = work.each(
    sums, range(len(rows)), whole=ends[-1], threads=threads, progress=progress
  )
  for of_day in found:
    for name, got in of_day.items():
      if got != expected.get(name, got):
        raise ValueError(
          f'Expected the MD5 {expected[name]} of {name}, as MLPerf published '
          f"it, got {got}: these are not the reference's clicks. "
          '--nocheck_downloads builds the data set of them.'
        )


def _header(rows: int, width: int) -> bytes:
  """Header that NumPy writes before an array of int32 [rows, width]."""
  file = io.BytesIO()
  about = {'descr': '<i4', 'fortran_order': False, 'shape': (rows, width)}
  np.lib.format.write_array_header_1_0(file, about)
  return file.getvalue()
