"""Tests of how ranks come to rank 0, over loopback."""

import json
import os
import socket
from unittest import mock

from absl.testing import absltest, parameterized

from launch import local
from launch.cluster import arrival, supervisor, worker
from launch.cluster import place as clusters


class ArrivalTest(parameterized.TestCase):
  def place(self, process, host='127.0.0.1'):
    address = f'{host}:{self.port}'
    return clusters.Place('test', address, 2, process, job='7')

  def setUp(self):
    super().setUp()
    self.port = local.free_ports()

  def came(self, listening):
    """The first line of the next that came."""
    connection, _ = listening.accept()
    self.addCleanup(connection.close)
    with connection.makefile('rb') as lines:
      return json.loads(lines.readline())

  @parameterized.parameters('127.0.0.1', 'a.host.elsewhere')
  def test_rank_0_hears_of_itself_and_of_others_by_any_address(self, host):
    me = arrival.Arrival(self.place(0, host))
    listening = me.listen()
    self.addCleanup(listening.close)
    self.addCleanup(me.connection.close)
    arrival.Arrival(self.place(1))
    first, second = self.came(listening), self.came(listening)
    self.assertEqual((first['rank'], second['rank']), (0, 1))
    self.assertEqual(set(first), {'token', 'rank', 'processes', 'host'})
    self.assertEqual(me.listen(), listening)

  def test_one_that_is_gone_again_before_it_is_heard_is_heard_to_be_gone(self):
    me = arrival.Arrival(self.place(0))
    self.addCleanup(me.listen().close)
    self.addCleanup(me.connection.close)
    me.connection.close()
    self.assertEqual(self.came(me.listen())['rank'], 0)

  def test_a_port_that_is_taken_is_said_by_who_needs_it(self):
    with socket.create_server(('127.0.0.1', self.port + 1)):
      me = arrival.Arrival(self.place(0))
      with self.assertRaises(OSError):
        me.listen()
    me.listen().close()
    me.connection.close()

  def test_a_process_alone_has_a_port_of_its_own(self):
    me = arrival.Arrival(supervisor.alone())
    self.addCleanup(me.listen().close)
    self.addCleanup(me.connection.close)
    self.assertEqual(self.came(me.listen())['processes'], 1)

  @parameterized.parameters(
    ({},),
    ({worker.VARIABLE: 'folder:3'},),
    ({'PODIUM_PROCESS_ID': ''},),  # half a place
    ({'PODIUM_CONTROL': 'nowhere'},),
  )
  def test_only_a_rank_is_announced(self, changes):
    self.addCleanup(setattr, arrival, '_announced', arrival._announced)
    rank = {**local.places(2, 1)[1], **changes} if changes else {}
    with mock.patch.dict(os.environ, rank):
      arrival.announce()
    self.assertIsNone(arrival._announced)

  def test_an_address_that_is_none_is_refused(self):
    with (
      mock.patch.dict(os.environ, {'PODIUM_CONTROL': 'nowhere'}),
      self.assertRaisesRegex(ValueError, "HOST:PORT, not 'nowhere'"),
    ):
      arrival.Arrival(self.place(1))


if __name__ == '__main__':
  absltest.main()
