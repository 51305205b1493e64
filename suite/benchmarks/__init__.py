"""One folder per benchmark: it declares one, and binds model, data and loss."""
