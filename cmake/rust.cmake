# Builds the Rust side with cargo, which decides itself what is out of date. Sets ETWGPU_RUST_LIBRARY,
# ETWGPU_BRIDGE_INCLUDE (headers written by cxx) and ETWGPU_TOOL.
find_program(CARGO cargo HINTS "$ENV{CARGO_HOME}/bin" "$ENV{HOME}/.cargo/bin")
if(NOT CARGO)
  message(FATAL_ERROR "cargo not found: install Rust from https://rustup.rs, then run this again.")
endif()

if(DEFINED ENV{CARGO_TARGET_DIR})
  get_filename_component(_target_dir "$ENV{CARGO_TARGET_DIR}" ABSOLUTE BASE_DIR "${PROJECT_SOURCE_DIR}")
else()
  set(_target_dir "${PROJECT_SOURCE_DIR}/target")
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  set(_profile dev)
  set(_profile_dir "${_target_dir}/debug")
else()
  set(_profile release)
  set(_profile_dir "${_target_dir}/release")
endif()

# Cargo features that belong to CMake options.
set(_features "")
if(EXECUTORCH_BUILD_WEBGPU_SDPA_FD)
  list(APPEND _features sdpa-fd)
endif()
list(JOIN _features "," _features)

set(ETWGPU_RUST_LIBRARY "${_profile_dir}/libexecutorch_wgpu.a")
set(ETWGPU_BRIDGE_INCLUDE "${_target_dir}/cxxbridge")
set(_cargo ${CMAKE_COMMAND} -E env "CARGO_TARGET_DIR=${_target_dir}" ${CARGO})
set(_products "${ETWGPU_RUST_LIBRARY}")
set(_tool_command)
if(ETWGPU_BUILD_TOOL)
  set(ETWGPU_TOOL "${_profile_dir}/etwgpu-tool")
  list(APPEND _products "${ETWGPU_TOOL}")
  set(_tool_command COMMAND ${_cargo} build --locked --profile ${_profile} -p etwgpu-cli --bin etwgpu-tool
                    --no-default-features --features "${_features}")
endif()
# The crate type is named so that link-time optimisation applies: the library target is an rlib as well.
add_custom_target(
  etwgpu_rust ALL
  COMMAND ${_cargo} rustc --locked --profile ${_profile} -p executorch-wgpu --lib --crate-type staticlib
          --no-default-features --features "${_features}"
  ${_tool_command}
  BYPRODUCTS ${_products}
  WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
  USES_TERMINAL VERBATIM
  COMMENT "Building the Rust side with cargo")
