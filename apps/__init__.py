"""The thing measured: endpoints, each written once, and every way of serving them. Imports nothing of the harness."""
