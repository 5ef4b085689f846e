"""Whatever looks at an InfiniBand fabric: a port, Debian's own tools, files that others drop, and the fake."""
