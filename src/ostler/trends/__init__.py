"""What tests and firmware runs measured, kept per serial number: the raw material of trends and of lifecycle guards."""
