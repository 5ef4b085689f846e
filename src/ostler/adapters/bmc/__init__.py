"""One server's management controller: `port` is what callers see, `redfish` the real one, `fake` the one in memory."""
