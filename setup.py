"""Build of the compiled kernels: one library for all versions of Python.

They are a plain library that ctypes calls, which knows nothing of Python, so that a wheel is for a
platform and no version (``py3-none-PLATFORM``). Where there is no compiler, torch does their work.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = "src/relspace/kernels/compiled"
# Vectors need sums in any order and maxima that don't care about NaN, which features never hold.
FLAGS = {
    "unix": [
        "-O3",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fno-signed-zeros",
        "-fassociative-math",
        "-ffinite-math-only",
        "-ffp-contract=fast",
    ],
    "msvc": ["/O2", "/fp:fast", "/std:c11"],
}


class PlainLibrary(build_ext):
    """Build what ctypes loads: without Python's version in the name, and without its library."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext):
        # The functions export themselves; there is no PyInit to export.
        return ext.export_symbols

    def get_libraries(self, ext):
        return ext.libraries

    def build_extension(self, ext):
        ext.extra_compile_args = FLAGS["msvc" if self.compiler.compiler_type == "msvc" else "unix"]
        if self.compiler.compiler_type != "msvc":
            ext.libraries = ["m"]
        super().build_extension(ext)


class PlatformWheel(bdist_wheel):
    """A wheel for the platform and every version of Python."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "relspace.kernels.compiled._fused",
            sources=[f"{FOLDER}/fused.c", f"{FOLDER}/strips.c"],
            depends=[f"{FOLDER}/placing.h", f"{FOLDER}/powers.h"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": PlainLibrary, "bdist_wheel": PlatformWheel},
)
