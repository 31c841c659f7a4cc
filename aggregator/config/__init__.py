"""Assembles every package's settings from files and environment; builds nothing from them."""
