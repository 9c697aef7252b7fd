"""Which packages carry which free pictures, and what they are used for: the table of free_pictures.py."""

import re
from collections.abc import Callable
from dataclasses import dataclass

RUBBISH = (
    r"(?i)normal|_nm\b|nrm|gloss|specular|_mask|mask_|bump|height_?map|lightmap|shadow|/icons?/|cursor|button|logo"
)


@dataclass(frozen=True)
class Collection:
    """Pictures of one package that are of one kind."""

    package: str
    licence: str  # As the package's own files state it.
    below: str = "."  # Folder of the unpacked package.
    keep: str = ""  # Only names that match.
    drop: str = RUBBISH  # No names that match.
    crops: int = 1  # At most so many of one picture: the whole, then random squares.
    share: float = 1.0  # This part of the pictures, chosen by their names.
    smallest: int = 48  # Pictures with a shorter side are left out.
    reads: str = "files"  # files, zips (of files), rcc (Qt's resources), iconify (SVG in JSON)
    held_out: bool = False
    classes: Callable[[str], str] | None = None  # Name of the picture's class folder.


def _first(name: str) -> str:
    return name.split("/")[0]


def _family(name: str) -> str:
    """OpenArena's sets of textures by the first part of their names: base of base_wall and base_floor."""
    return re.split(r"[_\d]", name.split("/")[1])[0]


def _icons(package: str, licence: str, drop: str = r"(?i)logo", share: float = 1.0) -> Collection:
    return Collection(f"@iconify-json/{package}", licence, drop=drop, share=share, reads="iconify")


def _kart(folder: str) -> Collection:
    licence = "GPL-3+, CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-3.0, CC0-1.0, public domain"
    return Collection("supertuxkart-data", licence, f"usr/share/games/supertuxkart/data/{folder}", crops=8, smallest=64)


def _wesnoth(folder: str, crops: int = 1, drop: str = RUBBISH, share: float = 1.0) -> Collection:
    root = "usr/share/games/wesnoth/1.16/data/core/images"
    return Collection("wesnoth-1.16-data", "GPL-2+", f"{root}/{folder}", drop=drop, crops=crops, share=share)


VARIANTS = r"(?i)flag|regional|(light|dark|medium)[a-z-]*skin|skin-?tone"
FRAMES = (
    r"(?i)attack|defen|die|ranged|melee|idle|stand|move|death|bow|sword|leading|magic|casting|fly|walk|run"
    r"|[-_/][ns][ew]?[-_.]|\d+\."
)
STELLARIUM = "usr/share/stellarium"
# The others' info.ini say CC-BY-ND, CC-BY-NC or CC-BY-NC-ND.
FREE_CULTURES = "western|chinese_contemporary|inuit|indian|romanian|belarusian|egyptian|aztec|boorong|macedonian|navajo|norse|sami|tukano"

