"""LibriSpeech, read speech with its text, and spoken digits of its schema."""

NAME = 'librispeech'
TRAIN = ('train-clean-100', 'train-clean-360', 'train-other-500')
EVAL = 'dev-clean'
# Utterances of OpenSLR's twelfth resource, by its page and TFDS's metadata.
UTTERANCES = {
  'train': 28_539 + 104_014 + 148_688,
  'dev_clean': 2703,
}
PIECES = 1023
RATE = 16_000  # samples of a second
