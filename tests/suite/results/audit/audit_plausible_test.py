"""Well-formed logs with numbers that no honest run has."""

import copy

from absl.testing import absltest, parameterized

from suite.results import audit, published
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit.audit_logs import find


def _every(events, key):
  return [event for event in events if event.key == key]


def _no_time(events):
  """Blocks of 0 ms, and the rest where it was."""
  for start, stop in zip(
    _every(events, 'block_start'), _every(events, 'block_stop'), strict=True
  ):
    stop.time_ms = start.time_ms


def _holes(events):
  """Every other block with its eval is missing."""
  block = 0
  for event in list(events):
    block += event.key == 'block_start'
    name = event.key.partition('_')[0]
    if name in ('block', 'eval') and block % 2 == 0 and block < 10:
      events.remove(event)


def _far_eval(events):
  find(events, 'eval_accuracy', 3).metadata['epoch_num'] = 999


def _other_end(events):
  find(events, 'run_stop').metadata['epoch_num'] = 11


def _two_qualities(events):
  last = _every(events, 'eval_accuracy')[-1]
  events.insert(events.index(last), copy.deepcopy(last))
  find(events, 'eval_accuracy', 9).value = 0.7


def _year_2040(events):
  for event in events:
    event.time_ms += 16 * 366 * 86_400_000


def _year_2040_beside_a_time_of_0(events):
  _year_2040(events)
  find(events, 'submission_org').time_ms = 0


def _other_end_in_another_unit(events):
  _every(events, 'eval_accuracy')[-1].metadata['samples_count'] = 50_000_000
  find(events, 'run_stop').metadata['samples_count'] = 5_000_000


def _one_short_block(events):
  start, stop = (_every(events, f'block_{end}')[2] for end in ('start', 'stop'))
  sooner = 0.7 * (stop.time_ms - start.time_ms)
  for event in events[events.index(stop) :]:
    event.time_ms -= sooner


def _images(events):
  find(events, 'eval_samples').value = 10


def _perfect(events):
  _every(events, 'eval_accuracy')[-1].value = 0.99


def _at_once(events):
  find(events, 'eval_accuracy').value = 0.7605


class PlausibleTest(audit_logs.LogTestCase):
  """Logs of others, each with one fault that is in range of every rule."""

  @parameterized.parameters(
    (_no_time, 'plausible', 'of 0 ms'),
    (_holes, 'plausible', 'holes between'),
    (_far_eval, 'plausible', "'epoch_num'"),
    (_other_end, 'plausible', 'got 11'),
    (_two_qualities, 'plausible', 'got 0.7 in'),
    (_year_2040, 'dates', 'in the future'),
    (_year_2040_beside_a_time_of_0, 'dates', 'in the future'),
    (_other_end_in_another_unit, 'plausible', 'samples_count 5e+07 as the'),
    (_images, 'samples', 'expected eval_samples 50000, got 10'),
  )
  def test_it_is_an_error(self, fault, rule, text):
    events = submissions.events()
    fault(events)
    if text == "'epoch_num'":
      text = 'got one after epoch 999'
    self.assert_found(self.check(events), rule, text)

  @parameterized.parameters(
    (_perfect, 'plausible', 'near the target'),
    (_at_once, 'plausible', 'on the way to the target'),
    (_one_short_block, 'plausible', 's as of the other blocks'),
  )
  def test_it_is_worth_a_remark(self, fault, rule, text):
    events = submissions.events()
    fault(events)
    self.assert_found(self.check(events), rule, text, audit.WARNING)

  def test_a_run_after_the_round_is_worth_a_remark(self):
    events = submissions.events()
    for event in events:
      event.time_ms += 400 * 86_400_000
    audit_logs.write(self.path, events)
    found = audit.examine_log(self.path, ruleset='4.0.0').findings
    self.assert_found(found, 'dates', 'after that had ended', audit.WARNING)

  def test_a_block_may_be_started_once_for_each_of_its_epochs(self):
    events = submissions.events()
    for start in _every(events, 'block_start'):
      place = events.index(start)
      count, start.metadata['epoch_count'] = start.metadata['epoch_count'], 1
      events[place:place] = [copy.deepcopy(start) for _ in range(count - 1)]
    texts = [finding.text for finding in self.check(events)]
    self.assertEmpty([text for text in texts if 'holes' in text])

  def test_a_quality_may_be_logged_again_with_fewer_digits(self):
    events = submissions.events()
    last = _every(events, 'eval_accuracy')[-1]
    events.insert(events.index(last), copy.deepcopy(last))
    last.value *= 1 + 1e-8
    texts = [finding.text for finding in self.check(events)]
    self.assertEmpty([text for text in texts if 'one quality' in text])

  def test_a_last_block_of_fewer_epochs_may_be_short(self):
    events = submissions.events()
    start, stop = (
      _every(events, f'block_{end}')[-1] for end in ('start', 'stop')
    )
    start.metadata['epoch_count'] = 1
    stop.time_ms = start.time_ms + 0.2 * (stop.time_ms - start.time_ms)
    texts = [finding.text for finding in self.check(events)]
    self.assertEmpty([text for text in texts if 'other blocks' in text])

  def test_batches_for_images_are_what_many_logs_of_detection_hold(self):
    events = submissions.events()
    find(events, 'submission_benchmark').value = 'ssd'
    find(events, 'train_samples').value = 4572
    rules = {f.rule for f in audit.errors(self.check(events))}
    self.assertNotIn('samples', rules)


