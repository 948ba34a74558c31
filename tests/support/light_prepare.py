"""A `prepare` that does not look at the message, for tests of what comes after it: loading all rules takes seconds."""

from __future__ import annotations

from store.prepare import Job, Prepared, unreadable


def prepare(job: Job) -> Prepared:
    return unreadable(job, "not looked at")
