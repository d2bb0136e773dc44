"""Programs that the tests export with ExecuTorch's own exporter, and the true results in float64."""
