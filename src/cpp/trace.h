// One call's way to ExecuTorch's event tracer.
#pragma once

#include <cstdint>

#include <executorch/runtime/core/event_tracer.h>
#include <executorch/runtime/platform/platform.h>

#include "executorch-wgpu/src/lib.rs.h"

namespace etwgpu {

// Begins with the call. Without a tracer it wants nothing, and nothing is told to it.
class Tracer {
 public:
  explicit Tracer(executorch::runtime::EventTracer* tracer);

  // What of the call the tracer's levels ask for.
  Watch watch() const;

  // A span of the call, in nanoseconds since it began. ETDump counts in the platform's ticks.
  void span(rust::Str name, std::uint64_t start, std::uint64_t end, rust::Str metadata) const;

  // A contiguous tensor that operator `node` of the program computed.
  void value(std::uint32_t node, std::int8_t scalar_type, rust::Slice<const std::int32_t> sizes,
             rust::Slice<const std::uint8_t> data) const;

 private:
  executorch::runtime::EventTracer* tracer_;
  et_timestamp_t began_ = 0;
};

}  // namespace etwgpu
