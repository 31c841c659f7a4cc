"""Moves samples from sources to the store on a schedule; never answers a query."""
