"""What a returned message is, for whom, and why: `classify(raw, context) -> Verdict`, pure and bounded."""
