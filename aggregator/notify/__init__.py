"""Alerts become notifications: grouped, deduplicated, kept until they arrive. Evaluates nothing."""
