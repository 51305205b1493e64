"""One file per benchmark: it binds a model, a pipeline, a loss, a target."""
