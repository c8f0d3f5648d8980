"""Turn the public checkpoint of RAHF into a folder of safetensors: python -m richhf.convert CHECKPOINT FOLDER TOKENIZER.

CHECKPOINT is the torch file of github.com/youweiliang/RichHF, whose weights are under CC BY-NC 4.0: not for commercial use.
TOKENIZER is T5's tokenizer.json.
"""

from promptroute.feedback import convert
from promptroute.runtime.stage import run_stage


def main(checkpoint: str, folder: str, tokenizer: str) -> str:
    renamed = convert(checkpoint, folder, tokenizer=tokenizer)
    return f"{folder}: converted, {renamed} weights renamed (CC BY-NC 4.0: not for commercial use)"


if __name__ == "__main__":
    run_stage(main, __doc__, "CHECKPOINT", "FOLDER", "TOKENIZER")
