"""What is done once, offline, to bring data into the form that is read."""
