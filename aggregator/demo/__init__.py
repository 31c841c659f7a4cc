"""A simulated fleet to look at: four clusters that speak Prometheus's HTTP API.

Stands apart from the product: nothing imports it, and what it serves is made up.
"""
