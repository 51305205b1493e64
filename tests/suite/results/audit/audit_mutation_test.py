"""The audit refuses logs of any round that the official checker refuses."""

from absl.testing import absltest
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from suite.results.audit import errors, one
from tests.suite.results.audit import audit_logs
from tests.suite.results.audit import audit_official_logs as logs

_VALUES = (
  None, '', 'x', '1', 0, 1, -1, 0.5, 1e9, 10**400, float('nan'), float('inf'),
  True, [], {}, [1, 2], {'BBOX': 1},
)  # fmt: skip


def _none(name: str):
  raise ValueError(f'Unknown benchmark {name!r}.')


@st.composite
def _mutants(draw):
  """(case, events, whether the only fault is a loss in Open)."""
  case = draw(st.sampled_from(logs.cases()))
  events = logs.minimal(case)
  for _ in range(draw(st.integers(1, 2))):
    place = draw(st.integers(0, len(events) - 1))
    change = draw(st.sampled_from(tuple(_CHANGES)))
    _CHANGES[change](draw, events, place)
  return case, events


def _drop(draw, events, place):
  del events[place]


def _value(draw, events, place):
  events[place].value = draw(st.sampled_from(_VALUES))


def _negate(draw, events, place):
  value = events[place].value
  if isinstance(value, int | float):
    events[place].value = -value


def _metadata(draw, events, place):
  names = (*events[place].metadata, 'epoch_num', 'samples_count', 'metric')
  name = draw(st.sampled_from(names))
  events[place].metadata[name] = draw(st.sampled_from(_VALUES))


def _bare(draw, events, place):
  events[place].metadata.clear()


def _double(draw, events, place):
  events.insert(place, events[place])


def _move(draw, events, place):
  event = events.pop(place)
  events.insert(draw(st.integers(0, len(events))), event)


def _key(draw, events, place):
  other = draw(st.integers(0, len(events) - 1))
  events[place].key = events[other].key


_CHANGES = {
  'drop': _drop, 'value': _value, 'negate': _negate, 'metadata': _metadata,
  'bare': _bare, 'double': _double, 'move': _move, 'key': _key,
}  # fmt: skip


class MutationTest(absltest.TestCase):
  """Good logs of every round, with a fault or two."""

  def check(self, mutant):
    """Holds a log to both; returns whether ours accepts it."""
    case, events = mutant
    path = audit_logs.write(self.path, events)
    found = errors(one.examine_log(path, _none, case.ruleset).findings)
    if not found:
      self.assertTrue(
        logs.official_accepts(path, case.ruleset), f'{case}: {path.read_text()}'
      )
    for finding in found:
      self.assertTrue(str(finding).isprintable())

  def setUp(self):
    super().setUp()
    self.path = audit_logs.directory(self) / 'result_0.txt'

  @settings(max_examples=250, deadline=None, derandomize=True)
  @given(_mutants())
  def test_what_the_official_checker_refuses_is_refused(self, mutant):
    self.check(mutant)

  @pytest.mark.slow
  @settings(max_examples=6000, deadline=None, derandomize=True)
  @given(_mutants())
  def test_the_same_of_many_more(self, mutant):
    self.check(mutant)

  @settings(max_examples=60, deadline=None, derandomize=True)
  @given(_mutants())
  def test_no_log_of_any_round_crashes_the_search_for_its_ruleset(self, mutant):
    audit_logs.write(self.path, mutant[1])
    one.examine_log(self.path, _none)


if __name__ == '__main__':
  absltest.main()
