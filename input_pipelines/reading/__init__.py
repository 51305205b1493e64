"""Reading of prepared data sets: files, records, and which make up a batch."""
