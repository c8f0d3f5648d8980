"""Training on RichHF-18K: a DVC project of its own, `dvc --cd richhf repro`; see docs/feedback.md."""
