"""The judgement: one recipient's facts in, one finding out. (Being written; returns `unknown` until then.)"""

from classifier.reasons.facts import Facts, Finding
from classifier.verdict import REASONS, Reason


def explain(facts: Facts) -> Finding:
    """Say why the recipient described by `facts` was not reached. Never raises."""
    return Finding(Reason.UNKNOWN, *REASONS[Reason.UNKNOWN], status=facts.status, reply_code=facts.reply_code)
