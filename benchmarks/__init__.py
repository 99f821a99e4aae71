"""What the library costs, as ratios against peers and bare limits: `python -m benchmarks`."""
