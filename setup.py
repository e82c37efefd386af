"""Adds the compiled core to a wheel where TIERSTREAM_BUILD is `compiled`, as scripts/release and cibuildwheel ask for it.
All else is in pyproject.toml.
"""

import os
import sys
from pathlib import Path

from setuptools import setup

if os.environ.get("TIERSTREAM_BUILD") == "compiled":
    sys.path.insert(0, str(Path(__file__).parent))
    from mypyc.build import mypycify
    from setuptools.command.build_ext import build_ext

    from models import _compiled

    class BuildCompiled(build_ext):
        """Puts the compiled modules where models._compiled looks for them: apart from the sources, which stay usable."""

        def get_ext_fullpath(self, ext_name: str) -> str:
            """The path of a compiled module in the wheel."""
            return str(
                Path(
                    self.build_lib, "models", _compiled.PACKED, _compiled.folder().name, self.get_ext_filename(ext_name)
                )
            )

    sources = [str(path.relative_to(_compiled.ROOT)) for path in _compiled.sources()]
    setup(ext_modules=mypycify(sources), cmdclass={"build_ext": BuildCompiled})
else:
    setup()
