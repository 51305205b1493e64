"""Games of self-play: what runs start from, and the window that is replayed."""
