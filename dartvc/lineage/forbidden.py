"""What code may not mention if its calls are to be answered from the store: clocks, entropy, identities, the world outside.

What can be seen happening at run time (files opened, sockets, the kernel's entropy) is judged there, by `dartvc.lineage.witness`; here stands
what CPython gives no sign of.
"""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Collection, Iterable

__all__ = ["forbidden_attribute", "forbidden_definition", "forbidden_in_runs", "forbidden_names"]

_MODULES = {
    **dict.fromkeys(("time", "sched", "timeit"), "reads the clock"),
    **dict.fromkeys(("secrets", "uuid"), "draws entropy"),
    **dict.fromkeys(
        ("socket", "ssl", "urllib", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "websockets"), "uses the network"
    ),
    **dict.fromkeys(("threading", "_thread", "multiprocessing", "asyncio", "dask", "ray", "queue"), "starts threads or processes"),
    **dict.fromkeys(("concurrent", "joblib"), "computes in parallel"),
    **dict.fromkeys(
        ("subprocess", "pty", "signal", "ctypes", "cffi", "mmap", "fcntl", "psutil", "resource"), "reaches outside the process"
    ),
    **dict.fromkeys(("gc", "weakref", "inspect", "tracemalloc", "linecache", "traceback", "faulthandler"), "looks at the interpreter"),
    **dict.fromkeys(("importlib", "runpy", "pkgutil", "imp"), "imports by name"),
    **dict.fromkeys(("glob", "shutil", "tempfile", "sqlite3", "shelve", "dbm"), "looks at the file system"),
    **dict.fromkeys(
        ("h5py", "tables", "netCDF4", "zarr", "polars", "pyarrow", "duckdb", "safetensors", "cv2", "rasterio", "soundfile"), "opens files past Python"
    ),
    **dict.fromkeys(("matplotlib", "seaborn", "IPython", "ipywidgets"), "draws or shows something"),
    **dict.fromkeys(("numexpr", "patsy", "formulaic", "statsmodels.formula"), "looks names up that stand in texts"),
    "logging": "logs",
    "atexit": "registers functions for the end",
    "dartvc": "talks to dartvc",
}
_BUILTINS = {
    "id": "uses id()",
    "input": "reads the terminal",
    "eval": "runs code that cannot be read",
    "exec": "runs code that cannot be read",
    "compile": "runs code that cannot be read",
    "globals": "looks at its globals as a whole",
    "__import__": "imports by name",
    "breakpoint": "stops for a debugger",
    "memoryview": "works on raw memory",
}
_ATTRIBUTES = {
    **dict.fromkeys(
        ("now", "today", "utcnow", "perf_counter", "perf_counter_ns", "monotonic", "process_time", "time_ns"), "reads the clock"
    ),
    **dict.fromkeys(("SystemRandom", "urandom", "getrandom", "uuid1", "uuid4", "token_hex", "token_bytes"), "draws entropy"),
    **dict.fromkeys(
        (
            "exists", "is_file", "is_dir", "isfile", "isdir", "lexists", "stat", "lstat", "getmtime", "getsize", "getctime",
            "iterdir", "rglob", "scandir", "listdir", "access", "islink", "is_symlink", "is_mount", "ismount", "getatime", "samefile", "readlink", "statvfs",
        ),
        "looks at the file system",
    ),
    **dict.fromkeys(
        (
            "read_parquet", "read_feather", "read_orc", "read_hdf", "read_sql", "read_table", "scan_csv", "scan_parquet", "imread", "memmap",
            "open_dataset", "load_dataset", "read_image", "load_model", "load_file", "from_pretrained",
        ),
        "reads files past Python",
    ),
    **dict.fromkeys(
        (
            "to_parquet", "to_feather", "to_orc", "to_hdf", "to_sql", "to_netcdf", "to_zarr", "write_parquet", "write_ipc", "write_table", "sink_csv",
            "sink_parquet", "imwrite", "save_model", "save_file", "save_pretrained",
        ),
        "writes files past Python",
    ),
    **dict.fromkeys(("environ", "getenv", "getenvb", "environb", "expandvars", "expanduser"), "reads the environment"),
    **dict.fromkeys(("getpid", "getppid", "cpu_count", "getloadavg", "sched_getaffinity"), "asks for the machine"),
    **dict.fromkeys(
        ("stdin", "_getframe", "f_back", "tb_frame", "f_locals", "f_globals", "__globals__", "__subclasses__", "addaudithook", "register_at_fork"),
        "looks at the interpreter",
    ),
    **dict.fromkeys(("mkfifo", "mknod", "fileno", "putenv", "system", "popen", "fork"), "reaches outside the process"),
    **dict.fromkeys(("data_ptr", "__array_interface__", "ctypes", "cuda"), "works on raw memory"),
    **dict.fromkeys(("argv", "orig_argv"), "reads the command line"),
    **dict.fromkeys(("plot", "hist", "boxplot", "savefig"), "draws or shows something"),
}
_QUALIFIED = {
    "posix.times": "reads the clock",
    **dict.fromkeys(("logging.LogRecord", "logging.makeLogRecord"), "logs with the time of the day"),
    "sys.modules": "imports by name",
    "sys.path": "decides where modules are found",
    **dict.fromkeys(("sys.exc_info", "sys.exception"), "looks at the exception that is handled"),
}
"""What has a name that says nothing by itself."""

