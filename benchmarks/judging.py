"""Claims of benchmarks that repeat over seeds: with fewer than three they stay open."""

from vistok.study.findings.verdict import OPEN, Claim, Estimate, Measure, Verdict, make_claim, missing_claim

SEEDS = 3


def judged(claim: str, statement: str, rule: str, found: Estimate, verdict: Verdict, quantity: str, unit: str) -> Claim:
    """Return a claim, open with fewer than three seeds."""
    if found.n == 0:
        return missing_claim(claim, statement, rule, "not run")
    settled = verdict if found.n >= SEEDS else Verdict(OPEN, *verdict.margins)
    return make_claim(claim, statement, rule, found, settled, measure=Measure(quantity, unit))
