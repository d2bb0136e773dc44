# Installs into a staging folder and builds tests/cpp there as any other project would.
include(ExternalProject)
set(_stage "${CMAKE_BINARY_DIR}/stage")
add_custom_target(
  etwgpu_stage
  COMMAND ${CMAKE_COMMAND} --install "${CMAKE_BINARY_DIR}" --prefix "${_stage}"
  DEPENDS executorch_backend_wgpu)
ExternalProject_Add(
  etwgpu_tests
  SOURCE_DIR "${PROJECT_SOURCE_DIR}/tests/cpp"
  BINARY_DIR "${CMAKE_BINARY_DIR}/tests"
  CMAKE_ARGS "-DCMAKE_BUILD_TYPE=${CMAKE_BUILD_TYPE}" "-Dexecutorch_DIR=${executorch_DIR}"
             "-Dexecutorch_wgpu_DIR=${_stage}/lib/cmake/executorch_wgpu"
  DEPENDS etwgpu_stage
  BUILD_ALWAYS ON
  INSTALL_COMMAND "")
