"""`python -m tests.bad_inputs`: write docs/bad_inputs.md."""

from tests.bad_inputs.document import PATH, render

if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
    print(f"{PATH.name}: written")
