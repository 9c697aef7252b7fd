"""A warning where a distance between sets of images rests on too few of them."""

from typing import Any

from vistok.errors import counted

# Below this many images, or below the number of features if that is more, a covariance is mostly noise.
FEW = 1_000
DISTANCES = ("FMD", "FID")


def few_images_warnings(scores: dict[str, Any], num_features: int) -> list[str]:
    """Return a warning if a Fréchet distance among the scores has few images on either side; none for other scores."""
    protocols = [score["protocol"] for score in scores.values() if isinstance(score, dict) and "protocol" in score]
    protocol = next((found for found in protocols if found["metric"].endswith(DISTANCES)), None)
    if protocol is None:
        return []
    needed = max(FEW, num_features)
    sides = [
        (
            protocol["num_reference"],
            f"reference image ({protocol['reference']})",
            f"reference images ({protocol['reference']})",
        )
    ]
    if protocol["num_samples"] != protocol["num_reference"] or protocol["metric"].startswith("g"):
        sides.append((protocol["num_samples"], "image", "images scored"))
    # A file of statistics has no images of its own.
    few = [counted(count, one, more) for count, one, more in sides if 0 < count < needed]
    if not few:
        return []
    return [
        f"{protocol['metric']} rests on {' and '.join(few)}: with {num_features:,} features, fewer than {needed:,} make it too high "
        "and dependent on which images they are. Compare it only with scores against the same images, of as many"
    ]
