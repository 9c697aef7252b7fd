"""The list of recipes, by what they are trained on and what they train."""

import inspect

from vistok.recipes import all_recipes, command_of, recipe_kinds

# First part of a recipe's name -> its heading, in the order of the list.
HEADINGS = {
    "images": "Your own images (add --data FOLDER)",
    "fashion": "Fashion-MNIST",
    "openmoji": "OpenMoji",
    "imagenet": "ImageNet",
    "lsun": "LSUN",
    "study": "Grids of tokenizers and generators",
    "debug": "Toys that finish in seconds",
}
KINDS = {
    "tokenizer": "Tokenizers",
    "generator": "Generators",
    "shortcut": "Shortcuts",
    "classifier": "Classifiers",
    "study": "Studies",
}


def recipe_list() -> list[str]:
    """Return a line for every recipe, below headings of data sets and kinds."""
    recipes, groups = all_recipes(), recipe_groups()
    width = max(map(len, recipes))
    lines: list[str] = []
    for heading, kinds in groups.items():
        lines += [heading] if not lines else ["", heading]
        for kind, names in kinds.items():
            lines.append(f"  {KINDS[kind]} ({command_of('NAME', kind)})")
            for name in names:
                first = (inspect.getdoc(recipes[name]) or "").splitlines()[0]
                lines.append(f"    {name:<{width}}  {first}")
    return [
        *lines,
        "",
        "vistok recipes NAME shows one with its sizes and costs; --set a.b=c changes any of its values.",
    ]


def recipe_groups() -> dict[str, dict[str, list[str]]]:
    """Return the names of all recipes by heading and kind."""
    groups: dict[str, dict[str, list[str]]] = {heading: {} for heading in HEADINGS.values()}
    for name, kind in sorted(recipe_kinds().items(), key=lambda item: list(KINDS).index(item[1])):
        part = (
            "debug"
            if name.startswith("debug")
            else "study"
            if kind == "study"
            else name.partition("_")[0].rstrip("0123456789")
        )
        groups.setdefault(HEADINGS.get(part, part), {}).setdefault(kind, []).append(name)
    return {heading: kinds for heading, kinds in groups.items() if kinds}
