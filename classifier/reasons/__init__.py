"""Why a recipient was not reached: `explain(facts)` weighs the refusal's text, its codes and who refused."""

from classifier.reasons.explain import explain
from classifier.reasons.facts import Facts, Finding

__all__ = ["Facts", "Finding", "explain"]
