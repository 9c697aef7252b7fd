"""The claims that answer a study: how much less compute gives equal gFMD, at the chosen guidance and without."""

from collections.abc import Sequence

from vistok.study.findings.verdict import Claim

# By the first of these that a study has: E is decided in advance for many seeds, C2 is the paper's.
GUIDED = ("E1.chosen", "C2.stage2")
UNGUIDED = ("E2.unguided", "C2.unguided")
SECOND = ("E4.second",)


def headline(claims: Sequence[Claim], names: Sequence[str]) -> list[Claim]:
    """Return the claims of the first of these names that a study has, with the largest effect first."""
    for name in names:
        found = [claim for claim in claims if claim.claim.startswith(f"{name} ") and claim.effect]
        if found:
            return sorted(found, key=lambda claim: -(claim.effect or 0.0))
    return []
