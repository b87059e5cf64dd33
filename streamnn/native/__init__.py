"""The native engine: torch traces the step, C runs it."""

from streamnn.native.build import CompilerError
from streamnn.native.engine import NativeEngine
from streamnn.native.lower import UnsupportedOperator

__all__ = ["CompilerError", "NativeEngine", "UnsupportedOperator"]
