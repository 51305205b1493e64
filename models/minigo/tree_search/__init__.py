"""Tree search on the device, and what is read off a tree that was searched."""
