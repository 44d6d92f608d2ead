import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seqrl_lightning"
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_imports_go_down_only() -> None:
    """The contract in pyproject.toml: rooms import from lower rooms, never from their neighbors."""
    # In a process of its own: it disables the loggers of this one, whose messages other tests read.
    command = [sys.executable, "-c", LINT_IMPORTS, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "2 kept, 0 broken" in result.stdout


LOOKS_UP_NAMES = {
    *("import_module", "__import__", "find_spec", "resolve_name", "import_object", "get_import_path", "load_module"),
    *("eval", "exec", "literal_eval", "compile_command", "run_path", "run_module", "load_env_creator"),
    *("make", "make_vec", "spec"),  # Gymnasium's
}
WHERE_NAMES_ARE_LOOKED_UP = {
    "__init__.py": {"import_module"},  # of this package's own parts
    "__main__.py": {"import_module"},  # of a command
    "env_ids.py": {"import_module", "spec"},  # a task's, as the guard lets it
    "trust.py": {"find_spec", "resolve_name"},
    "trusted_names.py": {"import_module"},  # of this package's rooms
    "envs/bare.py": {"make", "make_vec"},  # of what env_ids found
    "analysis/report.py": {"find_spec"},  # of a package that only an extra installs
    "callbacks/logger_runs.py": {"import_module"},  # of W&B or MLflow, which a logger of the config needs
    "behavior/model.py": {"import_module"},  # --models is the user's
    "envs/make.py": {"load_env_creator"},  # of a task that is registered, as Gymnasium loads it
    "running/defaults.py": {"resolve_name"},  # of a config that was parsed
    "commands/envs.py": {"make"},  # of a task of this package
    "commands/play.py": {"make", "spec"},
}


def _calls(path: Path) -> set[str]:
    """The functions that look up what a text names, of those that a file calls."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_gyms = isinstance(node.func.value, ast.Name) and node.func.value.id == "gym"
            found |= {node.func.attr} if is_gyms or node.func.attr not in ("make", "spec") else set()
    return found & LOOKS_UP_NAMES


def test_names_are_looked_up_in_few_places() -> None:
    """A text from a file becomes a task in one place, and a class in another one: ``env_ids.py`` and ``trust.py``."""
    found = {str(path.relative_to(PACKAGE)): _calls(path) for path in PACKAGE.rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls} == WHERE_NAMES_ARE_LOOKED_UP
