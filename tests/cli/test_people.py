"""`promptroute annotate` and `promptroute agreement`: what they refuse before they start."""

from pathlib import Path

import pytest

from promptroute.cli.main import main

RATINGS = "a,b,rater,v\nx y,z,ann,1\nx,y z,ann,2\nx y,z,bob,1\nx,y z,bob,2\n"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    shown = capsys.readouterr()
    return done.value.code, shown.out + shown.err


@pytest.mark.parametrize(
    "options",
    [
        ("--export", "a.json", "--scores", "b"),
        ("--static", "a", "--export", "b"),
        ("--import", "a", "--static", "b"),
        ("--label-studio",),
        ("--seed", "-1"),
    ],
)
def test_options_that_go_apart(capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    """One of them would silently do nothing."""
    status, text = said(capsys, "annotate", *options)
    assert status == 2 and "Error: " in text


class TestAgreement:
    def test_units_of_several_columns(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """`x y`, `z` is another unit than `x`, `y z`."""
        (tmp_path / "r.csv").write_text(RATINGS)
        status, text = said(
            capsys,
            "agreement",
            str(tmp_path / "r.csv"),
            *["-u", "a", "-u", "b", "-v", "v", "--resamples", "9"],
        )
        assert status == 0 and text.startswith("4 ratings of 2 units by 2 raters")

    def test_nobody_to_agree_with(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "r.csv").write_text("".join(RATINGS.splitlines(keepends=True)[:3]))
        status, text = said(capsys, "agreement", str(tmp_path / "r.csv"), "-u", "a", "-u", "b", "-v", "v")
        assert status == 1 and "no unit was rated twice" in text and text.count("\n") == 1

    def test_folder(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        status, text = said(capsys, "agreement", str(tmp_path), "-u", "a", "-v", "v")
        assert status == 1 and f"{tmp_path}: is a folder, where a file is expected" in text
