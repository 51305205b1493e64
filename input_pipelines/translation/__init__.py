"""WMT English to German, and small stand-ins of the same schema."""

NAME = 'wmt17_en_de'
# Pairs of the Transformer's reference: three corpora, and newstest2014.
PAIRS = {'train': 4_590_101, 'test': 3003}

NAME_16 = 'wmt16_en_de'
# Those of GNMT's: in training, of up to so many tokens a side, start and end
# included, by published logs. How many are longer they do not say.
PAIRS_16 = {'train': 3_498_161, 'test': 3003}
COUNTED_16 = 50
