"""What must be there and what is: registry, freshness, gap ledger. Never asks a source."""
