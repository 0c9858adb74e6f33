"""Why something is refused."""


class Refused(Exception):
    """The bytes break a rule of the format; the text says which."""


class CutOff(Refused):
    """The bytes end before what began in them does."""


class Untrusted(Refused):
    """The key is not one of those that are trusted; nothing is wrong with what it signed."""


class ContentRefused(Refused):
    """What is signed is whole, but the events within are not what they should be (8.2 rule 9)."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)
