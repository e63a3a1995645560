"""Text that is safe to show: names and reasons may hold anything. Pure."""


def escaped(text: str) -> str:
    """Show a text on one line: what is not printable is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
