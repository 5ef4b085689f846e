"""Where a person is called: a port, Alertmanager and PagerDuty behind it, and the fake."""