_IN_RUNS = {
    "logging": "logs with the time of the day",
    **dict.fromkeys(("get_state", "getstate", "set_state", "setstate", "_rand", "_inst"), "takes a random stream aside"),
    **dict.fromkeys(("FileType", "fileinput"), "may read the terminal"),
    **dict.fromkeys(("cProfile", "profile", "formatdate", "localtime", "email.utils"), "reads the clock"),
    **dict.fromkeys(("loadtxt", "genfromtxt"), "looks whether files are there"),
    **dict.fromkeys(
        ("jit", "from_file", "DMatrix", "get_data", "xgboost", "lightgbm", "catboost", "lxml", "lxml.etree"), "may open files past Python"
    ),
}
_NOW = frozenset({"now", "today"})
"""What pandas and numpy take for the present time."""
_WITH_SETTINGS = frozenset({"numpy", "scipy", "pandas", "sklearn", "torch", "xgboost", "lightgbm", "polars", "pyarrow"})
_OF_CLOCKS = _NOW | frozenset({"fit_time", "score_time", "mean_fit_time", "mean_score_time", "refit_time_"})
_NOTHING: Collection[str] = ()
_SETTING_UP = re.compile(r"(set|register|unregister|install|uninstall|configure|disable|activate|deactivate)_[a-z]|umask\Z")
_SETTERS = frozenset(
    {
        "setfirstweekday", "setbufsize", "seterr", "seterrcall", "setlocale", "setrecursionlimit", "setswitchinterval", "setdefaulttimeout", "settrace",
        "setprofile", "setcontext",
    }
)  # fmt: skip
_DEFINITIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType, types.MethodWrapperType, type)


def _of_module(name: str) -> str:
    return _MODULES.get(name.split(".")[0], "") or _MODULES.get(".".join(name.split(".")[:2]), "")


def forbidden_names(
    names: Iterable[str], attributes: Iterable[str], imports: Iterable[str], allowed: Collection[str] = _NOTHING, texts: Iterable[object] = _NOTHING
) -> str:
    """Returns why code that mentions these cannot be reused; an empty string when nothing speaks against it.

    Args:
        allowed: reasons that do not count.
        texts: the constants in it.
    """
    for text in texts:
        if isinstance(text, str) and text in _NOW:
            return f"may read the clock ({text!r})"
    for name in imports:
        if _of_module(name) and _of_module(name) not in allowed:
            return f"{_of_module(name)} ({name})"
    held = set(attributes)
    for name in sorted(held):
        if name in _ATTRIBUTES and _ATTRIBUTES[name] not in allowed:
            return f"{_ATTRIBUTES[name]} (.{name})"
    if "buffer" in held and held & {"stdout", "stderr"}:
        return "writes to the buffer of a stream"
    return next((f"{_BUILTINS[name]} ({name})" for name in names if name in ("__builtins__",)), "")


def forbidden_attribute(module: str, name: str) -> str:
    """Returns why an attribute of a module cannot be followed."""
    return f"reads {module}.{name}" if name in ("__dict__", "__builtins__") else _QUALIFIED.get(f"{module}.{name}", "")


def forbidden_definition(value: object, allowed: Collection[str] = _NOTHING) -> str:
    """Returns why code that refers to this definition cannot be reused.

    Args:
        allowed: reasons that do not count.
    """
    found = _reason_of(value)
    return found if not any(map(found.startswith, allowed)) else ""


def _reason_of(value: object) -> str:
    if isinstance(value, types.ModuleType):
        reason = _of_module(value.__name__)
        return f"{reason} ({value.__name__})" if reason else ""
    if type(value).__name__ == "_lru_cache_wrapper":
        return f"keeps results of its own ({vars(value).get('__name__', 'a cache')})"
    if not isinstance(value, _DEFINITIONS):
        return ""  # its attributes may be made by code of the program
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", "") or ""
    if module == "builtins" and name in _BUILTINS:
        return _BUILTINS[name]
    if isinstance(module, str) and _of_module(module):
        return f"{_of_module(module)} ({module}.{name})"
    last = name.rpartition(".")[2]
    if last in _ATTRIBUTES and isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return f"{_ATTRIBUTES[last]} ({name})"
    if isinstance(module, str) and (last in _SETTERS or _SETTING_UP.match(last)) and _is_librarys(module):
        return f"changes settings of a library ({module}.{name})"
    return _QUALIFIED.get(f"{module}.{name}", "")


def _is_librarys(module: str) -> bool:
    top = module.split(".")[0]
    return top in sys.stdlib_module_names or top in _WITH_SETTINGS


def forbidden_in_runs(tree: ast.AST, names: Iterable[str]) -> str:
    """Returns why a run whose code is this cannot be answered as a whole, beyond what speaks against its calls; empty: nothing.

    Args:
        names: the attributes and the modules that the code mentions.
    """
    found = next((reason for node in ast.walk(tree) if (reason := _reason_of_node(node))), "")
    return found or next((f"{_IN_RUNS[name]} ({name})" for name in names if name in _IN_RUNS), "")


def _reason_of_node(node: ast.AST) -> str:
    """Returns what speaks against answering a run whose code has such a node; empty: nothing."""
    if isinstance(node, ast.Constant):
        return f"may read the clock ({node.value!r})" if isinstance(node.value, str) and node.value in _OF_CLOCKS else ""
    if isinstance(node, ast.FunctionDef):
        return "does something when objects go (__del__)" if node.name == "__del__" else ""
    if not isinstance(node, ast.Call):
        return ""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(owner, ast.Name) and owner.id in ("os", "posix") and name in ("read", "write"):
        return f"uses a descriptor (os.{name})"
    given = [*node.args, *(each.value for each in node.keywords)]
    if name == "seed" and (not given or (isinstance(given[0], ast.Constant) and given[0].value is None)):
        return "seeds a stream with entropy"
    if any(each.arg == "verbose" and not (isinstance(each.value, ast.Constant) and not each.value.value) for each in node.keywords):
        return "may print how long it took (verbose)"
    return "lets a library print past Python" if any(each.arg in ("disp", "iprint") for each in node.keywords) else ""
