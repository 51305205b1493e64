"""Results: audit, convergence, scores, reports; plain numbers, without JAX."""
