"""The pages: rendered here first, kept fresh by small scripts over the HTTP API; no logic."""
