"""Keeps operational state in SQLite: watermarks, gaps, bindings, alert state; never samples."""
