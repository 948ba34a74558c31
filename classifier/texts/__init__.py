"""What people and their mail programs write: auto-replies, opt-outs, complaints, challenges, in many languages."""

from classifier.texts.book import book
from classifier.texts.dates import load as load_dates
from classifier.texts.judgement import Judgement, is_challenge, judge

__all__ = ["Judgement", "is_challenge", "judge", "load"]


def load() -> None:
    """Read all rules and make what looks for them, so that no message waits for it."""
    book()
    load_dates()
