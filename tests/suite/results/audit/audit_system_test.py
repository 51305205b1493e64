"""System descriptions alone, and beside what logs say."""

import json

from absl.testing import absltest, parameterized
from mlperf_logging.system_desc_checker import system_desc_checker

from suite.log_keys import STATUSES
from suite.results.audit import system
from tests.suite.results import submissions
from tests.suite.results.audit import audit_logs


class SystemTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.path = audit_logs.directory(self) / 'toy.json'

  def read(self, **changes):
    submissions.describe(self.path, **changes)
    return system.read(self.path)

  def against(self, settings, **changes):
    return list(system.against(self.read(**changes), settings))

  def test_the_fields_are_those_of_the_official_checker(self):
    for left_out in system.FIELDS:
      fields = submissions.describe(self.path)
      del fields[left_out]
      self.path.write_text(json.dumps(fields))
      self.assertLen(system.read(self.path).findings, 1)
      self.assertFalse(
        system_desc_checker.check_system_desc(
          str(self.path), 'training', '6.1.0'
        )[0]
      )

  def test_a_good_description_is_read(self):
    described = self.read(number_of_nodes='4', accelerators_per_node='8')
    self.assertEmpty(described.findings)
    self.assertEqual((described.name, described.accelerators), ('toy', 32))

  @parameterized.parameters(
    *({name: value} for name in ('number_of_nodes', 'host_processors_per_node')
      for value in ('0', '-1', '1.5', 'one', '', '1e3', '9' * 20)),
    {'accelerators_per_node': '-1'},
    {'submitter': ''},
    {'division': 'CLOSED'},
    {'cooling': None},
    {'cooling': 3},
    {'cooling': ['air']},
    {'division': ['closed']},
    {'status': {'a': 1}},
    {'hw_notes': 'a\x1b[2J'},
    {'hw_notes': 'a' * 20_000},
  )  # fmt: skip
  def test_what_cannot_be_is_found(self, **changes):
    self.assertLen(self.read(**changes).findings, 1)

  @parameterized.parameters(
    {'accelerators_per_node': '0'},
    {'hw_notes': 'two\nlines'},
    {'accelerator_model_name': 'Größe'},
    {'status': 'whatever'},  # the round decides
  )
  def test_what_can_be_is_not(self, **changes):
    self.assertEmpty(self.read(**changes).findings)

  @parameterized.parameters(
    ({'submission_division': 'open'}, {}, 'error'),
    ({'submission_org': 'emca'}, {}, 'warning'),
    ({'submission_status': 'cloud'}, {}, 'warning'),
    ({'submission_platform': '3xH200'}, {}, 'warning'),
    ({'tensor_parallelism': 4, 'pipeline_parallelism': 4}, {}, 'error'),
  )
  def test_a_log_that_says_otherwise_is_found(
    self, settings, changes, severity
  ):
    changes = {'number_of_nodes': '2', 'accelerators_per_node': '4', **changes}
    found = self.against(settings, **changes)
    self.assertEqual([each for each, _ in found], [severity])

  @parameterized.parameters(
    {'submission_division': 'closed'},
    {'submission_org': 'ACME'},
    {'submission_status': 'onprem'},
    {'submission_platform': '8 x NVIDIA H200'},
    {'submission_platform': '2xDGX'},  # nodes
    {'submission_platform': 'DGX H200'},
    {'tensor_parallelism': 8},
    {'tensor_parallelism': True, 'pipeline_parallelism': 'x'},
    {'submission_division': ['closed'], 'submission_org': {}},
  )
  def test_a_log_that_agrees_is_not(self, **settings):
    changes = {'number_of_nodes': '2', 'accelerators_per_node': '4'}
    self.assertEmpty(self.against(settings, **changes))

  def test_a_status_is_one_of_four_from_4_on(self):
    for status in STATUSES.values():
      self.assertIsNone(system.status_fault(self.read(status=status), ''))
    fault = system.status_fault(self.read(status='onprem'), 'from 4')
    self.assertIn("got 'onprem'", fault)
    self.assertIsNotNone(system.status_fault(self.read(status=[]), ''))

  @parameterized.parameters(
    b'', b'{', b'[]', b'"a"', b'\xff', b'{"a": 1, "a": 2}', b'[' * 50_000,
    b'\xef\xbb\xbf{}',
  )  # fmt: skip
  def test_what_is_no_description_is_one_finding(self, content):
    self.path.write_bytes(content)
    self.assertLen(system.read(self.path).findings, 1)

  def test_a_missing_file_is_one_finding(self):
    self.assertLen(system.read(self.path).findings, 1)


if __name__ == '__main__':
  absltest.main()
