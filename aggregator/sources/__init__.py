"""Reads one cluster's servers; knows nothing of the store, and trusts nothing it reads."""
