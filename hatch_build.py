"""Compiling the hot path: with POINTSMAN_COMPILE=1, a wheel's data plane is built by mypyc into extension modules.

The same files, the same types, no other source: what mypyc cannot compile is left as Python. Without the variable the
wheel is pure Python. Needs a C compiler and Python's headers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup
out, *modules = sys.argv[1:]
flags = ["--ignore-missing-imports", "--allow-untyped-calls"]
setup(name="compiled", ext_modules=mypycify([*flags, *modules]), script_args=["-q", "build_ext", "--build-lib", out])
"""


class CompileHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    PLUGIN_NAME = "custom"

    def _wanted(self) -> bool:
        return os.environ.get("POINTSMAN_COMPILE") == "1"

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling: the compiler, and what the modules import, for its types."""
        return [*self.config["requires"], *self.metadata.core.dependencies] if self._wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._wanted() or version == "editable":
            return
        modules: list[str] = self.config["modules"]
        packages: list[str] = self.build_config.packages
        scratch = Path(tempfile.mkdtemp(prefix="pointsman-build-"))
        out = scratch / "out"
        try:
            # Away from the checkout, so that nothing is left in it and setuptools reads no pyproject.toml.
            for package in packages:
                shutil.copytree(Path(self.root) / package, scratch / package, ignore=shutil.ignore_patterns("*.so"))
            subprocess.run([sys.executable, "-c", BUILD, str(out), *modules], cwd=scratch, check=True)
            kept = Path(self.directory) / ".compiled"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(out, kept)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        for extension in kept.rglob("*.so"):
            build_data["force_include"][str(extension)] = str(extension.relative_to(kept))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(Path(self.directory) / ".compiled", ignore_errors=True)
