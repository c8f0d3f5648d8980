"""Judge the network on the test split: params `evaluation` → richhf/data/test.json."""

from promptroute.feedback.evaluation import evaluate
from promptroute.feedback.predictor import Predictor
from promptroute.feedback.richhf import ShardExamples
from promptroute.io.files import write_json
from promptroute.runtime.device import pick_device
from promptroute.runtime.stage import run_stage
from richhf.settings import DATA, NETWORK, SHARDS, load_params


def main() -> str:
    params = load_params()
    predictor = Predictor(NETWORK, pick_device(params["compute"]["device"], params["compute"]["threads"]))
    examples = ShardExamples(SHARDS / "test", "test", predictor.tokens, predictor.network.settings)
    settings = params["evaluation"]
    judged = evaluate(
        predictor.network,
        examples,
        predictor.tokens,
        settings["batch"],
        predictor.threshold,
        settings["original"],
    )
    write_json(DATA / "test.json", judged.figures)
    return f"{DATA / 'test.json'}: {len(examples)} images judged"


if __name__ == "__main__":
    run_stage(main, __doc__)
