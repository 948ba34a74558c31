"""Reports that were cut short on their way: the recipients whose fields are lost, as the prose above names them."""

from __future__ import annotations

from classifier import addresses
from classifier.context import Context
from classifier.reports import mentions
from classifier.reports.model import MAX_RECIPIENTS, Case, Report
from classifier.verdict import Evidence


def complete(report: Report, notice: mentions.Notice, context: Context) -> None:
    """Put in the recipients that only the prose still names, where it names all those whose fields are whole.

    The last recipient's fields may end anywhere, in its address too: without action or status they count for nothing.
    """
    if not mentions.lists(notice):
        return
    told, _ = mentions.cases(notice, context)
    last = report.cases[-1]
    stump = last if not (last.action or last.status) else None
    whole = report.cases[:-1] if stump else report.cases
    listed = {(case.address or "").lower() for case in told}
    if any(_names(case).isdisjoint(listed) for case in whole):
        return
    known = {name for case in whole for name in _names(case)}
    lost = [case for case in told if (case.address or "").lower() not in known]
    for case in lost:
        case.action = (whole[0].action if whole else None) or case.action
    if stump and addresses.valid(stump.address or "") and not any(_begins(case, stump) for case in told):
        lost.append(stump)
    if lost:
        report.evidence.append(Evidence("dsn.cut-short", text=", ".join(case.address or "" for case in lost)[:200]))
    report.cases = (whole + lost)[:MAX_RECIPIENTS] or report.cases


def _names(case: Case) -> set[str]:
    return {name.lower() for name in (case.address, case.original) if name}


def _begins(case: Case, stump: Case) -> bool:
    return (case.address or "").lower().startswith((stump.address or "").lower())
