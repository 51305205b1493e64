"""MovieLens 20M, its expansion, and a small stand-in of the same schema."""
