// ExecuTorch's backend interface in front of the Rust delegate: converts types both ways and nothing else.
// Compiles with and without C++ exceptions; neither side throws across the bridge.

#include "backend.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include <executorch/runtime/core/exec_aten/util/tensor_util.h>
#include <executorch/runtime/platform/log.h>

#include "executorch-wgpu/src/lib.rs.h"
#include "executorch_wgpu_call.h"
#include "options.h"
#include "trace.h"

// These definitions change the layout of ExecuTorch's classes; they come with the target executorch::runtime.
#if !defined(ET_EVENT_TRACER_ENABLED) || !defined(C10_USING_CUSTOM_GENERATED_MACROS)
#error "compile definitions of executorch::runtime are missing: build through CMakeLists.txt"
#endif

namespace etwgpu {
namespace {

using executorch::aten::ArrayRef;
using executorch::aten::SizesType;
using executorch::aten::Tensor;
using executorch::runtime::BackendExecutionContext;
using executorch::runtime::BackendInitContext;
using executorch::runtime::BackendInterface;
using executorch::runtime::BackendOption;
using executorch::runtime::BackendOptionContext;
using executorch::runtime::CompileSpec;
using executorch::runtime::DelegateHandle;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::FreeableBuffer;
using executorch::runtime::NamedDataMap;
using executorch::runtime::Result;
using executorch::runtime::Span;

using Bytes = rust::Slice<const std::uint8_t>;

static_assert(sizeof(SizesType) == sizeof(std::int32_t), "sizes are handed over as int32");

// A loaded delegate. ExecuTorch may run it from any thread; the mutex keeps it to one at a time.
struct Handle {
  std::mutex mutex;
  rust::Box<Delegate> delegate;
};

std::atomic<std::uint64_t> total_loaded{0};

Bytes bytes(const void* data, std::size_t size) {
  return Bytes(static_cast<const std::uint8_t*>(data), data == nullptr ? 0 : size);
}

// Whether the elements lie without gaps, the dimension that `at(0)` names outermost; the stride of a dimension of one
// element is idle.
template <typename At>
bool is_dense(const Tensor& tensor, At at) {
  std::int64_t expected = 1;
  for (ssize_t i = tensor.dim() - 1; i >= 0; --i) {
    const ssize_t dim = at(i);
    if (dim >= tensor.dim() || (tensor.size(dim) != 1 && tensor.strides()[dim] != expected)) {
      return tensor.numel() == 0;
    }
    expected *= tensor.size(dim);
  }
  return true;
}

// The arguments of one execute.
class EvalueCall final : public Call {
 public:
  EvalueCall(Span<EValue*> args, Tracer tracer) : args_(args), tracer_(tracer) {}

  std::size_t size() const override { return args_.size(); }

  ArgView arg(std::size_t index) const override {
    ArgView view{};
    view.kind = ArgKind::Other;
    const EValue& value = *args_[index];
    if (value.isInt()) {
      view.kind = ArgKind::Int;
      view.int_value = value.toInt();
    } else if (value.isTensor()) {
      const Tensor& tensor = value.toTensor();
      if (!is_dense(tensor, [](ssize_t i) { return i; })) {
        const auto order = tensor.dim_order();
        if (!is_dense(tensor, [&order](ssize_t i) -> ssize_t { return order[i]; })) {
          ET_LOG(Error, "executorch_wgpu: argument %zu has gaps between its elements; make it contiguous", index);
          return view;
        }
        view.order = reinterpret_cast<std::size_t>(order.data());
      }
      view.kind = ArgKind::Tensor;
      view.scalar_type = static_cast<std::int8_t>(tensor.scalar_type());
      view.rank = static_cast<std::size_t>(tensor.dim());
      view.sizes = reinterpret_cast<std::size_t>(tensor.sizes().data());
      view.data = reinterpret_cast<std::size_t>(tensor.mutable_data_ptr());
      view.nbytes = tensor.nbytes();
    }
    return view;
  }

  bool resize(std::size_t index, rust::Slice<const std::int32_t> sizes) override {
    EValue& value = *args_[index];
    const ArrayRef<SizesType> wanted(sizes.data(), sizes.size());
    return value.isTensor() && executorch::runtime::resize_tensor(value.toTensor(), wanted) == Error::Ok;
  }

  void set_int(std::size_t index, std::int64_t number) override { *args_[index] = EValue(number); }

  Watch watch() const override { return tracer_.watch(); }

  void span(rust::Str name, std::uint64_t start, std::uint64_t end, rust::Str metadata) override {
    tracer_.span(name, start, end, metadata);
  }

