"""The scheduler of a pool's nodes: `port`, the real `kubernetes`, `nothing` for pools without one, and the `fake`."""
