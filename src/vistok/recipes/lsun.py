"""The paper's three LSUN sets at 256x256 (CRT, arXiv 2412.16326, section 3.6 and Table 1c): one class each.

The recipes are ImageNet's on other images: a folder of each set's images, as LSUN's own export script writes it
with --flat (without it sub-folders would count as classes). A tenth each is held out as val and as test.
Generators: imagenet256_ar_111m, _343m and _775m on these tokenizers' tokens. The paper's main score here is a Frechet
distance in CLIP's space, which vistok does not have; the second figure of each pair is Inception's. Nobody has measured
these recipes yet.
"""

from vistok.data.config import DataConfig
from vistok.recipes.imagenet import imagenet256_crt, imagenet256_vq
from vistok.runs.config import TokenizerRun


def _images(name: str) -> DataConfig:
    return DataConfig(
        dataset="folder", root=f"lsun/{name}", image_size=256, channels=3, crop_scale=0.8, horizontal_flip=True
    )


def lsun256_cats_vq() -> TokenizerRun:
    """Train a tokenizer of LSUN cats (1.66 M images) without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_cats_vq --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 1.35. Generators, without / with the regularizer:
    CLIP-gFID 8.14 / 7.22 at 111M, 7.37 / 6.77 at 343M, 6.72 / 6.74 at 775M; gFID 5.77 / 5.32, 5.21 / 4.98, 5.31
    / 5.32 (Table 1c; a tie at 775M).
    """
    return imagenet256_vq().replace(data=_images("cat"))


def lsun256_cats_crt() -> TokenizerRun:
    """Train a tokenizer of LSUN cats (1.66 M images) with the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_cats_crt --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 1.48. Generators, without / with the regularizer:
    CLIP-gFID 8.14 / 7.22 at 111M, 7.37 / 6.77 at 343M, 6.72 / 6.74 at 775M; gFID 5.77 / 5.32, 5.21 / 4.98, 5.31
    / 5.32 (Table 1c; a tie at 775M).
    """
    return imagenet256_crt().replace(data=_images("cat"))


def lsun256_horses_vq() -> TokenizerRun:
    """Train a tokenizer of LSUN horses (2.0 M images) without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_horses_vq --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 1.65. Generators, without / with the regularizer:
    CLIP-gFID 5.56 / 5.20 at 111M, 5.09 / 4.63 at 343M, 4.92 / 4.05 at 775M; gFID 3.19 / 2.65, 3.00 / 2.62, 2.56
    / 2.76 (Table 1c).
    """
    return imagenet256_vq().replace(data=_images("horse"))


def lsun256_horses_crt() -> TokenizerRun:
    """Train a tokenizer of LSUN horses (2.0 M images) with the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_horses_crt --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 1.83. Generators, without / with the regularizer:
    CLIP-gFID 5.56 / 5.20 at 111M, 5.09 / 4.63 at 343M, 4.92 / 4.05 at 775M; gFID 3.19 / 2.65, 3.00 / 2.62, 2.56
    / 2.76 (Table 1c).
    """
    return imagenet256_crt().replace(data=_images("horse"))


def lsun256_bedrooms_vq() -> TokenizerRun:
    """Train a tokenizer of LSUN bedrooms (3.02 M images) without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_bedrooms_vq --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 0.99. Generators, without / with the regularizer:
    CLIP-gFID 9.81 / 9.06 at 111M, 9.61 / 8.56 at 343M, 9.50 / 8.50 at 775M; gFID 2.57 / 2.37, 2.51 / 2.08, 2.53
    / 2.22 (Table 1c).
    """
    return imagenet256_vq().replace(data=_images("bedroom"))


def lsun256_bedrooms_crt() -> TokenizerRun:
    """Train a tokenizer of LSUN bedrooms (3.02 M images) with the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_bedrooms_crt --data FOLDER

    Hardware: 8 A100 of 80 GB; hours: about 72. Expect rFID 1.39. Generators, without / with the regularizer:
    CLIP-gFID 9.81 / 9.06 at 111M, 9.61 / 8.56 at 343M, 9.50 / 8.50 at 775M; gFID 2.57 / 2.37, 2.51 / 2.08, 2.53
    / 2.22 (Table 1c).
    """
    return imagenet256_crt().replace(data=_images("bedroom"))
