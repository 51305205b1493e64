"""MiniGo: its net, the game of Go, tree search and self-play on the device."""
