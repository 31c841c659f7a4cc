"""Keeps samples and series; knows nothing of clusters, queries or rules."""
