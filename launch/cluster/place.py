"""Place of a process among its peers, from its launcher's variables.

Nothing here asks a machine: variables go in, a Place comes out. In this
order: our own PODIUM_* variables, Open MPI (also inside Slurm), a Slurm step,
SkyPilot, Cloud TPU, an indexed Job of Kubernetes. PODIUM_COORDINATOR,
PODIUM_PROCESSES and PODIUM_PROCESS_ID also correct what another one says.

Which devices of its host a process takes: PODIUM_LOCAL_DEVICES, if it is set
('all', '2': so many, '0,1': these). Otherwise all, if it is alone on its host
or sees no GPU, or sees only those that its launcher has bound it to: just one,
as many as Slurm gives to each task, or fewer than the step has on its host. An
equal share, if the GPUs it sees can be shared equally. Anything else is
refused, and so are several MIG devices, of which CUDA shows only the first.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import itertools
import re

Environment = Mapping[str, str]

# Above the ports that Linux hands out by itself; pairs, for JAX and for us.
_FIRST_PORT, _PAIRS = 61440, 2048
_BETWEEN_STEPS = 977  # shares no factor with the number of pairs
# The variables that make a place by themselves.
_OWN = ('PODIUM_COORDINATOR', 'PODIUM_PROCESSES', 'PODIUM_PROCESS_ID')
# The first that is set holds: for CUDA, and for ROCm.
_VISIBLE = (
  'CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES', 'HIP_VISIBLE_DEVICES',
)  # fmt: skip
_PER_TASK = 'SLURM_GPUS_PER_TASK'  # 2, or with a type: a100:2
_TPU_PORT = 8482  # as JAX chooses it
_KUBERNETES_PORT = 55526


@dataclasses.dataclass(frozen=True)
class Place:
  """One process among those of a job."""

  kind: str  # what told: 'Slurm', 'Open MPI', ...
  coordinator: str  # host:port of process 0
  processes: int
  process: int
  hosts: int | None = None  # None: not told
  local_process: int | None = None  # among the processes of this host
  local_processes: int | None = None
  local_devices: tuple[int, ...] | None = None  # None: all that it sees
  job: str = ''  # tells this job from others, where the launcher does
  counted: str = ''  # the variable that tells how many there are, and its value

  @property
  def host(self) -> str:
    """The coordinator's host, without brackets."""
    return self.coordinator.rpartition(':')[0].strip('[]')

  @property
  def port(self) -> int:
    """The coordinator's port."""
    return int(self.coordinator.rpartition(':')[2])


def find(
  environment: Environment,
  gpus: int = 0,
  metadata: Mapping[str, str] | None = None,
) -> Place | None:
  """The place that the variables tell; None: alone.

  `gpus` are those of this host; `metadata` is what a TPU VM's metadata server
  says, where there is one. ValueError for half a place and for nonsense.
  """
  known = {name: value for name, value in environment.items() if value}
  place = _own(known, _detected(known, metadata))
  if place is None or place.processes == 1:
    return None
  _check(place)
  return dataclasses.replace(
    place, local_devices=_local_devices(place, environment, gpus)
  )


def expand(nodes: str) -> list[str]:
  """Slurm's 'n[1-3,07],m4' -> ['n1', 'n2', 'n3', 'n07', 'm4']."""
  names = []
  for part in re.findall(r'(?:[^,\[\]]|\[[^\]]*\])+', nodes):
    pieces = re.split(r'\[([^\]]*)\]', part)
    choices = [
      _numbers(piece) if i % 2 else [piece] for i, piece in enumerate(pieces)
    ]
    names += [''.join(chosen) for chosen in itertools.product(*choices)]
  return names


def _numbers(ranges: str) -> list[str]:
  found = []
  for text in ranges.split(','):
    first, _, last = text.partition('-')
    last = last or first
    found += [
      str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)
    ]
  return found


