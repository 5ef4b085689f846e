"""For those who receive Ostler's webhooks: verification and exactly-once effects, without the server's dependencies."""
