"""Tests of the channel between supervisors, over loopback."""

import asyncio
import json
import socket
import time

from absl.testing import absltest, parameterized

from launch.cluster import channel as control
from launch.cluster import roll

_BOUNDS = roll.Bounds(join=60, settle=0)


def _hello(rank, token='t', **more):
  return {
    'token': token,
    'rank': rank,
    'processes': 2,
    'host': f'h{rank}',
    **more,
  }


class _Channel:
  """A hub and links to it."""

  def __init__(self, ranks=2):
    self._ranks = ranks

  async def __aenter__(self):
    made = roll.Roll(self._ranks, _BOUNDS, time.monotonic())
    self.hub = control.Hub(made, 't')
    listening = socket.create_server(('127.0.0.1', 0))
    self.address = listening.getsockname()
    await self.hub.listen(listening)
    self.links = []
    return self

  async def link(self, hello):
    """A link, and the queue of what it is told."""
    told = asyncio.Queue()
    connection = socket.create_connection(self.address)
    link = await control.link(connection, told.put_nowait)
    link.send(hello)
    link.send({'kind': 'settings', 'settings': {}})
    self.links.append(link)
    return link, told

  async def __aexit__(self, *_):
    for link in self.links:
      await link.close()
    await self.hub.close()


async def _next(told):
  while (message := await asyncio.wait_for(told.get(), 60))['kind'] == 'pulse':
    pass
  return message


class ControlTest(parameterized.TestCase):
  def test_what_one_says_reaches_all(self):
    async def talk():
      async with _Channel() as channel:
        first, told_first = await channel.link(_hello(0))
        _, told_second = await channel.link(_hello(1))
        go = {'kind': 'go', 'hosts': ['h0', 'h1']}
        self.assertEqual(await _next(told_first), go)
        self.assertEqual(await _next(told_second), go)
        first.send({'kind': 'interrupt', 'signal': 15})
        for told in (told_first, told_second):
          self.assertEqual(
            await _next(told), {'kind': 'interrupt', 'signal': 15}
          )

    asyncio.run(talk())

  @parameterized.parameters(
    (_hello(1, token='of another job'),),
    ({'rank': 1},),
    ('hello',),
    ({**_hello(1), 'rank': [1]},),
    ({**_hello(1), 'rank': '1'},),
  )
  def test_a_stranger_is_cut_off_and_the_job_goes_on(self, hello):
    async def talk():
      async with _Channel() as channel:
        _, told = await channel.link(_hello(0))
        _, told_stranger = await channel.link(hello)
        self.assertEqual(await _next(told_stranger), {'kind': 'closed'})
        await channel.link(_hello(1))
        self.assertEqual((await _next(told))['kind'], 'go')

    asyncio.run(talk())

  def test_a_line_that_is_no_message_is_a_loss_of_its_rank(self):
    async def talk():
      async with _Channel() as channel:
        _, told = await channel.link(_hello(0))
        bad, _ = await channel.link(_hello(1))
        await _next(told)
        bad._writer.write(b'\xff{\n')
        while not channel.hub.roll.ended:
          channel.hub.pulse()
          await asyncio.sleep(0)
        end = await _next(told)
        self.assertEqual((end['rank'], end['fault']), (1, 'lost'))

    asyncio.run(talk())

  def test_one_that_leaves_before_all_have_come_ends_those_that_wait(self):
    async def talk():
      async with _Channel(ranks=3) as channel:
        _, told = await channel.link(_hello(0, processes=3))
        gone, _ = await channel.link(_hello(1, processes=3))
        await gone.close()
        while not channel.hub.roll.ended:
          channel.hub.pulse()
          await asyncio.sleep(0)
        end = await _next(told)
        self.assertEqual((end['rank'], end['fault']), (1, 'lost'))

    asyncio.run(talk())

  def test_who_comes_when_all_have_come_is_refused(self):
    async def talk():
      async with _Channel() as channel:
        _, told = await channel.link(_hello(0))
        await channel.link(_hello(1))
        await _next(told)
        _, told_third = await channel.link(_hello(1))
        self.assertEqual((await _next(told_third))['kind'], 'refuse')

    asyncio.run(talk())

  def test_a_message_is_one_line_of_json(self):
    line = control._line({'kind': 'fault', 'text': 'a\nb'})
    self.assertEqual(line.count(b'\n'), 1)
    self.assertEqual(json.loads(line)['text'], 'a\nb')


if __name__ == '__main__':
  absltest.main()
