"""What a returned message is, for whom, and why: `classify(raw, context) -> Verdict`, pure and bounded."""

from classifier.classify import classify
from classifier.context import Context, Patterns
from classifier.verdict import Verdict

__all__ = ["Context", "Patterns", "Verdict", "classify"]
