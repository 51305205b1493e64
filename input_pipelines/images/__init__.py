"""Photographs: JPEG bytes to pixels, crops, and less to decode."""
