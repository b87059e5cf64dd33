"""What may import what: deploy -> pipeline -> {connectors, streamnn}; connectors and streamnn never meet."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("connectors", "streamnn", "pipeline", "deploy")
ALLOWED = {
    "connectors": {"connectors"},
    "streamnn": {"streamnn"},
    "pipeline": {"pipeline", "connectors", "streamnn"},
    "deploy": set(PACKAGES),
}
KAFKA_CLIENTS = {"kafka", "confluent_kafka"}


def modules(package):
    """The source files of a package."""
    return sorted((ROOT / package).rglob("*.py"))


def imports(path):
    """Top-level names of everything that a file imports, with whether each import stands in a function."""
    tree = ast.parse(path.read_text())
    inside = {
        id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], id(node) in inside
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], id(node) in inside


@pytest.mark.parametrize("package", PACKAGES)
def test_dependency_direction(package):
    """A package imports only what lies below it."""
    files = modules(package)
    assert files
    for path in files:
        for name, _ in imports(path):
            assert name not in PACKAGES or name in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


def test_torch_stays_out_of_connectors_and_kafka_inside():
    """Connectors know no tensors, and only they know a Kafka client."""
    for path in modules("connectors"):
        assert "torch" not in {name for name, _ in imports(path)}, path
    for package in ("streamnn", "pipeline"):
        for path in modules(package):
            assert not {name for name, _ in imports(path)} & KAFKA_CLIENTS, path


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_never_import_themselves_inside_functions(package):
    """No import inside a function hides a cycle."""
    for path in modules(package):
        for name, inside in imports(path):
            assert not (inside and name in PACKAGES), f"{path.relative_to(ROOT)} imports {name} inside a function"


def test_nothing_pickles():
    """State never passes through pickle."""
    for package in PACKAGES:
        for path in modules(package):
            assert not {name for name, _ in imports(path)} & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}, path


def test_every_package_is_listed_for_the_build():
    """pyproject.toml lists every folder that holds importable files."""
    text = (ROOT / "pyproject.toml").read_text()
    for package in PACKAGES:
        for folder in {path.parent for path in modules(package)}:
            if (folder / "__init__.py").exists():
                assert f'"{".".join(folder.relative_to(ROOT).parts)}"' in text, folder
