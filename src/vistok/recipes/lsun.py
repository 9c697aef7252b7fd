"""The paper's three LSUN data sets at 256x256 pixels, one class each (CRT, arXiv 2412.16326, section 3.6 and Table 1c).

These are the ImageNet recipes on other images: pass a folder with the images of one data set, as written by LSUN's export
script with --flat (without it, sub-folders would count as classes). A tenth of the images is held out as val, another tenth
as test. The generators are imagenet256_ar_111m, _343m and _775m, trained on these tokenizers' tokens. The paper's main score
here is CLIP-gFID, a Frechet distance between CLIP features, which vistok does not offer; gFID uses Inception's. Nobody has
yet run these recipes in full.
"""

from vistok.data.config import DataConfig
from vistok.recipes.imagenet import imagenet256_crt, imagenet256_vq
from vistok.runs.config import TokenizerRun


def _images(name: str) -> DataConfig:
    return DataConfig(
        dataset="folder", root=f"lsun/{name}", image_size=256, channels=3, crop_scale=0.8, horizontal_flip=True
    )


def lsun256_cats_vq() -> TokenizerRun:
    """Train the paper's baseline tokenizer for LSUN cats (1.66 M images), without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_cats_vq --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.35. Generators trained on tokens without / with
    the regularizer reach (Table 1c; a tie at 775M):

    - 111M: CLIP-gFID 8.14 / 7.22, gFID 5.77 / 5.32
    - 343M: CLIP-gFID 7.37 / 6.77, gFID 5.21 / 4.98
    - 775M: CLIP-gFID 6.72 / 6.74, gFID 5.31 / 5.32
    """
    return imagenet256_vq().replace(data=_images("cat"))


def lsun256_cats_crt() -> TokenizerRun:
    """Train the paper's regularized tokenizer for LSUN cats (1.66 M images).

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_cats_crt --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.48. Generators trained on tokens without / with
    the regularizer reach (Table 1c; a tie at 775M):

    - 111M: CLIP-gFID 8.14 / 7.22, gFID 5.77 / 5.32
    - 343M: CLIP-gFID 7.37 / 6.77, gFID 5.21 / 4.98
    - 775M: CLIP-gFID 6.72 / 6.74, gFID 5.31 / 5.32
    """
    return imagenet256_crt().replace(data=_images("cat"))


def lsun256_horses_vq() -> TokenizerRun:
    """Train the paper's baseline tokenizer for LSUN horses (2.0 M images), without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_horses_vq --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.65. Generators trained on tokens without / with
    the regularizer reach (Table 1c):

    - 111M: CLIP-gFID 5.56 / 5.20, gFID 3.19 / 2.65
    - 343M: CLIP-gFID 5.09 / 4.63, gFID 3.00 / 2.62
    - 775M: CLIP-gFID 4.92 / 4.05, gFID 2.56 / 2.76
    """
    return imagenet256_vq().replace(data=_images("horse"))


def lsun256_horses_crt() -> TokenizerRun:
    """Train the paper's regularized tokenizer for LSUN horses (2.0 M images).

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_horses_crt --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.83. Generators trained on tokens without / with
    the regularizer reach (Table 1c):

    - 111M: CLIP-gFID 5.56 / 5.20, gFID 3.19 / 2.65
    - 343M: CLIP-gFID 5.09 / 4.63, gFID 3.00 / 2.62
    - 775M: CLIP-gFID 4.92 / 4.05, gFID 2.56 / 2.76
    """
    return imagenet256_crt().replace(data=_images("horse"))


def lsun256_bedrooms_vq() -> TokenizerRun:
    """Train the paper's baseline tokenizer for LSUN bedrooms (3.02 M images), without the regularizer.

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_bedrooms_vq --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 0.99. Generators trained on tokens without / with
    the regularizer reach (Table 1c):

    - 111M: CLIP-gFID 9.81 / 9.06, gFID 2.57 / 2.37
    - 343M: CLIP-gFID 9.61 / 8.56, gFID 2.51 / 2.08
    - 775M: CLIP-gFID 9.50 / 8.50, gFID 2.53 / 2.22
    """
    return imagenet256_vq().replace(data=_images("bedroom"))


def lsun256_bedrooms_crt() -> TokenizerRun:
    """Train the paper's regularized tokenizer for LSUN bedrooms (3.02 M images).

    torchrun --nproc-per-node 8 -m vistok train tokenizer lsun256_bedrooms_crt --data FOLDER

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.39. Generators trained on tokens without / with
    the regularizer reach (Table 1c):

    - 111M: CLIP-gFID 9.81 / 9.06, gFID 2.57 / 2.37
    - 343M: CLIP-gFID 9.61 / 8.56, gFID 2.51 / 2.08
    - 775M: CLIP-gFID 9.50 / 8.50, gFID 2.53 / 2.22
    """
    return imagenet256_crt().replace(data=_images("bedroom"))
