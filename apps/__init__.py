"""The thing measured: six endpoints, written once, and every way of serving them. Imports nothing of the harness."""
