"""The stages of an arm of the demo, and how long each takes beside the others."""

TRAIN_TOKENIZER = "train tokenizer"
CACHE = "cache tokens"
SCORE_TOKENIZER = "score tokenizer"
TRAIN_GENERATOR = "train generator"
LIKELIHOOD = "likelihood"
SCORE = "sample and score"
# A process tells of a stage that has ended in a line that begins so.
STAGE = "stage: "
# Seconds of one thread, in the short and the full demo.
WEIGHTS = {TRAIN_TOKENIZER: 300, CACHE: 15, SCORE_TOKENIZER: 20, TRAIN_GENERATOR: 30, LIKELIHOOD: 5, SCORE: 35}
