"""A reader of one's own: every verse of a text file, divided by empty lines, is a document."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from retro_lab.text.readers import Document, Reader


@dataclass
class Settings:
    path: str
    between: str = "\n\n"


class VerseReader(Reader):
    def __init__(self, config: Settings):
        self.config = config

    def documents(self, malformed):
        text = Path(self.config.path).read_text(encoding="utf-8")
        for number, verse in enumerate(text.split(self.config.between), start=1):
            yield Document(f"verse {number}", verse, f"{self.config.path}, verse {number}")

    def input_digest(self):
        return {"verses": hashlib.sha256(Path(self.config.path).read_bytes()).hexdigest()}
