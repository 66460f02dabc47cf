"""Face recognisers, which are published as ONNX graphs, in JAX: `graph` runs one, `operators` has its parts."""
