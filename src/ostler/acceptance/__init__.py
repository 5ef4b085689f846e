"""Day 1: a node earns production. Seatrial looks at it, zap brings its firmware up, test burns it in."""
