"""How much one person, and all of them together, may ask of a server."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused beyond, each in one line that names it."""

    picture_bytes: int = 20 * 2**20  # of an uploaded picture
    picture_pixels: int = 50_000_000
    made_bytes: int = 64 * 2**20  # of a file whose settings are to be read
    pictures: int = 4  # of one person
    letters: int = 1000  # of a prompt
    steps: int = 100
    waiting: int = 20  # jobs of all people
    waiting_of_one: int = 3
    kept_of_one: int = 30  # jobs that are shown to one person; older ones go
    owners: int = 1000  # people whose files are kept at the same time
    kept_bytes: int = 4 * 2**30  # of all pictures together
    at_once: int = 2  # uploads that are looked at side by side
    uploads_inside: int = 8  # that are sent or looked at
    uploads_waiting: int = 100  # for that
    upload_seconds: float = 60.0  # that sending one may take
    keep_seconds: float = 3600.0  # after which a person's files are removed

    @property
    def kept_for(self) -> str:
        """The time after which files are removed, for people."""
        minutes = round(self.keep_seconds / 60)
        hours = minutes / 60
        return f"{minutes} minutes" if minutes < 120 else f"{hours:g} hours" if hours < 48 else f"{hours / 24:.0f} days"
