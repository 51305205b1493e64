"""DLRM-DCNv2: a cross network, Adagrad; batches in the order on disk."""

from suite.benchmark import DataSet
from suite.benchmarks.dlrm.task import ClicksTask, warmup_hold_decay
from suite.benchmarks.dlrm_dcnv2 import Hparams
from suite.run import optimizers


class DcnTask(ClicksTask):
  """The model and the optimizer; see ClicksTask."""

  def __init__(self, hp: Hparams, data: DataSet):
    """See ClicksTask."""
    # The rules want both schedules in the log, and neither in force.
    schedule = warmup_hold_decay(
      base=hp.base_learning_rate,
      warmup_steps=hp.warmup_steps,
      decay_start=hp.decay_start_step,
      decay_steps=hp.decay_steps,
    )
    self.rate = lambda count: (
      schedule(count) / (1 + hp.learning_rate_decay * count)
    )
    by_rows = {'adagrad': optimizers.row_adagrad}[hp.opt_name]
    super().__init__(
      hp,
      data,
      lookups=hp.lookups,
      rows=by_rows(
        self.rate,
        epsilon=hp.epsilon,
        initial=hp.initial_accumulator,
        weight_decay=hp.weight_decay,
      ),
      groups=hp.table_groups,
      cross_layers=hp.cross_layers,
      cross_rank=hp.cross_rank,
    )


def make_task(hp: Hparams, data: DataSet) -> DcnTask:
  """The task of a run."""
  return DcnTask(hp, data)
