"""Commands that only MiniGo needs."""
