"""What eight-bit weights do to samples: gFMD of the Fashion-MNIST generator of `speculative.py`, full weights and rounded."""

import tempfile
from pathlib import Path

from common import arguments, entry, save
from speculative import copy_without_scores, target_of

from vistok.engine.log import Progress
from vistok.runs.load import load_generator, load_tokenizer_of
from vistok.runs.run_images import data_of
from vistok.scoring.evaluate_generator import Against, Drawing, evaluate_generator, load_stage2
from vistok.scoring.evaluators import choose_evaluator


def main() -> None:
    options = arguments(
        __doc__, run={"type": Path, "default": None}, count={"type": int, "default": 10_000},
        runs={"type": Path, "default": Path("runs/speculative")},
    )  # fmt: skip
    trained = options.run or target_of(options.runs)
    generator = load_generator(trained)
    extractor = choose_evaluator(data_of(load_tokenizer_of(generator)), None, None, generator.info.class_names)
    progress, scores = Progress(), {}
    with tempfile.TemporaryDirectory() as folder, progress.live():
        run = copy_without_scores(trained, Path(folder))
        for int8 in (False, True):
            stage2 = load_stage2(run)
            drawing = Drawing(stage2.sampling(int8=int8), options.count)
            found = evaluate_generator(stage2, Against((extractor,)), drawing, progress)
            scores[int8] = found["gfmd"]
    results = [
        entry("gFMD, int8 weights against full", scores[True]["value"], scores[False]["value"], "gFMD",
              interval=[scores[True][k] for k in ("low", "high")], full_interval=[scores[False][k] for k in ("low", "high")])
    ]  # fmt: skip
    note = "95 % intervals: " + ", ".join(
        f"{name} {scores[i]['low']:.3f} to {scores[i]['high']:.3f}" for name, i in (("full", False), ("int8", True))
    )
    save("int8", results, "Effect of eight-bit weights", note)


if __name__ == "__main__":
    main()
