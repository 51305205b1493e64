"""The audit rejects logs that the official checker does; no bytes crash it."""

import copy
import logging

from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from mlperf_logging.compliance_checker import mlp_compliance

from suite import benchmark
from suite.results import audit
from suite.results.audit import one
from tests.suite.results.audit import audit_logs

_VALUES = (None, '', 'x', 0, -1, 0.5, 1e9, float('nan'), [], True)


def _official_accepts(path) -> bool:
  # The queue is global and keeps what an exception left in it.
  mlp_compliance.enqueued_configs.clear()
  checker = mlp_compliance.make_checker('training', '4.0.0', True, False)
  try:
    return mlp_compliance.main(
      str(path), 'training_4.0.0/common.yaml', checker
    )[0]
  except (LookupError, OSError, TypeError, ValueError):
    return False  # it ends in a traceback, exit code 1


def _mutants(events):
  """(what, events) with each line missing, last, doubled or another value."""
  for index, event in enumerate(events):
    if event.key.startswith('podium_'):
      continue  # the official checker does not know them
    rest = events[:index] + events[index + 1 :]
    yield f'{event.key} missing', rest
    yield f'{event.key} first', [event, *rest]
    yield f'{event.key} last', [*rest, event]
    yield from _changed(events, index)


def _changed(events, index):
  for value in _VALUES:
    changed = copy.deepcopy(events)
    changed[index].value = value
    yield f'{changed[index].key} = {value!r}', changed
  for name in events[index].metadata:
    changed = copy.deepcopy(events)
    del changed[index].metadata[name]
    yield f'{changed[index].key} without {name}', changed
    for value in (None, 0, []):
      changed = copy.deepcopy(events)
      changed[index].metadata[name] = value
      yield f'{changed[index].key} with {name} {value!r}', changed


class OracleTest(parameterized.TestCase):
  """The official compliance checker beside ours, on an official ruleset."""

  def setUp(self):
    super().setUp()
    logging.disable(logging.WARNING)
    self.addCleanup(logging.disable, logging.NOTSET)
    self.path = audit_logs.directory(self) / 'result_0.txt'

  def accepts(self, events) -> bool:
    """Returns whether our audit finds no error."""
    audit_logs.write(self.path, events)
    # Told, for without a key of ours an older ruleset may fit a mutant.
    found = one.examine_log(self.path, audit_logs.get, '4.0.0').findings
    return not audit.errors(found)

  @parameterized.product(
    opt_name=('lars', 'sgd'), division=('closed', 'open'), ours=(True, False)
  )
  def test_both_accept_a_good_log(self, opt_name, division, ours):
    hparams = audit_logs.Hparams(opt_name=opt_name)
    events = audit_logs.good(
      size='reference', hparams=hparams, division=division, ours=ours
    )
    self.assertTrue(self.accepts(events))
    self.assertTrue(_official_accepts(self.path))

  def test_the_official_checker_accepts_the_reference_of_the_suite(self):
    resnet = benchmark.get('resnet')
    events = audit_logs.good(benchmark=resnet, size='reference')
    audit_logs.write(self.path, events)
    self.assertTrue(_official_accepts(self.path))
    self.assertEmpty(audit.examine_log(self.path).findings)

  @parameterized.parameters(('lars', True), ('sgd', True), ('lars', False))
  def test_what_the_official_checker_rejects_is_rejected(self, opt_name, ours):
    hparams = audit_logs.Hparams(opt_name=opt_name)
    good = audit_logs.good(
      size='reference', hparams=hparams, ours=ours, qualities=(0.5, 0.76)
    )
    accepted, missed = 0, []
    for what, events in _mutants(good):
      if self.accepts(events):
        accepted += 1
        if not _official_accepts(self.path):
          missed.append(what)
    self.assertEmpty(missed)
    self.assertGreater(accepted, 10)  # so the audit does not reject them all


class BytesTest(absltest.TestCase):
  """Files that nobody's logger wrote."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    lines = [
      event.line(number)
      for number, event in enumerate(audit_logs.good(), start=1)
    ]
    cls.good = '\n'.join(lines).encode()

  def check(self, content):
    path = audit_logs.directory(self) / 'result_0.txt'
    path.write_bytes(content)
    for finding in audit.examine_log(path, get=audit_logs.get).findings:
      self.assertTrue(str(finding).isprintable())
    return audit.examine_log(path, get=audit_logs.get)

  @settings(max_examples=150, deadline=None)
  @given(st.data())
  def test_random_bytes_in_a_good_log_do_not_crash_the_audit(self, data):
    content = bytearray(self.good)
    for _ in range(data.draw(st.integers(1, 4))):
      at = data.draw(st.integers(0, len(content)))
      length = data.draw(st.sampled_from((0, 1, 2, 40, 400)))
      content[at : at + length] = data.draw(st.binary(max_size=12))
    self.check(bytes(content))

  @settings(max_examples=150, deadline=None)
  @given(st.data())
  def test_any_json_in_any_field_does_not_crash_the_audit(self, data):
    json = st.recursive(
      st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
      lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
      ),
      max_leaves=5,
    )
    events = audit_logs.good()
    for _ in range(data.draw(st.integers(1, 3))):
      event = data.draw(st.sampled_from(events))
      field = data.draw(st.sampled_from(('value', 'time_ms', 'key', 'kind')))
      names = [*event.metadata, 'epoch_num', 'samples_count', 'metric']
      if data.draw(st.booleans()):
        setattr(event, field, data.draw(json))
      else:
        event.metadata[data.draw(st.sampled_from(names))] = data.draw(json)
    lines = [event.line(number) for number, event in enumerate(events, 1)]
    self.check('\n'.join(lines).encode())

  @settings(max_examples=50, deadline=None)
  @given(st.binary(max_size=200))
  def test_a_file_of_anything_is_no_good_log(self, content):
    self.assertTrue(audit.errors(self.check(content).findings))


if __name__ == '__main__':
  absltest.main()
