__all__ = ["UserError"]


class UserError(ValueError):
    "A mistake in what the user gave: one line that names it and says what would be right."
