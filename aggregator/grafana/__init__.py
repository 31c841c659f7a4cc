"""Puts the data source and the dashboards into Grafana; touches nothing that others own."""
