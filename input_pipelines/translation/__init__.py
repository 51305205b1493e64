"""WMT17 English to German, and a small stand-in of the same schema."""

NAME = 'wmt17_en_de'
# Pairs of the reference: three corpora, and newstest2014.
PAIRS = {'train': 4_590_101, 'test': 3003}
