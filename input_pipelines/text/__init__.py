"""Text: subwords, and sentences put together into batches of few shapes."""
