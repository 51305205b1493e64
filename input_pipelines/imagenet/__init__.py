"""ImageNet-1k, and a small stand-in of the same schema."""
