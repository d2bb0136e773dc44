# Installs the library, its header, the planner command and the CMake package executorch_wgpu.
include(CMakePackageConfigHelpers)
set(_package_dir "lib/cmake/executorch_wgpu")
configure_file(cmake/executorch_wgpu-config.cmake.in executorch_wgpu-config.cmake @ONLY)
write_basic_package_version_file(executorch_wgpu-config-version.cmake COMPATIBILITY SameMinorVersion)
install(TARGETS executorch_backend_wgpu LIBRARY DESTINATION lib)
install(FILES include/executorch_wgpu.h DESTINATION include)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/executorch_wgpu-config.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/executorch_wgpu-config-version.cmake" DESTINATION ${_package_dir})
if(ETWGPU_BUILD_TOOL)
  install(PROGRAMS "${ETWGPU_TOOL}" DESTINATION bin)
endif()
