"""Says what is wrong and where, from the central store alone; never asks a cluster."""
