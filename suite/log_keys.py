"""Keys and values of the log that its writer and its readers share."""

# Begins the keys of statistics of the data that a run makes itself.
MADE = 'podium_made_'
