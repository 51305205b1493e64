"""Builders of small data sets: real data of well-known packages, or generated.

One data set a file; the folder is the registry. Every module has a `RECIPE`, as
those in `input_pipelines.prepare` do, and from it follow what
`launch.prepare_data` lists, builds and verifies.
"""
