"""What a pack that strangers install must not be able to do, looked for in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

MODULES = {
    *("subprocess", "pty", "multiprocessing", "ctypes", "cffi"),
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop", "runpy"),
    *("socket", "socketserver", "ftplib", "telnetlib", "smtplib", "xmlrpc", "urllib.request"),
}
"""Programs, code out of data, and ways to the network beside the one that checks its hosts."""

HARMLESS = {"socket.gaierror"}
"""An error to recognise."""

NAMES = {
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("os.system", "os.popen", "os.startfile", "os.fork", "os.forkpty"),
    *("torch.load", "torch.hub", "torch.jit.load", "torch.package", "numpy.memmap"),
    *("importlib.import_module", "importlib.reload", "tempfile.mktemp"),
}

FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn")

SWITCHES = {
    "shell": False,
    "verify": True,
    "allow_pickle": False,
    "trust_remote_code": False,
    "weights_only": True,
    "safe_load": True,
}
"""Arguments of any call, each with the only value that it may be given."""


def found_in(source: str) -> list[str]:
    """Every forbidden import, name and argument of ``source``, with its line."""
    tree = ast.parse(source)
    names = _meanings(tree)
    found = {(node.lineno, what) for node, what in _all(tree, names) if _is_forbidden(what)}
    found |= {(call.lineno, what) for call, what in _switches(tree)}
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _meanings(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: ``{"np": "numpy", "gaierror": "socket.gaierror"}``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                names[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _all(tree: ast.AST, names: dict[str, str]) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Every import, and every name that is read, as the whole of what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node, _dotted(node, names)


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        # A name of this file's own may be called like a builtin; then it should not be.
        return names.get(node.id, f"builtins.{node.id}")
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


def _is_forbidden(what: str) -> bool:
    if what in HARMLESS:
        return False
    return (
        what in NAMES
        or what.startswith(FAMILIES)
        or any(what == module or what.startswith(f"{module}.") for module in MODULES)
    )


def _switches(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            for given in call.keywords:
                allowed = SWITCHES.get(given.arg or "")
                value = given.value.value if isinstance(given.value, ast.Constant) else None
                if allowed is not None and value is not allowed:
                    yield call, f"{given.arg}={ast.unparse(given.value)}"
