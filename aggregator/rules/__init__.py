"""Rule groups become alerts and recorded series. Never asks a source, never calls a receiver."""
