#include "trace.h"

#include <numeric>
#include <string>
#include <vector>

#include <executorch/runtime/core/event_tracer_hooks_delegate.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>

namespace etwgpu {
namespace {

using executorch::aten::DimOrderType;
using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::aten::StridesType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::runtime::EventTracer;
using executorch::runtime::EventTracerDebugLogLevel;
using executorch::runtime::EventTracerProfilingLevel;
using executorch::runtime::kUnsetDelegateDebugIntId;

et_timestamp_t ticks_of(std::uint64_t nanoseconds) {
  const et_tick_ratio_t ratio = executorch::runtime::pal_ticks_to_ns_multiplier();
  return nanoseconds * ratio.denominator / ratio.numerator;
}

std::vector<StridesType> contiguous(const std::vector<SizesType>& sizes) {
  std::vector<StridesType> strides(sizes.size(), 1);
  for (std::size_t dim = sizes.size(); dim > 1; --dim) {
    strides[dim - 2] = strides[dim - 1] * sizes[dim - 1];
  }
  return strides;
}

}  // namespace

Tracer::Tracer(EventTracer* tracer) : tracer_(tracer) {
  if (tracer_ != nullptr) {
    began_ = executorch::runtime::pal_current_ticks();
  }
}

Watch Tracer::watch() const {
  Watch watch{};
  if (tracer_ != nullptr) {
    watch.spans = tracer_->event_tracer_profiling_level() == EventTracerProfilingLevel::kProfileAllEvents;
    watch.values = tracer_->event_tracer_debug_level() >= EventTracerDebugLogLevel::kIntermediateOutputs;
  }
  return watch;
}

void Tracer::span(rust::Str name, std::uint64_t start, std::uint64_t end, rust::Str metadata) const {
  executorch::runtime::event_tracer_log_profiling_delegate(
      tracer_, std::string(name).c_str(), kUnsetDelegateDebugIntId, began_ + ticks_of(start), began_ + ticks_of(end),
      metadata.empty() ? nullptr : metadata.data(), metadata.size());
}

void Tracer::value(std::uint32_t node, std::int8_t scalar_type, rust::Slice<const std::int32_t> sizes,
                   rust::Slice<const std::uint8_t> data) const {
  std::vector<SizesType> dims(sizes.begin(), sizes.end());
  std::vector<StridesType> strides = contiguous(dims);
  std::vector<DimOrderType> order(dims.size());
  std::iota(order.begin(), order.end(), DimOrderType{0});
  // The tracer only reads the elements; ExecuTorch's tensors have no read-only form.
  TensorImpl impl(static_cast<ScalarType>(scalar_type), static_cast<ssize_t>(dims.size()), dims.data(),
                  const_cast<std::uint8_t*>(data.data()), order.data(), strides.data());
  executorch::runtime::event_tracer_log_output_delegate(
      tracer_, nullptr, static_cast<executorch::runtime::DebugHandle>(node), Tensor(&impl));
}

}  // namespace etwgpu
