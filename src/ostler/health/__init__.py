"""What nodes say and what it means: signals, findings, causes, silence. Decides nothing and disrupts nothing."""
