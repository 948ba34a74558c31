"""What people and their mail programs write: auto-replies, opt-outs, complaints, challenges, in many languages."""

from classifier.texts.judgement import Judgement, judge

__all__ = ["Judgement", "judge"]
