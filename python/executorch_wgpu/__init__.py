"""ExecuTorch delegate that runs VulkanPartitioner programs on any GPU through wgpu.

Importing this package loads the delegate into ExecuTorch's runtime, where it registers as ``VulkanBackend`` (the name
that exported programs carry; leave it to another delegate with ``ETWGPU_AS_VULKAN=0``) and as ``WgpuBackend``. After
that ``executorch.runtime`` and ``executorch.extension.llm.runner`` work as they always do.
"""

import ctypes
import json
from importlib import metadata
from pathlib import Path

# ExecuTorch has no stable C++ ABI between releases, so this is the only one that works.
EXECUTORCH_VERSION = "1.5.1"

_HERE = Path(__file__).resolve().parent


def library_path() -> str:
    """Path of the shared library, for programs that load it themselves."""
    return str(_HERE / "lib" / "libexecutorch_backend_wgpu.so")


def cmake_prefix_path() -> str:
    """Directories for CMAKE_PREFIX_PATH, so that CMake finds the packages executorch and executorch_wgpu."""
    import executorch

    return ";".join([*map(str, executorch.__path__), str(_HERE)])


def adapter_info() -> dict:
    """What the delegate runs on: the adapter's name, driver, kind and chosen capabilities."""
    return json.loads(_library.etwgpu_adapter_info())


def is_available() -> bool:
    """Whether there is a GPU adapter to run on. ETWGPU_ADAPTER names one by a part of its name."""
    return bool(_library.etwgpu_is_available())


def set_option(key: str, value: object) -> None:
    """Sets a process-wide option; programs loaded later follow it."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    code = _library.etwgpu_set_option(key.encode(), text.encode())
    if code != 0:
        raise ValueError(f"option {key}={text} was refused with ExecuTorch error 0x{code:x}; the log above says why")


def get_option(key: str) -> str:
    """Value of a process-wide option as text."""
    value = _library.etwgpu_get_option(key.encode())
    if value is None:
        raise KeyError(key)
    return value.decode()


def loaded_bytes() -> int:
    """Bytes of weights that all loads of this process have read so far."""
    return _library.etwgpu_loaded_bytes()


def _check_executorch() -> None:
    """Refuses to load beside another ExecuTorch than the one this package was built for."""
    fix = f"run: pip install executorch=={EXECUTORCH_VERSION} torch"
    try:
        found = metadata.version("executorch")
    except metadata.PackageNotFoundError:
        raise ImportError(f"executorch_wgpu needs the package executorch; {fix}") from None
    if found.split("+")[0] != EXECUTORCH_VERSION:
        raise ImportError(f"executorch_wgpu works with executorch {EXECUTORCH_VERSION} only, found {found}; {fix}")


def _load() -> ctypes.PyDLL:
    """Loads the library into the runtime that Python uses: ours must find that one in memory, not start another."""
    _check_executorch()
    try:
        import torch  # noqa: F401  its libraries have to come before ExecuTorch's
        import executorch.extension.pybindings._C  # noqa: F401
    except ImportError as error:
        raise ImportError(f"executorch_wgpu cannot load ExecuTorch's runtime ({error}); "
                          f"run: pip install executorch=={EXECUTORCH_VERSION} torch") from error
    library = ctypes.PyDLL(library_path())  # keeps the interpreter during calls, as ExecuTorch does: log lines need it
    library.etwgpu_owns.argtypes = [ctypes.c_char_p]
    library.etwgpu_adapter_info.restype = ctypes.c_char_p
    library.etwgpu_set_option.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.etwgpu_get_option.argtypes = [ctypes.c_char_p]
    library.etwgpu_get_option.restype = ctypes.c_char_p
    library.etwgpu_loaded_bytes.restype = ctypes.c_uint64
    library.etwgpu_version.restype = ctypes.c_char_p
    library.etwgpu_executorch_version.restype = ctypes.c_char_p
    return library


_library = _load()
__version__ = _library.etwgpu_version().decode()
__all__ = ["EXECUTORCH_VERSION", "adapter_info", "cmake_prefix_path", "get_option", "is_available", "library_path",
           "loaded_bytes", "set_option"]
