"""Builders of small data sets from data that well-known packages ship.

One data set a file; the folder is the registry. Every module has

  SPLITS: Mapping[str, int]          # split -> number of records
  def build(data_dir) -> str: ...    # write it, return its directory
  def verify(directory) -> None: ... # raise unless it is complete
"""
