"""Faults in sets of any official benchmark are found as what they are.

The sets are made of the least that the rules ask for, each run with another
seed and other times; the faults are in places that are drawn.
"""

import copy
import math

from absl.testing import absltest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
import pytest

from suite.results import audit
from suite.results.convergence import store
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit import audit_official_logs as logs
from tests.suite.results.audit.audit_logs import MINUTE, find

# A set of more runs says no more, and takes longer.
_CASES = tuple(
  case
  for case in logs.cases()
  if case.division == 'closed'
  and case.ruleset != '0.7.0'  # it asks for no seeds
  and 2 < (store.official_runs(case.benchmark) or 0) <= 10
)


def _honest(case: logs.Case) -> list[list[audit_logs.Event]]:
  """The runs of a set, none of which is like another."""
  runs = []
  for run in range(store.official_runs(case.benchmark)):
    events = logs.minimal(case)
    find(events, 'seed').value = 1000 + run
    began = find(events, 'run_start').time_ms
    for event in events:
      past = event.time_ms - began
      if past > 0:
        event.time_ms = began + past * (1 + 0.0137 * run) + 3 * run
      event.time_ms += run * 600 * MINUTE
    runs.append(events)
  return runs


def _copied(draw, runs, run, other):
  runs[run] = copy.deepcopy(runs[other])
  return 'clones'


def _copied_with_another_seed(draw, runs, run, other):
  runs[run] = copy.deepcopy(runs[other])
  find(runs[run], 'seed').value = 77
  return 'clones'


def _copied_to_another_day(draw, runs, run, other):
  _copied_with_another_seed(draw, runs, run, other)
  later = draw(st.integers(1, 10**9))
  for event in runs[run]:
    event.time_ms += later
  return 'clones'


def _same_seed(draw, runs, run, other):
  find(runs[run], 'seed').value = find(runs[other], 'seed').value
  return 'seed'


def _no_seed(draw, runs, run, other):
  runs[run].remove(find(runs[run], 'seed'))
  return 'seed'


def _lost(draw, runs, run, other):
  del runs[run]
  return 'number of runs'


def _one_more(draw, runs, run, other):
  runs.append(copy.deepcopy(runs[run]))
  return 'number of runs'


def _two_fail(draw, runs, run, other):
  for each in (run, other):
    find(runs[each], 'run_stop').metadata['status'] = 'aborted'
  return 'converged'


def _two_without_an_end(draw, runs, run, other):
  for each in (run, other):
    runs[each].remove(find(runs[each], 'run_stop'))
  return 'converged'


def _another_setting(draw, runs, run, other):
  """A hyperparameter of one run is another number."""
  names = [
    event.key
    for event in runs[run]
    if event.key.startswith(('opt_', 'sgd_opt', 'lars_opt', 'global_batch'))
    and isinstance(event.value, int | float)
    and not isinstance(event.value, bool)
  ]
  assume(names)
  event = find(runs[run], draw(st.sampled_from(sorted({*names}))))
  event.value = 2 * event.value + 1
  return 'one set'


def _another_division(draw, runs, run, other):
  find(runs[run], 'submission_division').value = 'open'
  return 'one set'


def _far_faster(draw, runs, run, other):
  began = find(runs[run], 'run_start').time_ms
  factor = draw(st.integers(20, 5000))
  for event in runs[run]:
    if event.time_ms > began:
      event.time_ms = began + math.ceil((event.time_ms - began) / factor)
  return 'plausible'


def _backwards(draw, runs, run, other):
  start, stop = (find(runs[run], f'run_{end}') for end in ('start', 'stop'))
  start.time_ms, stop.time_ms = stop.time_ms, start.time_ms
  return ''


_FAULTS = (
  _copied, _copied_with_another_seed, _copied_to_another_day, _same_seed,
  _no_seed, _lost, _one_more, _two_fail, _two_without_an_end,
  _another_setting, _another_division, _far_faster, _backwards,
)  # fmt: skip


class SetMutationTest(absltest.TestCase):
  """Sets as others hand them in, from version 1.0.0 on with their seeds."""

  def examine(self, case, runs):
    """(rule, text) of each error of a set of logs."""
    folder = audit_logs.directory(self)
    for number, events in enumerate(runs):
      audit_logs.write(folder / f'result_{number}.txt', events)
    found = audit.examine_set(folder, ruleset=case.ruleset).findings
    return {(f.rule, f.text) for f in audit.errors(found)}

  def check(self, data):
    """Draws a set and a fault; the errors that it adds name its kind."""
    case = data.draw(st.sampled_from(_CASES))
    runs = _honest(case)
    before = self.examine(case, runs)
    numbers = range(len(runs))
    run = data.draw(st.sampled_from(numbers))
    other = data.draw(st.sampled_from([n for n in numbers if n != run]))
    fault = data.draw(st.sampled_from(_FAULTS))
    rule = fault(data.draw, runs, run, other)
    added = self.examine(case, runs) - before
    said = f'{fault.__name__} in {case}: {added}'
    self.assertTrue(added, said)
    if rule:
      self.assertTrue(any(rule in each for each, _ in added), said)

  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(st.data())
  def test_a_fault_in_a_set_is_found(self, data):
    self.check(data)

  @pytest.mark.slow
  @settings(max_examples=1500, deadline=None)
  @given(st.data())
  def test_the_same_of_many_more(self, data):
    self.check(data)

  def test_a_run_that_was_killed_need_not_have_metrics_of_two_kinds(self):
    """One such run in a set of v5.0's Stable Diffusion passed its review."""
    (case,) = (
      case
      for case in _CASES
      if (case.benchmark, case.ruleset) == ('stable_diffusion', '5.0.0')
    )
    runs = _honest(case)
    before = self.examine(case, runs)
    runs[3] = runs[3][: runs[3].index(find(runs[3], 'eval_start'))]
    self.assertLessEqual(self.examine(case, runs), before)

  def test_sets_without_a_fault_have_none_but_that_they_are_short(self):
    """The minimal runs end after one epoch, before any reference's."""
    expected = {'convergence points', 'seed', 'plausible'}
    for case in _CASES[::7]:
      found = self.examine(case, _honest(case))
      self.assertLessEqual({rule for rule, _ in found}, expected, str(case))


if __name__ == '__main__':
  absltest.main()
