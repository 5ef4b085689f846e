"""Active checks of nodes in production while nobody uses them: hourly, lowest priority, gone when work arrives."""
