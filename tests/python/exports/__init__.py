"""Programs that the tests export with ExecuTorch's own exporter, and the true results in float64 to hold them against."""
