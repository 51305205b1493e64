"""A Slurm of its own on this machine: four emulated nodes, private ports."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket
import subprocess
import time

from launch import local

NODES = 4
_CONFIGURATION = """
ClusterName=podium
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
InactiveLimit=0
KillWait=10
NodeName=n[1-{nodes}] Port=[{ports}] CPUs=1 \\
  NodeHostname={host} NodeAddr=127.0.0.1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, str]]:
  """The variables with which sbatch and srun reach it; ended when left."""
  with contextlib.ExitStack() as stack:
    environment = _configure(folder)
    key = folder / 'munge.key'
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munged = ['munged', '--foreground', '--force']
    munged += [f'--key-file={key}', f'--socket={folder}/munge.socket']
    for name in ('log', 'pid', 'seed'):
      munged.append(f'--{name}-file={folder}/munge.{name}')
    stack.enter_context(_daemon(munged, environment, folder))
    _until(lambda: (folder / 'munge.socket').exists(), folder)
    controller = ['slurmctld', '-D', '-c']
    stack.enter_context(_daemon(controller, environment, folder))
    for node in range(1, NODES + 1):
      command = ['slurmd', '-D', '-N', f'n{node}']
      stack.enter_context(_daemon(command, environment, folder))
    _until(lambda: _idle(environment) == NODES, folder)
    yield environment


def address() -> str:
  """An address of this machine but loopback: the nodes have no names."""
  told = subprocess.run(['hostname', '-I'], capture_output=True, text=True)
  addresses = [text for text in told.stdout.split() if ':' not in text]
  if not addresses:
    raise OSError('This machine has no address but loopback.')
  return addresses[0]


def _configure(folder: pathlib.Path) -> dict[str, str]:
  port = local.free_ports()
  first = port + 10
  (folder / 'state').mkdir()
  (folder / 'cgroup.conf').write_text('CgroupPlugin=autodetect\n')
  path = folder / 'slurm.conf'
  path.write_text(
    _CONFIGURATION.format(
      host=socket.gethostname().partition('.')[0],
      port=port,
      ports=f'{first}-{first + NODES - 1}',
      folder=folder,
      nodes=NODES,
    )
  )
  folder.chmod(0o755)
  return {**os.environ, 'SLURM_CONF': str(path)}


@contextlib.contextmanager
def _daemon(command, environment, folder):
  with open(folder / f'{"-".join(command)[:12]}.out', 'ab') as out:
    daemon = subprocess.Popen(
      command, env=environment, stdout=out, stderr=subprocess.STDOUT
    )
  try:
    yield
  finally:
    daemon.terminate()
    try:
      daemon.wait(timeout=30)
    except subprocess.TimeoutExpired:
      daemon.kill()
      daemon.wait()


def _idle(environment) -> int:
  told = subprocess.run(
    ['sinfo', '-h', '-N', '-o', '%t'],
    env=environment,
    capture_output=True,
    text=True,
  )
  return told.stdout.split().count('idle')


def _until(holds, folder: pathlib.Path, seconds: float = 100.0) -> None:
  end = time.monotonic() + seconds
  while not holds():
    if time.monotonic() > end:
      logs = [*folder.glob('*.log'), *folder.glob('*.out')]
      told = '\n'.join(f'{p.name}: {p.read_text()[-500:]}' for p in logs)
      raise TimeoutError(f'Slurm did not come up in {seconds:g} s.\n{told}')
    time.sleep(0.2)
