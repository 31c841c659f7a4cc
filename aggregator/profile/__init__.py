"""The declarative fleet metrics: what to ask a cluster, and what its answers are called.

Pure functions over settings and answers; it never asks a source and never writes to the store.
"""
