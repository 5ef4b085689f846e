"""What a node's users and other systems ask for: parts and logs, maintenance with notice, replacements, RMA cases."""
