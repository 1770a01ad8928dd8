"""Contract tests for retrievers, readers and embedders, also of a user's own.

    pytest --pyargs retro_lab.testing --retriever=my_file:MyRetriever

Also `--reader=` and `--embedder=`; `--setting=name=value` gives the class a setting.
"""

import pytest

pytest.register_assert_rewrite("retro_lab.testing.contracts")
