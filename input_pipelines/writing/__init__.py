"""Writing of data sets, once and offline: shards, manifests, checks."""
