"""ResNet-50 at the size of tests: one block of four channels, digits."""

import dataclasses

from suite.benchmarks import resnet

_TINY = resnet.BENCHMARK.sizes['tiny']
SIZE = dataclasses.replace(
  _TINY,
  hparams=dataclasses.replace(
    _TINY.hparams,
    image_size=8,
    stage_blocks=(1,),
    stage_width=4,
    global_batch_size=512,
    model_bn_span=32,
    eval_batch_size=304,
    max_epochs=2,
    warmup_epochs=0,
  ),
)
