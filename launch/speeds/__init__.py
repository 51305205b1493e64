"""Speed of programs on the devices that are here, measured without training."""
