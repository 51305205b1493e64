"""Sound -> what speech recognition reads: resampling, trimming, log mel."""