def _own(known: Environment, place: Place | None) -> Place | None:
  """`place` as PODIUM_* variables correct or make it."""
  given = [name for name in _OWN if name in known]
  if known.get('PODIUM_PROCESSES') == '1':
    return None
  if place is None and given and len(given) < len(_OWN):
    missing = ', '.join(name for name in _OWN if name not in known)
    raise ValueError(f'Of several processes each needs {missing} too.')
  if given == list(_OWN) or (place is None and given):
    place = Place('PODIUM_* variables', '', 0, 0)
  if place is None:
    return None
  _numbers_only(known, _OWN[1:])
  return dataclasses.replace(
    place,
    coordinator=known.get(_OWN[0], place.coordinator),
    processes=int(known.get(_OWN[1], place.processes)),
    process=int(known.get(_OWN[2], place.process)),
    local_process=_optional(
      known, 'PODIUM_LOCAL_PROCESS_ID', place.local_process
    ),
    local_processes=_optional(
      known, 'PODIUM_LOCAL_PROCESSES', place.local_processes
    ),
    job=known.get('PODIUM_JOB', place.job),
    counted=_said(known, _OWN[1]) or place.counted,
  )


def _detected(known: Environment, metadata) -> Place | None:
  if all(name in known for name in _OWN):
    return None  # nothing else is asked
  for look in (_open_mpi, _slurm, _skypilot, _tpu, _kubernetes):
    if (place := look(known)) is not None:
      return place
  return _tpu_vm(known, metadata) if metadata else None


def _open_mpi(known: Environment) -> Place | None:
  if 'OMPI_COMM_WORLD_SIZE' not in known:
    return None
  size, rank, local_rank, local_size = _integers(
    known,
    'OMPI_COMM_WORLD_SIZE',
    'OMPI_COMM_WORLD_RANK',
    'OMPI_COMM_WORLD_LOCAL_RANK',
    'OMPI_COMM_WORLD_LOCAL_SIZE',
  )
  uri = known.get('OMPI_MCA_orte_hnp_uri', '')
  job = uri.partition('.')[0] or known.get('PMIX_NAMESPACE', '')
  first = known.get('PODIUM_COORDINATOR')
  return Place(
    'Open MPI',
    first or _mpi_coordinator(uri, job, size == local_size),
    size,
    rank,
    hosts=1 if size == local_size else None,
    local_process=local_rank,
    local_processes=local_size,
    job=job,
    counted=_said(known, 'OMPI_COMM_WORLD_SIZE'),
  )  # fmt: skip


def _mpi_coordinator(uri: str, job: str, one_host: bool) -> str:
  # 1531576320.0;tcp://10.96.0.1,10.148.0.1:34911, or tcp6://[fe80::1,...]:4711
  if one_host:
    return f'127.0.0.1:{_port(job)}'
  found = re.search(r'tcp://([^,:]+)|tcp6://\[([^,\]]+)', uri)
  if not found:
    raise ValueError(
      'Open MPI 5 does not tell its processes where rank 0 is: give '
      'PODIUM_COORDINATOR=HOST:PORT, with mpirun -x PODIUM_COORDINATOR.'
    )
  host = found[1] or f'[{found[2]}]'
  return f'{host}:{_port(job)}'


def _slurm(known: Environment) -> Place | None:
  # A batch script itself is no step: what it starts without srun is alone.
  if 'SLURM_STEP_NODELIST' not in known or 'SLURM_PROCID' not in known:
    return None
  nodes = expand(known['SLURM_STEP_NODELIST'])
  count = 'SLURM_STEP_NUM_TASKS'
  count = count if count in known else 'SLURM_NTASKS'
  size, rank, local_rank = _integers(
    known, count, 'SLURM_PROCID', 'SLURM_LOCALID'
  )
  job = known.get('SLURM_JOB_ID', '')
  step = known.get('SLURM_STEP_ID', '')
  return Place(
    'Slurm',
    f'{nodes[0]}:{_port(_numbered(job, step))}',
    size,
    rank,
    hosts=len(nodes),
    local_process=local_rank,
    local_processes=_slurm_tasks(known, size, len(nodes)),
    job=f'{job}.{step}',
    counted=_said(known, count),
  )


def _numbered(job: str, step: str) -> str:
  """A number for a step, of those that may be on one node at a time.

  Jobs of an array have numbers that follow each other.
  """
  if job.isdigit() and step.isdigit():
    return str(int(job) + _BETWEEN_STEPS * int(step))
  return job


def _slurm_tasks(known: Environment, size: int, nodes: int) -> int | None:
  """Tasks on this node: of '2(x3),1' the one that SLURM_NODEID says."""
  text = known.get('SLURM_STEP_TASKS_PER_NODE', '')
  counts = []
  for count, times in re.findall(r'(\d+)(?:\(x(\d+)\))?', text):
    counts += [int(count)] * int(times or 1)
  node = int(known.get('SLURM_NODEID', '0'))
  if node < len(counts):
    return counts[node]
  return size // nodes if size % nodes == 0 else None


