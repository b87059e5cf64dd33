"""The pool's parts once more, slow and plain, in NumPy: what runs without a compiler, and what the C is tested against.

Each takes the arguments of the part of the same name and changes the same state.
"""
