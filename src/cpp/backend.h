// What backend.cpp offers to register.cpp.
#pragma once

#include <cstdint>

#include <executorch/runtime/backend/interface.h>

namespace etwgpu {

// The one backend object. It is never destroyed: the registry keeps its address until the process ends.
executorch::runtime::BackendInterface& backend();

// Bytes of named data that all loads have given back so far.
std::uint64_t loaded_bytes();

// Logs the message of a failed call and returns its code.
struct Status;
executorch::runtime::Error error_of(const Status& status);

}  // namespace etwgpu
