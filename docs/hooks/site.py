"""MkDocs hook: adds the pages of `reference/` that are made from the code, at build time."""

from __future__ import annotations

import commands_page
import configuration_page
import formats_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "reference/configuration.md": configuration_page.page,
    "reference/commands.md": commands_page.page,
    "reference/formats.md": formats_page.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to the site."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
