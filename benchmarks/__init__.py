"""What is measured: ratios against a peer in the same run, printed by `python -m benchmarks`."""
