"""The HTTP interface: Prometheus's API, the fleet API, health, metrics and their documentation.

Never computes: it asks the engine, the store and `fleet`, and turns what they say into bytes.
"""
