"""The channel between the supervisors of a job: lines of JSON over TCP.

Rank 0's supervisor has the Hub, to which every supervisor, its own included,
has a Link. Who does not name the job's token is cut off. What comes is read as
JSON and nothing else, a line of bounded length at a time.
"""

import asyncio
from collections.abc import Callable
import contextlib
import json
import logging
import socket
import time
from typing import Any

from launch.cluster.roll import Message, Roll

_LONGEST_LINE = 2**20
_HELLO_SECONDS = 10.0
_FLUSH_SECONDS = 2.0


class Hub:
  """Takes the ranks' messages to the roll and tells them its answers."""

  def __init__(self, roll: Roll, token: str):
    self.roll = roll
    self._token = token
    self._writers: dict[int, asyncio.StreamWriter] = {}
    self._last: Message = {'kind': 'refuse', 'text': 'The job has begun.'}
    self._server: asyncio.Server | None = None
    self._serving: set[asyncio.Task] = set()

  async def listen(self, listening: socket.socket) -> None:
    """Hears those who come to a socket that listens."""
    self._server = await asyncio.start_server(
      self._serve, sock=listening, limit=_LONGEST_LINE
    )

  def pulse(self) -> None:
    """To be called once a period: answers what is due, and shows life."""
    if not self._answer():
      self._tell({'kind': 'pulse'})

  async def close(self) -> None:
    """Sends what is left, and closes the port and what is connected to it."""
    if self._server:
      self._server.close()
    writers = self._writers.values()
    await asyncio.gather(*(_flush(writer) for writer in writers))
    for writer in writers:
      writer.close()
    if self._serving:
      await asyncio.wait(self._serving, timeout=_FLUSH_SECONDS)

  async def _serve(self, reader, writer) -> None:
    task = asyncio.current_task()
    self._serving.add(task)
    task.add_done_callback(self._serving.discard)
    rank = await self._greeted(reader, writer)
    if rank is None:
      writer.close()
      return
    self._answer()
    with contextlib.suppress(ConnectionError, ValueError, KeyError, TypeError):
      while line := await reader.readline():
        self.roll.hear(rank, json.loads(line), time.monotonic())
        self._answer()
    self.roll.leave(rank, time.monotonic())

  async def _greeted(self, reader, writer) -> int | None:
    """The rank that a new connection says it is; None: a stranger."""
    try:
      line = await asyncio.wait_for(reader.readline(), _HELLO_SECONDS)
      hello = json.loads(line)
      if hello['token'] != self._token:
        raise ValueError('It is of another job.')
      rank = hello['rank']
      self.roll.join(rank, hello, time.monotonic())
    except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
      peer = writer.get_extra_info('peername')
      logging.warning('Turned away a stranger at %s: %r', peer, error)
      return None
    if not self.roll.ended and rank not in self._writers:
      self._writers[rank] = writer
      return rank
    self._answer()
    writer.write(_line(self._last))  # it comes too late, or a second time
    await _flush(writer)
    return None

  def _answer(self) -> bool:
    message = self.roll.answer(time.monotonic())
    if message:
      self._last = message if self.roll.ended else self._last
      self._tell(message)
    return message is not None

  def _tell(self, message: Message) -> None:
    for writer in self._writers.values():
      if not writer.is_closing():
        writer.write(_line(message))


class Link:
  """One supervisor's connection to the hub."""

  def __init__(self, reader, writer, receive: Callable[[Message], None]):
    self._writer = writer
    self._task = asyncio.create_task(_receive(reader, receive))

  def send(self, message: Message) -> None:
    """Sends; into nothing, if the connection is closed."""
    if not self._writer.is_closing():
      self._writer.write(_line(message))

  async def close(self) -> None:
    """Sends what is left and closes."""
    await _flush(self._writer)
    self._task.cancel()
    self._writer.close()


async def link(
  connection: socket.socket, receive: Callable[[Message], None]
) -> Link:
  """The link over a connection, on which a rank has said who it is.

  `receive` gets every message, and {'kind': 'closed'} at the end.
  """
  reader, writer = await asyncio.open_connection(
    sock=connection, limit=_LONGEST_LINE
  )
  return Link(reader, writer, receive)


async def _receive(reader, receive: Callable[[Message], None]) -> None:
  with contextlib.suppress(OSError, ValueError):
    while line := await reader.readline():
      receive(json.loads(line))
  receive({'kind': 'closed'})


async def _flush(writer: asyncio.StreamWriter) -> None:
  with contextlib.suppress(OSError, TimeoutError):
    await asyncio.wait_for(writer.drain(), _FLUSH_SECONDS)


def _line(message: dict[str, Any]) -> bytes:
  return json.dumps(message).encode() + b'\n'
