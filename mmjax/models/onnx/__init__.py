"""Networks that are published as ONNX graphs, interpreted in JAX: `graph` runs one, `operators` has its parts."""