def _skypilot(known: Environment) -> Place | None:
  if 'SKYPILOT_NODE_IPS' not in known:
    return None
  addresses = known['SKYPILOT_NODE_IPS'].split()
  (rank,) = _integers(known, 'SKYPILOT_NODE_RANK')
  job = known.get('SKYPILOT_TASK_ID', '')
  first = f'{addresses[0]}:{_port(job)}'
  return _one_a_host('SkyPilot', first, len(addresses), rank, job)


def _tpu(known: Environment) -> Place | None:
  names = known.get('TPU_PROCESS_ADDRESSES') or known.get(
    'TPU_WORKER_HOSTNAMES'
  )
  if not names:
    return None
  (worker,) = _integers(known, 'TPU_WORKER_ID')
  return _slices('Cloud TPU', known, names.split(','), worker)


def _tpu_vm(known: Environment, metadata: Mapping[str, str]) -> Place | None:
  """From the metadata server's attributes, by name."""
  endpoints = metadata.get('worker-network-endpoints', '')
  if not endpoints:
    return None
  hosts = [each.split(':')[-1] for each in endpoints.split(',')]
  rows = re.findall(r"^(\w+)\s*:\s*'?(.*?)'?\s*$", metadata.get('tpu-env', ''),
                    re.MULTILINE)  # fmt: skip
  worker = int(metadata.get('agent-worker-number') or 0)
  return _slices('TPU VM', {**dict(rows), **known}, hosts, worker)


def _slices(kind, known: Environment, hosts: Sequence[str], worker: int):
  """Place of `worker` of this slice's `hosts`, slice after slice."""
  slices = int(known.get('MEGASCALE_NUM_SLICES', '1'))
  index = int(known.get('MEGASCALE_SLICE_ID', '0'))
  first = known.get('MEGASCALE_COORDINATOR_ADDRESS') or hosts[0]
  return _one_a_host(
    kind,
    f'{first.split(":")[0].strip()}:{_TPU_PORT}',
    slices * len(hosts),
    index * len(hosts) + worker,
  )


def _kubernetes(known: Environment) -> Place | None:
  if 'JOB_COMPLETION_INDEX' not in known:
    return None
  if 'PODIUM_PROCESSES' not in known:
    raise ValueError(
      'This is a pod of an indexed Job, which does not tell how many there '
      'are: give PODIUM_PROCESSES (1: this pod alone).'
    )
  processes, index = _integers(
    known, 'PODIUM_PROCESSES', 'JOB_COMPLETION_INDEX'
  )
  first = known.get('PODIUM_COORDINATOR') or _pod(known)
  return _one_a_host('Kubernetes', first, processes, index)


def _one_a_host(
  kind: str, coordinator: str, hosts: int, index: int, job: str = ''
) -> Place:
  """Place of the one process of host `index`."""
  return Place(
    kind,
    coordinator,
    hosts,
    index,
    hosts=hosts,
    local_process=0,
    local_processes=1,
    job=job,
  )


def _pod(known: Environment) -> str:
  """The name of the first pod of a JobSet's first Job, and a port."""
  jobset, job = (
    known.get(name) for name in ('JOBSET_NAME', 'REPLICATED_JOB_NAME')
  )
  if not jobset or not job:
    raise ValueError(
      'A pod of an indexed Job needs PODIUM_COORDINATOR=HOST:PORT, or '
      'JOBSET_NAME and REPLICATED_JOB_NAME, to find the first of them.'
    )
  domain = known.get('JOBSET_SUBDOMAIN', jobset)
  return f'{jobset}-{job}-0-0.{domain}:{_KUBERNETES_PORT}'


