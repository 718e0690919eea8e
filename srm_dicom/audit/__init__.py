"""What was decided, provably: hash-chained events, durable before the answer they report."""
