"""The native engine: torch traces the step, C runs it."""

from streamnn.native.arrays import UnsupportedOperatorError
from streamnn.native.build import CompilerError
from streamnn.native.engine import NativeEngine

__all__ = ["CompilerError", "NativeEngine", "UnsupportedOperatorError"]
