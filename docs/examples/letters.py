"""An embedder of one's own: how often each letter, folded into `dim` places, is in the text."""

from dataclasses import dataclass

import numpy as np

from retro_lab.config.schema.setting import setting
from retro_lab.retrieval.embed.embedders import Embedder


@dataclass
class Settings:
    dim: int = setting(32, at_least=1)


class Letters(Embedder):
    def __init__(self, config: Settings):
        self.dim = config.dim

    def embed(self, texts):
        found = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            np.add.at(found[row], [ord(letter) % self.dim for letter in text.lower()], 1)
            found[row] /= max(len(text), 1)
        return found
