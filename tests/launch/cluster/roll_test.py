"""Tests of who is there and who is to blame, on a clock of the test's own."""

from absl.testing import absltest, parameterized

from launch.cluster import roll

_BOUNDS = roll.Bounds(join=60, startup=100, watchdog=10, settle=1)


def _joined(count, now=0.0, settings=None):
  made = roll.Roll(count, _BOUNDS, now)
  for rank in range(count):
    _come(made, rank, count, now, (settings or {}).get(rank, {}))
  return made


def _come(made, rank, count, now, settings=None):
  """A rank comes, and is ready."""
  made.join(rank, _hello(count, rank), now)
  made.hear(rank, {'kind': 'settings', 'settings': settings or {}}, now)


def _hello(count, rank):
  return {'processes': count, 'host': f'h{rank}'}


def _beat(since, tick=5, place='compute', running=True, stopped=False):
  return {
    'kind': 'beat', 'tick': tick, 'running': running, 'place': place,
    'since': since, 'stopped': stopped,
  }  # fmt: skip


class JoiningTest(parameterized.TestCase):
  def test_all_go_once_the_last_has_come(self):
    made = roll.Roll(2, _BOUNDS, 0.0)
    _come(made, 1, 2, 1.0)
    self.assertIsNone(made.answer(2.0))
    made.join(0, _hello(2, 0), 3.0)
    self.assertIsNone(made.answer(3.0))
    made.hear(0, {'kind': 'settings', 'settings': {}}, 4.0)
    self.assertEqual(made.answer(4.0), {'kind': 'go', 'hosts': ['h0', 'h1']})
    self.assertIsNone(made.answer(5.0))

  @parameterized.parameters(
    ([0, 1], 4, 'ranks 2 and 3 of 4 have not come after 60 s.'),
    ([0, 2, 3], 4, 'rank 1 of 4 has not come after 60 s.'),
    ([0, 1], 9, 'ranks 2 to 8 of 9 have not come after 60 s.'),
  )
  def test_missing_ranks_are_named_after_the_bound(self, come, count, says):
    made = roll.Roll(count, _BOUNDS, 0.0)
    for rank in come:
      _come(made, rank, count, 1.0)
    self.assertIsNone(made.answer(59.0))
    answer = made.answer(60.5)
    self.assertEqual((answer['fault'], answer['text']), ('missing', says))
    self.assertTrue(made.ended)

  def test_one_that_came_and_did_not_get_ready_is_named_after_the_bound(self):
    made = roll.Roll(2, _BOUNDS, 0.0)
    _come(made, 0, 2, 1.0)
    made.join(1, _hello(2, 1), 1.0)
    self.assertEmpty(made.missing)
    self.assertIsNone(made.answer(59.0))
    self.assertEqual(
      made.answer(60.5)['text'],
      'rank 1 of 2 has come but not got ready after 60 s.',
    )

  def test_one_that_refuses_before_all_have_come_ends_all_at_once(self):
    made = roll.Roll(3, _BOUNDS, 0.0)
    made.join(2, _hello(3, 2), 1.0)
    fault = {'kind': 'fault', 'fault': 'refused', 'text': 'no such flag'}
    made.hear(2, fault, 1.5)
    answer = made.answer(1.5)
    self.assertEqual(
      (answer['fault'], answer['text']),
      ('refused', 'rank 2 (h2): no such flag'),
    )
    self.assertEqual(made.missing, [0, 1])

  def test_one_that_is_gone_before_all_have_come_ends_all_at_once(self):
    made = roll.Roll(3, _BOUNDS, 0.0)
    for rank in (0, 2):
      made.join(rank, _hello(3, rank), 1.0)
    made.leave(2, 2.0)
    answer = made.answer(2.0)
    self.assertEqual((answer['rank'], answer['fault']), (2, 'lost'))
    self.assertEqual(
      answer['text'],
      'rank 2 (h2): its connection was closed before all had come',
    )

  def test_ranks_that_differ_are_named_with_what(self):
    first = {'code': 'abc', 'momentum': '0.9'}
    other = {'code': 'abc', 'momentum': '0.8'}
    more = {**other, 'XLA_FLAGS': '--x'}
    made = _joined(
      5, settings={0: first, 1: other, 2: first, 3: other, 4: more}
    )
    self.assertEqual(
      made.answer(0.0)['text'],
      'ranks 1 and 3 (h1) differ from rank 0 (h0) in momentum: 0.8, not 0.9. '
      'rank 4 (h4) differs from rank 0 (h0) in XLA_FLAGS: --x, not nothing; '
      'momentum: 0.8, not 0.9.',
    )

  @parameterized.parameters(
    (1, 2, 'rank 1 joined twice, from h1 and h1'),
    (2, 2, 'rank 2 on h2 does not exist'),
    (1, 4, 'says that there are 4 ranks, rank 0 that there are 2'),
  )
  def test_a_rank_that_cannot_be_is_refused(self, rank, count, says):
    made = roll.Roll(2, _BOUNDS, 0.0)
    made.join(1, _hello(2, 1), 0.0)
    made.join(rank, _hello(count, rank), 0.0)
    self.assertIn(says, made.answer(0.0)['text'])

  def test_a_signal_ends_even_those_that_still_wait(self):
    made = roll.Roll(2, _BOUNDS, 0.0)
    made.join(0, _hello(2, 0), 0.0)
    made.hear(0, {'kind': 'interrupt', 'signal': 2}, 1.0)
    self.assertEqual(made.answer(1.0), {'kind': 'interrupt', 'signal': 2})


class BlameTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.roll = _joined(3)
    self.roll.answer(0.0)

  def hear(self, now, *beats):
    for rank, beat in enumerate(beats):
      self.roll.hear(rank, beat, now)

  @parameterized.named_parameters(
    ('the_lowest_tick', _beat(11, 7), _beat(11, 5), _beat(11, 7), 1),
    ('who_reads', _beat(11), _beat(11), _beat(11, place='input'), 2),
    (
      'the_stopped',
      _beat(11, 5, place='input'),
      _beat(11, 7, stopped=True),
      _beat(11, 6),
      1,
    ),
    (
      'who_has_not_begun',
      _beat(11),
      _beat(11),
      _beat(101, 50, running=False, place='compiling'),
      2,
    ),
  )
  def test_the_late_rank_is_the_one_the_others_wait_for(self, a, b, c, late):
    self.hear(20.0, a, b, c)
    answer = self.roll.answer(20.0)
    self.assertEqual((answer['rank'], answer['fault']), (late, 'late'))
    self.assertStartsWith(answer['text'], f'rank {late} (h{late}): no progress')

  def test_what_is_said_of_a_late_rank(self):
    self.hear(20.0, _beat(11), _beat(12, 4, 'input', stopped=True), _beat(11))
    self.assertEqual(
      self.roll.answer(20.0)['text'],
      'rank 1 (h1): no progress for 12 s, last at tick 4 in input, where its '
      'process is stopped; the others waited',
    )

  @parameterized.named_parameters(
    ('one_moves', _beat(11), _beat(3, 4), _beat(11)),
    ('startup_has_its_own_bound', *[_beat(50, 2, 'compiling', False)] * 3),
  )
  def test_nobody_is_late_as_long_as(self, a, b, c):
    self.hear(20.0, a, b, c)
    self.assertIsNone(self.roll.answer(20.0))

  def test_a_rank_that_has_finished_is_not_waited_for(self):
    self.hear(20.0, {'kind': 'finished'}, _beat(1), _beat(11))
    self.assertIsNone(self.roll.answer(20.0))
    self.hear(20.5, {'kind': 'finished'}, _beat(11), _beat(12))
    self.assertEqual(self.roll.answer(20.5)['fault'], 'late')

  def test_a_rank_that_is_silent_is_lost(self):
    self.hear(5.0, _beat(0), _beat(0), _beat(0))
    self.roll.hear(0, _beat(0), 14.0)
    self.roll.hear(2, _beat(0), 14.0)
    self.assertIsNone(self.roll.answer(14.0))
    answer = self.roll.answer(15.5)
    self.assertEqual((answer['rank'], answer['fault']), (1, 'lost'))
    self.assertIn('nothing heard of it for', answer['text'])

  def test_a_death_is_to_blame_and_not_what_it_brings_to_others(self):
    fault = {'kind': 'fault', 'fault': 'failed', 'text': 'connection closed'}
    self.roll.hear(0, fault, 5.0)
    self.roll.hear(2, {**fault, 'fault': 'aborted'}, 5.1)
    self.roll.hear(1, {**fault, 'fault': 'died', 'text': 'SIGKILL'}, 5.5)
    self.assertIsNone(self.roll.answer(5.6))
    answer = self.roll.answer(6.1)
    self.assertEqual(answer['text'], 'rank 1 (h1): SIGKILL')

  def test_a_full_disk_is_to_blame_and_not_what_it_brings_to_others(self):
    for rank, kind in ((0, 'failed'), (2, 'fatal'), (1, 'aborted')):
      self.roll.hear(rank, {'kind': 'fault', 'fault': kind, 'text': kind}, 5.0)
    answer = self.roll.answer(6.1)
    self.assertEqual((answer['rank'], answer['fault']), (2, 'fatal'))

  def test_of_equal_faults_the_first_is_to_blame(self):
    for rank in (2, 0):
      fault = {'kind': 'fault', 'fault': 'failed', 'text': f'of {rank}'}
      self.roll.hear(rank, fault, 5.0)
    self.assertEqual(self.roll.answer(6.1)['text'], 'rank 2 (h2): of 2')

  def test_a_closed_connection_is_a_loss_unless_the_rank_has_finished(self):
    self.roll.hear(1, {'kind': 'finished'}, 5.0)
    self.roll.leave(1, 5.0)
    self.assertIsNone(self.roll.answer(7.0))
    self.roll.leave(2, 7.0)
    self.assertEqual(self.roll.answer(8.1)['rank'], 2)

  def test_all_are_done_when_the_last_has_finished(self):
    for rank in range(3):
      self.assertFalse(self.roll.finished)
      self.roll.hear(rank, {'kind': 'finished'}, 5.0)
    self.assertTrue(self.roll.finished)


if __name__ == '__main__':
  absltest.main()
