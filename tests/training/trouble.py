"""A model that runs into trouble while it trains."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children

from retro_lab.nn import Retro


class Trouble(Retro):
    """A stop signal in the middle of training batch `after`, counted from 1."""

    number = signal.SIGINT
    after = 0
    seen = 0

    def token_nats(self, *args, **kwargs):
        if self.training:
            self.seen += 1
            if self.seen == self.after:
                self.trouble()
        return super().token_nats(*args, **kwargs)

    def trouble(self):
        """Terminals and clusters send it to loading processes as well."""
        for process in [os.getpid(), *(child.pid for child in active_children())]:
            os.kill(process, self.number)