def _local_devices(
  place: Place, environment: Environment, gpus: int
) -> tuple[int, ...] | None:
  """The rule that stands at the top of this file."""
  wanted = environment.get('PODIUM_LOCAL_DEVICES', '')
  if wanted == 'all':
    return None
  if ',' in wanted and re.fullmatch(r'\d+(,\d+)*,?', wanted):
    return tuple(int(n) for n in wanted.strip(',').split(','))
  if wanted:
    return _so_many(place, wanted)
  name, chosen = _visible(environment)
  seen = gpus if chosen is None else len(chosen)
  peers = place.local_processes
  if not seen or peers == 1 or (chosen and _bound(environment, seen)):
    return None
  sees = f'This process sees {seen} GPUs'
  if chosen and all(device.startswith('MIG-') for device in chosen):
    raise ValueError(
      f'{sees} by {name}, of which CUDA shows it the first MIG device alone: '
      'give each process one of its own.'
    )
  if not peers or place.local_process is None or seen % peers:
    raise ValueError(
      f'{sees} and has {peers or "unknown"} processes on its host: say with '
      'PODIUM_LOCAL_DEVICES which it takes (all, or a number, or their ids as '
      '0,1).'
    )
  return _share(place.local_process, seen // peers)


def _visible(environment: Environment) -> tuple[str, list[str] | None]:
  """The variable that says which GPUs a process sees, and these.

  None: nothing says it. What is no device ends the list, as for CUDA; an empty
  one hides all.
  """
  for name in _VISIBLE:
    if name in environment:
      devices = [each.strip() for each in environment[name].split(',')]
      is_one = re.compile(r'\d+|(GPU|MIG)-.+').fullmatch
      return name, list(itertools.takewhile(is_one, devices))
  return '', None


def _bound(environment: Environment, seen: int) -> bool:
  """Returns whether GPUs that a process sees were chosen for it alone."""
  if seen == 1:
    return True
  each = re.fullmatch(r'(?:.*:)?(\d+)', environment.get(_PER_TASK, ''))
  each = each or re.search(
    r'gres/gpu(?::\w+)?[=:](\d+)', environment.get('SLURM_TRES_PER_TASK', '')
  )
  if each:
    return seen == int(each[1])
  whole = environment.get('SLURM_STEP_GPUS', '')
  return bool(whole) and seen < len(whole.split(','))


def _so_many(place: Place, wanted: str) -> tuple[int, ...]:
  if not re.fullmatch(r'[1-9]\d*', wanted):
    raise ValueError(
      'PODIUM_LOCAL_DEVICES is "all", a number of devices, or ids with commas '
      f'(0,1 or 3,), not {wanted!r}.'
    )
  if place.local_process is None:
    raise ValueError(
      f'PODIUM_LOCAL_DEVICES={wanted} needs PODIUM_LOCAL_PROCESS_ID: which of '
      "its host's processes this is, from 0."
    )
  return _share(place.local_process, int(wanted))


def _share(index: int, count: int) -> tuple[int, ...]:
  return tuple(range(index * count, (index + 1) * count))


def _check(place: Place) -> None:
  if place.processes < 1 or not 0 <= place.process < place.processes:
    raise ValueError(
      f'{place.kind}: process {place.process} of {place.processes} cannot be; '
      'they are numbered from 0.'
    )
  host, _, port = place.coordinator.rpartition(':')
  # JAX takes this port and we the one after it.
  if not host or not port.isdigit() or not 0 < int(port) < 65535:
    raise ValueError(
      f'The coordinator is HOST:PORT, not {place.coordinator!r}.'
    )


def _port(job: str) -> int:
  """An even port that all processes of a job choose alike; ours is the next."""
  number = (
    int(job)
    if job.isdigit()
    else int.from_bytes(hashlib.sha256(job.encode()).digest()[:4], 'big')
  )
  # Open MPI's job numbers are multiples of 2**16.
  number = number if number < 2**16 else number ^ (number >> 16)
  return _FIRST_PORT + 2 * (number % _PAIRS)


def _integers(known: Environment, *names: str) -> list[int]:
  missing = [name for name in names if name not in known]
  if missing:
    given = [name for name in names if name in known]
    said = f'{" and ".join(given)} set, but not ' if given else ''
    raise ValueError(f'Expected all or none: {said}{", ".join(missing)}.')
  _numbers_only(known, names)
  return [int(known[name]) for name in names]


def _said(known: Environment, name: str) -> str:
  return f'{name}={known[name]}' if name in known else ''


def _optional(known: Environment, name: str, default: int | None):
  if name not in known:
    return default
  return _integers(known, name)[0]


def _numbers_only(known: Environment, names: Sequence[str]) -> None:
  given = {name: known[name] for name in names if name in known}
  if not all(value.isdigit() for value in given.values()):
    values = ' and '.join(repr(value) for value in given.values())
    raise ValueError(f'{" and ".join(given)} must be numbers, not {values}.')