  void value(std::uint32_t node, std::int8_t scalar_type, rust::Slice<const std::int32_t> sizes,
             rust::Slice<const std::uint8_t> data) override {
    tracer_.value(node, scalar_type, sizes, data);
  }

 private:
  Span<EValue*> args_;
  Tracer tracer_;
};

// The named constants of the program that is being loaded; holds the bytes of one at a time.
class ProgramData final : public NamedData {
 public:
  explicit ProgramData(const NamedDataMap* map) : map_(map) {}

  Bytes acquire(rust::Str key) override {
    release();
    if (map_ == nullptr) {
      return Bytes();
    }
    Result<FreeableBuffer> found = map_->get_data({key.data(), key.size()});
    if (!found.ok()) {
      return Bytes();
    }
    buffer_.emplace(std::move(found.get()));
    const Result<const void*> data = buffer_->data_safe();
    return data.ok() ? bytes(data.get(), buffer_->size()) : Bytes();
  }

  void release() override {
    total_loaded += buffer_ ? buffer_->size() : 0;
    buffer_.reset();
  }

 private:
  const NamedDataMap* map_;
  std::optional<FreeableBuffer> buffer_;
};

class WgpuBackend final : public BackendInterface {
 public:
  bool is_available() const override { return etwgpu::is_available(); }

  Result<DelegateHandle*> init(
      BackendInitContext& context, FreeableBuffer* processed, ArrayRef<CompileSpec> compile_specs) const override {
    std::vector<Spec> specs;
    for (const CompileSpec& spec : compile_specs) {
      if (const auto key = ascii(spec.key, std::strlen(spec.key))) {
        specs.push_back({*key, bytes(spec.value.buffer, spec.value.nbytes)});
      }
    }
    const Span<const BackendOption> given = context.runtime_specs();
    std::vector<std::string> texts;
    texts.reserve(given.size());  // keeps the texts in place while `options` points into them
    std::vector<Spec> options;
    for (const BackendOption& option : given) {
      if (const auto key = key_of(option)) {
        texts.push_back(text_of(option.value));
        options.push_back({*key, bytes(texts.back().data(), texts.back().size())});
      }
    }
    const Result<const void*> data = processed->data_safe();
    const Bytes blob = data.ok() ? bytes(data.get(), processed->size()) : Bytes();
    ProgramData named(context.get_named_data_map());
    Loaded loaded = etwgpu::init(
        blob, {specs.data(), specs.size()}, {options.data(), options.size()}, named);
    if (loaded.status.code != 0) {
      return error_of(loaded.status);
    }
    Handle* handle = new (std::nothrow) Handle{{}, std::move(loaded.delegate)};
    if (handle == nullptr) {
      return Error::MemoryAllocationFailed;
    }
    processed->Free();
    return handle;
  }

  Error execute(BackendExecutionContext& context, DelegateHandle* opaque, Span<EValue*> args) const override {
    if (opaque == nullptr) {
      return Error::DelegateInvalidHandle;
    }
    Handle& handle = *static_cast<Handle*>(opaque);
    const std::lock_guard<std::mutex> lock(handle.mutex);
    EvalueCall call(args, Tracer(context.event_tracer()));
    return error_of(etwgpu::execute(*handle.delegate, call));
  }

  void destroy(DelegateHandle* opaque) const override {
    Handle* handle = static_cast<Handle*>(opaque);
    if (handle != nullptr) {
      etwgpu::destroy(std::move(handle->delegate));
      delete handle;
    }
  }

  Error set_option(BackendOptionContext&, const Span<BackendOption>& options) override {
    for (const BackendOption& option : options) {
      const auto key = key_of(option);
      const std::string text = text_of(option.value);
      const auto value = ascii(text.data(), text.size());
      if (!key || !value) {
        return Error::InvalidArgument;
      }
      const Error error = error_of(etwgpu::set_option(*key, *value));
      if (error != Error::Ok) {
        return error;
      }
    }
    return Error::Ok;
  }

  Error get_option(BackendOptionContext&, Span<BackendOption>& options) override {
    for (BackendOption& option : options) {
      const auto key = key_of(option);
      rust::String text;
      const Error error = key ? error_of(etwgpu::get_option(*key, text)) : Error::InvalidArgument;
      if (error != Error::Ok) {
        return error;
      }
      store_text(option.value, std::string(text));
    }
    return Error::Ok;
  }
};

}  // namespace

BackendInterface& backend() {
  static WgpuBackend* const instance = new WgpuBackend;
  return *instance;
}

std::uint64_t loaded_bytes() { return total_loaded; }

}  // namespace etwgpu
