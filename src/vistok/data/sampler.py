"""An endless shuffled stream of image indices that can start at any position."""

import numpy as np

from vistok.rng import numpy_generator


class ShuffledStream:
    """Position -> image index. Each pass is a permutation determined by (seed, pass number).

    The position is the whole state: step s of batch B covers positions s*B ... (s+1)*B - 1, whatever
    the number of processes or workers.
    """

    def __init__(self, num_images: int, seed: int) -> None:
        if num_images < 1:
            raise ValueError("a stream needs at least one image")
        self.num_images = num_images
        self.seed = seed
        self._pass = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def __getitem__(self, position: int) -> int:
        number, offset = divmod(position, self.num_images)
        if number != self._pass:
            self._permutation = numpy_generator(self.seed, "shuffle", number).permutation(self.num_images)
            self._pass = number
        return int(self._permutation[offset])