COLLECTIONS = {
    # Photographs and wallpapers.
    "plasma": Collection("plasma-workspace-wallpapers", "GPL-2+ (single pictures: LGPL-3, CC-BY-SA-4.0)", crops=50),
    "mate": Collection("mate-backgrounds", "GPL-2+", crops=50),
    "lomiri-16": Collection("lomiri-wallpapers-16.04", "CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0", crops=60),
    "lomiri-20": Collection("lomiri-wallpapers-20.04", "CC-BY-SA-3.0", crops=40),
    "gnome": Collection("gnome-backgrounds", "CC-BY-SA-3.0, GPL-2+", crops=30),
    "ukui": Collection("ukui-wallpapers", "CC-BY-SA-3.0", crops=20),
    "lxqt": Collection("lxqt-themes", "LGPL-2.1+, LGPL-3", "usr/share/lxqt/wallpapers", crops=40),
    "people": Collection("kphotoalbum", "GPL-2+", "usr/share/kphotoalbum/demo", crops=40),
    "cameras": Collection(
        "libjxl-testdata",
        "CC0-1.0, BSD-3-clause",
        "usr/share/libjxl-testdata",
        keep=r"^external/(raw.pixls|wesaturate/500px)/.*srgb8|^jxl/flower/flower.png$",
        crops=60,
    ),
    "landscapes": Collection("stellarium-data", "GPL-2+", f"{STELLARIUM}/landscapes", crops=40),
    "nebulae": Collection("stellarium-data", "GPL-2+", f"{STELLARIUM}/nebulae", crops=4, share=0.6),
    "planets": Collection("stellarium-data", "GPL-2+", f"{STELLARIUM}/textures", crops=12, smallest=200),
    "gcompris": Collection(
        "gcompris-qt-data",
        "GPL-3+, CC-BY-SA-2.0 to 4.0, CC-BY-2.0 to 3.0, CC0-1.0, public domain",
        crops=10,
        reads="rcc",
    ),
    "gimp-help": Collection(
        "gimp-help-en",
        "GFDL-1.2+",
        "usr/share/gimp/2.0/help/en/images",
        keep="^(tutorials|using|filters/examples)/",
        crops=5,
        share=0.5,
    ),
    # Textures.
    "kart-textures": _kart("textures"),
    "kart-tracks": _kart("tracks"),
    "ski": Collection("extremetuxracer-data", "GPL-2+", "usr/share/games/etr", crops=8, smallest=64),
    "rabbits": Collection("lugaru-data", "CC-BY-SA-3.0, CC-BY-SA-4.0, GPL-2+", crops=6),
    "rally": Collection(
        "trigger-rally-data",
        "GPL-2+, CC0, CC-BY-3.0, CC-BY-SA-3.0",
        keep="^(textures|vehicles)/",
        drop=f"{RUBBISH}|CodriverSigns",
        crops=8,
        smallest=64,
        reads="zips",
    ),
    "patterns": Collection("krita-data", "GPL and LGPL", "usr/share/krita/patterns", crops=10),
    "furniture": Collection("sweethome3d-furniture", "CC-BY-3.0, CC0", crops=2, smallest=64, reads="zips"),
    # Paintings, drawings, sprites, icons.
    "stamps": Collection("tuxpaint-stamps-default", "GPL-2", "usr/share/tuxpaint/stamps", drop="(?i)flag", crops=6),
    "clipart": Collection(
        "openclipart-png",
        "public domain (Creative Commons dedication)",
        "usr/share/openclipart/png",
        drop="(?i)flag|geography|icons/|buttons/|folders/|gradients|/led/",
    ),
    "portraits": _wesnoth("portraits", crops=6),
    "stories": _wesnoth("story", crops=20),
    "units": _wesnoth("units", drop=FRAMES),
    "terrain": _wesnoth("terrain", share=0.35),
    "city": Collection("lincity-ng-data", "GPL-2+", "usr/share/games/lincity-ng/images/tiles"),
    "voxels": Collection(
        "minetest-data", "CC-BY-SA-3.0, CC-BY-SA-4.0, CC-BY-3.0, CC0-1.0", keep="textures/", smallest=16
    ),
    "twemoji": _icons("twemoji", "CC-BY-4.0", VARIANTS),
    "noto": _icons("noto", "Apache-2.0", VARIANTS),
    "fxemoji": _icons("fxemoji", "Apache-2.0", VARIANTS),
    "emojione": _icons("emojione-v1", "CC-BY-SA-4.0", VARIANTS),
    "flat-icons": _icons("flat-color-icons", "MIT"),
    "freehand": _icons("streamline-freehand-color", "CC-BY-4.0"),
    "weather": _icons("meteocons", "MIT"),
    "silhouettes": _icons("game-icons", "CC-BY-3.0", share=0.25),
    # Held out: other kinds, by other people.
    "scenes": Collection(
        "scratch", "CC-BY-SA-3.0", "usr/share/scratch/Media/Backgrounds", crops=12, held_out=True, classes=_first
    ),
    "materials": Collection(
        "openarena-081-textures",
        "GPL-2+",
        keep=r"^textures/(base|cosmo|evil|gothic)",
        drop=rf"{RUBBISH}|fx|flare|light|trim|door",
        crops=2,
        smallest=64,
        reads="zips",
        held_out=True,
        classes=_family,
    ),
    "flags": Collection("kgeography-data", "GPL-2+", "usr/share/kgeography/flags", drop="", held_out=True),
    "skycultures": Collection(
        "stellarium-data",
        "CC-BY-SA-4.0, CC-BY-SA-3.0, Free Art License, GPL-2 (each one's info.ini)",
        f"{STELLARIUM}/skycultures",
        keep=f"^({FREE_CULTURES})/",
        drop="",
        crops=2,
        held_out=True,
    ),
    "colony": Collection(
        "freecol",
        "GPL-2+, CC-BY-SA-3.0, public domain",
        "usr/share/games/freecol/default/resources/images",
        drop=rf"{RUBBISH}|^(ui|misc|river|forest|terrain|mercenaries)/|mask",
        smallest=32,
        held_out=True,
        classes=_first,
    ),
}
