# Finds the ExecuTorch wheel: through executorch_DIR or CMAKE_PREFIX_PATH when given, else in the current Python.
if(NOT executorch_DIR)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  set(_code "import importlib.util as u; s = u.find_spec('executorch'); print(s.submodule_search_locations[0] if s else '')")
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c "${_code}"
    OUTPUT_VARIABLE _root
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(APPEND CMAKE_PREFIX_PATH "${_root}")
endif()
find_package(executorch ${ETWGPU_EXECUTORCH_VERSION} EXACT QUIET CONFIG)
if(NOT executorch_FOUND)
  message(
    FATAL_ERROR
      "ExecuTorch ${ETWGPU_EXECUTORCH_VERSION} not found (considered: ${executorch_CONSIDERED_CONFIGS} "
      "${executorch_CONSIDERED_VERSIONS}). Run `pip install executorch==${ETWGPU_EXECUTORCH_VERSION}` in the Python "
      "that CMake finds, or pass -DCMAKE_PREFIX_PATH=<site-packages>/executorch.")
endif()