class TimesTest(audit_logs.LogTestCase):
  """Sets of others whose times no system has."""

  def examine(self, *factors):
    folder = self.directory / 'set'
    folder.mkdir()
    for run, factor in enumerate(factors):
      events = submissions.events(run=run)
      start = find(events, 'run_start').time_ms
      for event in events:
        event.time_ms -= (1 - factor) * max(0, event.time_ms - start)
      audit_logs.write(folder / f'result_{run}.txt', events)
    return audit.examine_set(folder, ruleset='4.0.0').findings

  def test_sets_of_honest_times_pass(self):
    rules = {finding.rule for finding in self.examine(1, 1, 1.5, 1, 2)}
    self.assertNotIn('plausible', rules)

  def test_a_set_faster_than_any_published_one_is_an_error(self):
    found = self.examine(*[1e-4] * 5)
    self.assert_found(found, 'plausible', '0.183 is the fastest published')

  def test_the_newest_rounds_are_among_the_published(self):
    fastest = published.fastest('llama31_8b')
    self.assertEqual(
      (fastest.round, fastest.accelerators, fastest.minutes),
      ('v5.1', 512, 5.164),
    )

  def test_a_run_ten_times_faster_than_its_set_is_an_error(self):
    found = self.examine(1, 1, 0.05, 1, 1)
    self.assert_found(found, 'plausible', 'as of the other runs')
    places = [f.file for f in found if 'other runs' in f.text]
    self.assertEqual(places, ['result_2.txt'])

  def test_equal_times_with_other_qualities_are_a_copy(self):
    folder = self.directory / 'set'
    submissions.write_set(folder)
    events = submissions.events(run=0)
    find(events, 'seed').value = 99
    for number, event in enumerate(_every(events, 'eval_accuracy')[:-1]):
      event.value = 0.3 + 0.01 * number
    audit_logs.write(folder / 'result_4.txt', events)
    found = audit.examine_set(folder, ruleset='4.0.0').findings
    self.assert_found(found, 'clones', 'the same times to the millisecond')

  @parameterized.parameters(
    (0.0, 'the same qualities to the last digit'),
    (4e-6, 'nearly the same qualities all along'),
  )
  def test_many_coarse_qualities_of_another_run_are_a_copy(self, noise, text):
    folder = self.directory / 'set'
    submissions.write_set(folder)
    for run, slower in ((0, 1.0), (4, 1.1)):
      events = submissions.events(run=run)
      began = find(events, 'run_start').time_ms
      evals = _every(events, 'eval_accuracy')
      for number, event in enumerate(evals[:-1]):
        event.value = 0.3 + 0.011 * number + noise * (run > 0)
      for event in events:
        event.time_ms += (slower - 1) * max(0, event.time_ms - began)
      audit_logs.write(folder / f'result_{run}.txt', events)
    self.assertGreaterEqual(len(evals), 9)
    found = audit.examine_set(folder, ruleset='4.0.0').findings
    self.assert_found(found, 'clones', text)


class OthersTest(audit_logs.LogTestCase):
  """Sets of others that are untidy, and whose times are sound."""

  def examine(self, change):
    folder = self.directory / 'set'
    folder.mkdir()
    for run in range(5):
      events = submissions.events(run=run)
      change(run, events)
      audit_logs.write(folder / f'result_{run}.txt', events)
    found = audit.examine_set(folder, ruleset='4.0.0').findings
    self.assertEmpty([*map(str, audit.errors(found))])
    return found

  def test_startup_may_be_written_another_day(self):
    """By a program that adds its records to logs that are there."""

    def change(run, events):
      for key in ('init_start', 'init_stop'):
        find(events, key).time_ms += 6 * 86_400_000

    text = 'run_start after init_stop'
    self.assert_found(self.examine(change), 'order', text, audit.WARNING)

  def test_training_and_evals_may_go_on_when_the_clock_has_stopped(self):
    """As on machines that train on while an eval is scored."""

    def change(run, events):
      after = [find(events, key, -1) for key in ('block_start', 'eval_start')]
      stop = find(events, 'run_stop')
      place = events.index(stop) + 1
      for event in map(copy.deepcopy, after):
        event.time_ms = stop.time_ms + 2000
        events.insert(place, event)

    text = 'nothing of the run after run_stop, got'
    self.assert_found(self.examine(change), 'order', text, audit.WARNING)

  @parameterized.parameters('abort', 'fail')
  def test_a_run_that_failed_has_words_of_its_own(self, status):
    def change(run, events):
      if run == 2:
        find(events, 'run_stop').metadata['status'] = status
        _every(events, 'eval_accuracy')[-1].value = 0.75

    text = 'counts as the slowest'
    self.assert_found(self.examine(change), 'converged', text, audit.WARNING)


if __name__ == '__main__':
  absltest.main()
