"""The one error that a user sees."""


class Error(Exception):
    """Something the user can act on: one line that says where, what, and what was expected.

    ``hint`` is the remedy, shown in parentheses behind the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CommandError(Error):
    """A program that was run ended with a status other than 0."""

    def __init__(self, message: str, *, status: int, stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.stderr = stderr
