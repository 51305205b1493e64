"""A log may repeat what a restart explains, and nothing else."""

import copy
import itertools

from absl.testing import absltest, parameterized

from suite.results import audit
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import Event, find

_START = {'first_epoch_num': 4, 'epoch_count': 4}


def _resumed(**changes) -> Event:
  metadata = {**_START, 'step': 60, 'lost_seconds': 9.5, **changes}
  return Event('podium_resumed', metadata=metadata)


def _again(events, first, last):
  """Copies of the events from one key's second coming to another's."""
  begin = events.index(find(events, first, 1))
  end = events.index(find(events, last, 1))
  return [copy.deepcopy(event) for event in events[begin : end + 1]]


def _timed(events):
  """All of them at the times that the first ones have, and on from there."""
  for before, event in itertools.pairwise(events):
    event.time_ms = max(event.time_ms, before.time_ms + 10)
  return events


def killed(last='block_start', *, between=()):
  """Epochs 1-3 and 4-7; the latter was cut off after `last`, and done again.

  `between` are events between the cut and the restart.
  """
  events = audit_logs.good()
  done = _again(events, 'block_start', last)
  place = events.index(find(events, 'block_start', 1))
  events[place:place] = [*done, *between, _resumed()]
  return _timed(events)


class ResumesTest(audit_logs.LogTestCase):
  @parameterized.parameters(
    'block_start', 'block_stop', 'eval_start', 'eval_accuracy', 'eval_stop'
  )
  def test_what_was_done_after_a_checkpoint_may_be_done_again(self, last):
    self.assert_nothing(self.check(killed(last)))

  def test_a_run_may_go_on_where_a_block_begins(self):
    events = audit_logs.good()
    place = events.index(find(events, 'block_start', 1))
    events.insert(place, _resumed())
    self.assert_nothing(self.check(_timed(events)))

  def test_a_run_may_go_on_more_than_once_and_from_further_back(self):
    events = killed('eval_stop')
    place = events.index(find(events, 'podium_resumed')) + 2
    back = {'first_epoch_num': 1, 'epoch_count': 3}
    first = events.index(find(events, 'block_start'))
    all_again = [copy.deepcopy(event) for event in events[first : first + 5]]
    events[place:place] = [
      _resumed(**back, step=7),
      *all_again,
      copy.deepcopy(find(events, 'block_start', 1)),
    ]
    self.assert_nothing(self.check(_timed(events)))

  def test_an_end_may_be_taken_back_by_going_on(self):
    stop = Event(
      'podium_interrupted',
      metadata={'status': 'aborted', 'reason': 'interrupted by SIGTERM'},
    )
    self.assert_nothing(self.check(killed(between=[stop])))

  def test_the_evals_that_count_are_those_that_stand(self):
    events = killed('eval_stop')
    find(events, 'eval_accuracy', 1).value = 0.99  # done again, and then missed
    self.assert_nothing(self.check(events))
    found = audit.examine_log(self.path, get=audit_logs.get)
    self.assertEqual([one.at for one in found.evals], [3, 7, 11])
    self.assertEqual(found.evals[1].quality['accuracy'], 0.7)
    self.assertTrue(found.converged)

  def refused(self, events, rule, text):
    self.assert_found(self.check(_timed(events)), rule, text)

  def test_a_repeat_without_a_restart_is_a_fault(self):
    for last in ('block_start', 'eval_stop'):
      events = killed(last)
      events.remove(find(events, 'podium_resumed'))
      findings = self.check(events)
      self.assertTrue(any(f.severity == audit.ERROR for f in findings), last)

  @parameterized.parameters(
    ({'first_epoch_num': 1}, 'epoch numbers', 'first_epoch_num 1'),
    ({'first_epoch_num': 5}, 'intervals', 'block_stop before block_start'),
    ({'first_epoch_num': 'x'}, 'resumed', 'with a number'),
    ({'lost_seconds': -1}, 'resumed', 'lost_seconds of 0 or more'),
    ({'lost_seconds': 'long'}, 'resumed', 'lost_seconds of 0 or more'),
    ({'lost_seconds': 1e7}, 'resumed', 'at most the time since run_start'),
  )
  def test_a_restart_from_another_place_explains_nothing(
    self, changes, rule, text
  ):
    events = killed()
    find(events, 'podium_resumed').metadata.update(changes)
    self.refused(events, rule, text)

  def test_what_was_given_up_must_have_been_in_order_too(self):
    events = killed('eval_stop')
    events.remove(find(events, 'block_stop', 1))
    self.refused(events, 'intervals', 'block_stop before eval_start')
    events = killed('block_stop')
    find(events, 'block_start', 1).metadata['epoch_count'] = 4
    find(events, 'block_stop', 1).metadata['first_epoch_num'] = 9
    self.refused(events, 'epoch numbers', 'first_epoch_num 4 in block_stop')

  def test_training_goes_on_with_a_block(self):
    events = killed('eval_stop')
    place = events.index(find(events, 'podium_resumed')) + 1
    del events[place : place + 2]
    self.refused(events, 'resumed', 'block_start after podium_resumed')

  def test_an_end_that_was_taken_back_needs_a_restart(self):
    events = killed(between=[Event('podium_interrupted')])
    events.remove(find(events, 'podium_resumed'))
    self.refused(events, 'resumed', 'podium_resumed after podium_interrupted')

  def test_there_is_no_restart_after_the_end_or_before_the_start(self):
    events = audit_logs.good()
    events.append(_resumed())
    self.refused(events, 'order', 'after run_stop')
    events = audit_logs.good()
    events.insert(events.index(find(events, 'run_start')), _resumed())
    self.refused(events, 'order', 'podium_resumed after run_start')

  def test_restarts_without_number_are_refused_and_cost_no_memory(self):
    events = killed()
    place = events.index(find(events, 'podium_resumed'))
    events[place:place] = [_resumed() for _ in range(5000)]
    self.refused(events, 'resumed', '100 times at most, got 5001')

  def test_a_block_that_was_half_done_is_not_taken_for_a_late_clock(self):
    events = audit_logs.good(qualities=(0.1, 0.2, 0.3, 0.4, 0.5, 0.99))
    place = events.index(find(events, 'block_start'))
    start = {'first_epoch_num': 1, 'epoch_count': 3}
    events.insert(place, _resumed(**start, lost_seconds=0.01))
    events.insert(place, copy.deepcopy(find(events, 'block_start')))
    _timed(events)
    stop = events.index(find(events, 'block_stop'))
    for event in events[:stop]:  # nearly all of it was done before
      event.time_ms += 2.9 * audit_logs.MINUTE
    self.assert_nothing(self.check(events))

  @parameterized.parameters((6.9, False), (7.1, True), (400, True))
  def test_a_clock_that_was_far_ahead_is_warned_of(self, days, warned):
    events = killed()
    place = events.index(find(events, 'podium_resumed'))
    for event in events[place:]:
      event.time_ms += 86_400_000 * days
    find(events, 'podium_resumed').metadata['lost_seconds'] = 86_400.0 * days
    found = [str(f) for f in self.check(_timed(events)) if f.rule == 'resumed']
    self.assertEqual([text for text in found if 'the clock' in text], found)
    self.assertLen(found, warned)


if __name__ == '__main__':
  absltest.main()
