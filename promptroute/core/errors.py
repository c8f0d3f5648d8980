"""What went wrong because of something that a person gave."""


class UserError(ValueError):
    """Something that a person gave us is wrong. The message names it, what was expected, and the fix."""
